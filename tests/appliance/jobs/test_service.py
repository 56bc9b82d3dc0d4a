"""Jobs: their states, lanes, progress, cancel, and what a restart shows."""

from __future__ import annotations

import asyncio
import itertools
import threading
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, get_args

import pytest
from sqlalchemy import Engine

from appliance.errors import QueueFull
from appliance.jobs.control import Control
from appliance.jobs.errors import JobNotCancellable, JobNotFound, TooManyJobs
from appliance.jobs.rows import JobRows
from appliance.jobs.service import MOST_WAITING, JobService, JobState
from appliance.schemas.jobs import Job, JobStateWord, VerifyWish
from appliance.security.audit import AuditLog
from appliance.security.identity import Actor
from appliance.store.database import open_database

OPERATOR = Actor(kind="user", name="mei", id=7)


@dataclass
class Copying:
    """A work in a thread that a test lets go on step by step."""

    lane: str = "store"
    can_cancel: bool = True
    steps: int = 4
    error: Exception | None = None
    begun: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    go_on: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))

    def check(self, wish: Any) -> None:
        if wish.model == "refused":
            raise JobNotFound(job="x")

    async def run(self, wish: Any, control: Control, actor: Actor) -> dict[str, Any]:
        return await asyncio.to_thread(self._copy, control)

    def _copy(self, control: Control) -> dict[str, Any]:
        control.phase("copy")
        self.begun.release()
        for step in range(self.steps):
            assert self.go_on.acquire(timeout=20)
            if self.error is not None:
                raise self.error
            control.bytes_done(step + 1, self.steps)
            self.begun.release()
        return {"copied": self.steps}


@pytest.fixture
def database(tmp_path: Path) -> Any:
    engine = open_database(tmp_path / "r1box.db")
    yield engine
    engine.dispose()


def service(database: Engine, work: Copying, *, at_once: int = 1, keep: int = 500) -> JobService:
    moments = (datetime(2026, 11, 22, tzinfo=UTC) + timedelta(seconds=n) for n in itertools.count())
    rows = JobRows(database, AuditLog(database))
    quick = Copying(lane="quick", can_cancel=False, begun=work.begun, go_on=work.go_on)
    lanes = {"store": at_once, "quick": 1}
    return JobService(rows, {"verify": work, "load": quick}, lanes, keep=keep, now=lambda: next(moments))


async def started(work: Copying) -> None:
    assert await asyncio.to_thread(work.begun.acquire, timeout=20)


async def end_of(jobs: JobService, job_id: str) -> Job:
    last = None
    async with aclosing(jobs.changes(job_id)) as changes:
        async for job in changes:
            last = job
    assert last is not None
    return last


def test_the_words_are_the_states() -> None:
    assert set(get_args(JobStateWord)) == {state.value for state in JobState}


async def test_a_job_runs_and_says_how_far_it_is(database: Engine) -> None:
    work = Copying()
    jobs = service(database, work)
    job = await jobs.submit(VerifyWish(model="m"), OPERATOR)
    assert (job.state, job.request, job.created_by) == ("queued", {"model": "m"}, "mei")
    await started(work)
    work.go_on.release()
    await started(work)
    await jobs.tick()
    now = await jobs.get(job.id)
    assert (now.state, now.progress.phase) == ("running", "copy")
    assert (now.progress.done_bytes, now.progress.total_bytes, now.progress.fraction) == (1, 4, 0.25)
    work.go_on.release(3)
    ended = await end_of(jobs, job.id)
    assert (ended.state, ended.result, ended.error, ended.progress.fraction) == ("succeeded", {"copied": 4}, None, 1.0)
    assert await jobs.list() == (ended,)
    told = [(row.action, row.actor_name, row.target) for row in AuditLog(database).list()]
    assert told == [("job.end", "r1box", job.id), ("job.create", "mei", job.id)]


async def test_cancel_ends_the_work_at_its_next_report(database: Engine) -> None:
    work = Copying()
    jobs = service(database, work)
    job = await jobs.submit(VerifyWish(), OPERATOR)
    await started(work)
    assert (await jobs.cancel(job.id, OPERATOR)).state == "cancelling"
    assert (await jobs.cancel(job.id, OPERATOR)).state == "cancelling"
    work.go_on.release()
    assert (await end_of(jobs, job.id)).state == "cancelled"
    with pytest.raises(JobNotCancellable, match="it has ended: cancelled"):
        await jobs.cancel(job.id, OPERATOR)
    with pytest.raises(JobNotFound):
        await jobs.cancel("job_none", OPERATOR)
    assert [row.action for row in AuditLog(database).list()] == ["job.end", "job.cancel", "job.create"]


async def test_so_many_at_once_and_the_queue_can_be_cancelled(database: Engine) -> None:
    work = Copying(steps=0)
    held = Copying(steps=1)
    jobs = service(database, held)
    first = await jobs.submit(VerifyWish(), OPERATOR)
    await started(held)
    second, third = [await jobs.submit(VerifyWish(), OPERATOR) for _ in range(2)]
    assert (await jobs.get(second.id)).state == "queued"
    assert (await jobs.cancel(second.id, OPERATOR)).state == "cancelled"
    held.go_on.release(2)
    assert (await end_of(jobs, first.id)).state == "succeeded"
    assert (await end_of(jobs, third.id)).state == "succeeded"
    assert work.begun.acquire(blocking=False) is False


async def test_a_full_queue_refuses(database: Engine) -> None:
    work = Copying(steps=1)
    jobs = service(database, work)
    made = [await jobs.submit(VerifyWish(), OPERATOR) for _ in range(MOST_WAITING + 1)]
    with pytest.raises(TooManyJobs):
        await jobs.submit(VerifyWish(), OPERATOR)
    work.go_on.release(len(made))
    assert {(await end_of(jobs, job.id)).state for job in made} == {"succeeded"}


@pytest.mark.parametrize(
    ("error", "code"), [(QueueFull(seats=1, waiting=2), "queue_full"), (ValueError("secret"), "internal_error")]
)
async def test_failures_are_told_and_give_nothing_away(database: Engine, error: Exception, code: str) -> None:
    work = Copying(error=error)
    jobs = service(database, work)
    job = await jobs.submit(VerifyWish(), OPERATOR)
    work.go_on.release()
    ended = await end_of(jobs, job.id)
    assert ended.error is not None
    assert (ended.state, ended.error.code) == ("failed", code)
    assert "secret" not in ended.model_dump_json()


async def test_what_is_refused_makes_no_job(database: Engine) -> None:
    jobs = service(database, Copying())
    with pytest.raises(JobNotFound):
        await jobs.submit(VerifyWish(model="refused"), OPERATOR)
    assert await jobs.list() == ()


async def test_the_end_of_the_daemon_interrupts(database: Engine) -> None:
    work = Copying()
    jobs = service(database, work)
    running = await jobs.submit(VerifyWish(), OPERATOR)
    await started(work)
    waiting = await jobs.submit(VerifyWish(), OPERATOR)
    closing = asyncio.create_task(jobs.aclose())
    await asyncio.sleep(0)  # it has begun to close
    work.go_on.release(4)
    await closing
    again = service(database, work)
    for job_id in (running.id, waiting.id):
        found = await again.get(job_id)
        assert found.error is not None
        assert (found.state, found.error.code) == ("interrupted", "job_interrupted")


async def test_a_crash_shows_at_the_next_start_with_its_progress(database: Engine) -> None:
    rows = JobRows(database, AuditLog(database))
    at = datetime(2026, 11, 22, tzinfo=UTC)
    lost = Job(id="job_1", kind="pull", state="running", request={"target": "x"}, created_by="mei", created_at=at)
    rows.save(lost.model_copy(update={"progress": lost.progress.model_copy(update={"done_bytes": 5})}))
    jobs = service(database, Copying())
    await jobs.start()
    found = await jobs.get("job_1")
    assert (found.state, found.progress.done_bytes) == ("interrupted", 5)
    await jobs.aclose()


async def test_only_so_many_are_remembered(database: Engine) -> None:
    jobs = service(database, Copying(steps=0), keep=3)
    made = []
    for _ in range(6):
        job = await jobs.submit(VerifyWish(), OPERATOR)
        await end_of(jobs, job.id)
        made.append(job.id)
    assert [job.id for job in await jobs.list()] == list(reversed(made[-3:]))


async def test_everybody_follows_all_jobs_until_none_goes_on(database: Engine) -> None:
    work = Copying(steps=1)
    jobs = service(database, work)
    assert [job async for job in jobs.changes()] == []
    made = [(await jobs.submit(VerifyWish(), OPERATOR)).id for _ in range(2)]
    work.go_on.release(2)
    last = {job.id: job.state async for job in jobs.changes()}
    assert last == dict.fromkeys(made, "succeeded")
