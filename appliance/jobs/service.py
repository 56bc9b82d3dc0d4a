"""The one writer of jobs. Others ask it to begin or cancel one, and read.

    queued -> running -> succeeded | failed
      |         |
      |         +-> cancelling -> cancelled | succeeded | failed   (work that was nearly done may end well)
      +-> cancelled
    queued, running, cancelling -> interrupted   (the daemon ended; written at its end or at its next start)

Each state is in the database before its event is sent; progress is in memory, and in the database every few seconds.
Belongs to one event loop; works run in threads and are seen through their ``Control``.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

import structlog

from appliance.errors import describe, is_typed
from appliance.jobs.control import Control
from appliance.jobs.errors import JobCancelled, JobNotCancellable, JobNotFound, TooManyJobs
from appliance.jobs.pace import Pace
from appliance.jobs.rows import ENDED, JobRows
from appliance.schemas.jobs import Job, JobError, JobProgress, JobWish
from appliance.security.identity import SYSTEM, Actor

_log = structlog.get_logger(__name__)

TICK_S = 0.5
SAVE_EVERY_S = 5.0
CLOSE_TIMEOUT_S = 10.0
MOST_WAITING = 32
MOST_DETAILS = 2_000


class JobState(StrEnum):
    """See the diagram above."""

    QUEUED = "queued"
    RUNNING = "running"
    CANCELLING = "cancelling"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    INTERRUPTED = "interrupted"

    @property
    def has_ended(self) -> bool:
        return self.value in ENDED


INTERRUPTED = JobError(
    code="job_interrupted",
    message="The box was stopped or restarted while this went on.",
    hint="Start it again: downloads and bundles go on where they stopped, everything else begins anew.",
)


class Work(Protocol):
    """What one kind of job does. ``lane``: works of one lane wait for each other. ``can_cancel``: a running one ends
    when it is told to."""

    @property
    def lane(self) -> str: ...

    @property
    def can_cancel(self) -> bool: ...

    def check(self, wish: Any) -> None:
        """Refuse what cannot be done, before there is a job. Blocks. Raises AppError, ModelError."""

    async def run(self, wish: Any, control: Control, actor: Actor) -> dict[str, Any]:
        """Do it. Raises JobCancelled once ``control`` says so, and typed errors."""


@dataclass
class _Live:
    """A job that has not ended."""

    job: Job
    wish: JobWish
    actor: Actor
    control: Control = field(default_factory=Control)
    pace: Pace = field(default_factory=Pace)
    task: asyncio.Task[None] | None = None
    saved_s: float = 0.0


@dataclass(eq=False)
class _Reader:
    job_id: str | None
    news: dict[str, Job] = field(default_factory=dict)
    woken: asyncio.Event = field(default_factory=asyncio.Event)


class JobService:
    """``start`` before the first request, ``aclose`` after the last one. ``lanes``: how many jobs of each lane run at
    once. ``folders`` are those that callers' paths may be in, for showing."""

    def __init__(
        self,
        rows: JobRows,
        works: Mapping[str, Work],
        lanes: Mapping[str, int],
        *,
        keep: int = 500,
        folders: Callable[[], tuple[Path, ...]] = tuple,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._rows = rows
        self._works = dict(works)
        self._lanes = dict(lanes)
        self._keep = keep
        self._folders = folders
        self._sleep = sleep
        self._clock = clock
        self._now = now
        self._live: dict[str, _Live] = {}
        self._queue: deque[str] = deque()
        self._readers: set[_Reader] = set()
        self._closing = False
        # Rows are written in the order of the changes.
        self._saving = asyncio.Lock()
        self._ticking: asyncio.Task[None] | None = None

    def use(self, works: Mapping[str, Work]) -> None:
        """Other works of the same kinds, for jobs that begin from now on."""
        self._works = dict(works)

    # -- reading ----------------------------------------------------------------------------------------------------

    async def list(self, limit: int = 100) -> tuple[Job, ...]:
        """The newest first, as they are at this moment."""
        found = await asyncio.to_thread(self._rows.newest, limit)
        return tuple(self._live[one.id].job if one.id in self._live else one for one in found)

    async def get(self, job_id: str) -> Job:
        """Raises JobNotFound."""
        if job_id in self._live:
            return self._live[job_id].job
        found = await asyncio.to_thread(self._rows.get, job_id)
        if found is None:
            raise JobNotFound(job=job_id[:64])
        return found

    async def folders(self) -> tuple[str, ...]:
        """Where jobs may read and write for callers."""
        return tuple(str(one) for one in await asyncio.to_thread(self._folders))

    async def changes(self, job_id: str | None = None) -> AsyncGenerator[Job, None]:
        """A job as it is and at each change, until it has ended; without ``job_id`` all, until none goes on.

        Who reads slowly gets the newest state of each, not every one. Raises JobNotFound.
        """
        reader = _Reader(job_id)
        self._readers.add(reader)
        try:
            if job_id is not None:
                reader.news[job_id] = await self.get(job_id)
            else:
                reader.news |= {key: one.job for key, one in self._live.items()}
            while not self._closing or reader.news:
                for key in list(reader.news):
                    job = reader.news.pop(key)
                    yield job
                    if job_id is not None and JobState(job.state).has_ended:
                        return
                if job_id is None and not self._live and not reader.news:
                    return
                if not reader.news and not self._closing:
                    reader.woken.clear()
                    await reader.woken.wait()
        finally:
            self._readers.discard(reader)

    # -- the writer -------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Say of what an earlier run of the daemon left that it was interrupted, and begin to look at progress."""
        for job in await asyncio.to_thread(self._rows.interrupt, self._now(), INTERRUPTED):
            _log.warning("job_interrupted", job=job.id, kind=job.kind)
        await asyncio.to_thread(self._rows.trim, self._keep)
        self._ticking = asyncio.create_task(self._tick_forever(), name="jobs")

    async def submit(self, wish: JobWish, actor: Actor) -> Job:
        """A new job. Raises TooManyJobs and what the kind of work refuses."""
        work = self._works[wish.kind]
        await asyncio.to_thread(work.check, wish)
        if self._closing or len(self._queue) >= MOST_WAITING:
            raise TooManyJobs(waiting=len(self._queue))
        job = Job(
            id=f"job_{secrets.token_hex(8)}",
            kind=wish.kind,
            state="queued",
            request=wish.model_dump(mode="json", exclude={"kind"}, exclude_none=True),
            created_by=actor.name,
            created_at=self._now(),
        )
        self._live[job.id] = live = _Live(job, wish, actor)
        self._queue.append(job.id)
        try:
            async with self._saving:
                await asyncio.to_thread(self._rows.save, job, actor, "job.create", _request_details(job))
        except BaseException:
            self._queue.remove(job.id)
            del self._live[job.id]
            raise
        _log.info("job_created", job=job.id, kind=job.kind)
        self._tell(live.job)
        self._begin_next()
        return live.job

    async def cancel(self, job_id: str, actor: Actor) -> Job:
        """Have a job end; it has when its state says so. Raises JobNotFound, JobNotCancellable."""
        job = await self.get(job_id)
        live = self._live.get(job_id)
        if live is None or JobState(live.job.state).has_ended:
            raise JobNotCancellable(job=job_id, reason=f"it has ended: {job.state}")
        if live.job.state == "queued":
            self._queue.remove(job_id)
            await self._end(live, JobState.CANCELLED, actor=actor, action="job.cancel")
        elif not live.job.cancellable:
            raise JobNotCancellable(job=job_id, reason="work of this kind ends by itself")
        elif live.job.state == "running":
            live.control.cancel()
            await self._change(live, actor, "job.cancel", state="cancelling")
        return live.job

    async def aclose(self) -> None:
        """Interrupt what goes on and wait a while for its threads: they end at their next report."""
        self._closing = True
        if self._ticking is not None:
            self._ticking.cancel()
        self._queue.clear()
        for live in self._live.values():
            live.control.cancel()
        tasks = [live.task for live in self._live.values() if live.task is not None]
        if tasks:
            await asyncio.wait(tasks, timeout=CLOSE_TIMEOUT_S)
        await asyncio.to_thread(self._rows.interrupt, self._now(), INTERRUPTED)
        for reader in self._readers:
            reader.woken.set()

    def _begin_next(self) -> None:
        """Start what may run now, in the order in which it was asked for within each lane."""
        for job_id in list(self._queue):
            live = self._live[job_id]
            lane = self._works[live.job.kind].lane
            busy = sum(one.task is not None and self._works[one.job.kind].lane == lane for one in self._live.values())
            if busy < self._lanes[lane] and not self._closing:
                self._queue.remove(job_id)
                live.task = asyncio.create_task(self._run(live), name=job_id)

    async def _run(self, live: _Live) -> None:
        work = self._works[live.job.kind]
        try:
            await self._change(live, state="running", started_at=self._now(), cancellable=work.can_cancel)
            result = await work.run(live.wish, live.control, live.actor)
        except JobCancelled:
            if not self._closing:
                await self._end(live, JobState.CANCELLED)
        except Exception as error:  # noqa: BLE001 - the loop top of a job
            if not is_typed(error):
                _log.exception("job_crashed", job=live.job.id, kind=live.job.kind)
            told = describe(error)
            problem = JobError(code=told.code, message=told.message, hint=told.hint)
            await self._end(live, JobState.FAILED, error=problem)
        else:
            await self._end(live, JobState.SUCCEEDED, result=result)

    async def _end(
        self, live: _Live, state: JobState, *, actor: Actor = SYSTEM, action: str = "job.end", **more: Any
    ) -> None:
        self._read(live)
        if state is JobState.SUCCEEDED and live.job.progress.total_bytes is not None:
            total = live.job.progress.total_bytes
            more["progress"] = JobProgress(done_bytes=total, total_bytes=total, fraction=1.0)
        else:
            more["progress"] = live.job.progress.model_copy(update={"bytes_per_s": None, "eta_s": None})
        try:
            await self._change(live, actor, action, state=state.value, ended_at=self._now(), cancellable=False, **more)
        finally:
            del self._live[live.job.id]
            self._begin_next()
            for reader in self._readers:
                reader.woken.set()
        error = None if live.job.error is None else live.job.error.code
        _log.info("job_ended", job=live.job.id, kind=live.job.kind, state=live.job.state, error=error)

    async def _change(self, live: _Live, actor: Actor | None = None, action: str | None = None, **update: Any) -> None:
        job = live.job.model_copy(update=update)
        # At once, so that whoever asks meanwhile decides by the new state.
        live.job, live.saved_s = job, self._clock()
        details = {"state": job.state} | ({} if job.error is None else {"error": job.error.code})
        async with self._saving:
            await asyncio.to_thread(self._rows.save, job, actor, action, details)
            if JobState(job.state).has_ended:
                await asyncio.to_thread(self._rows.trim, self._keep)
        self._tell(job)

    # -- progress ---------------------------------------------------------------------------------------------------

    async def _tick_forever(self) -> None:
        while True:
            await self._sleep(TICK_S)
            await self.tick()

    async def tick(self) -> None:
        """Look at what goes on once."""
        for live in list(self._live.values()):
            if live.task is None or JobState(live.job.state).has_ended:
                continue
            if self._read(live):
                self._tell(live.job)
            if self._clock() - live.saved_s >= SAVE_EVERY_S:
                async with self._saving:
                    if not JobState(live.job.state).has_ended:
                        live.saved_s = self._clock()
                        await asyncio.to_thread(self._rows.save, live.job)

    def _read(self, live: _Live) -> bool:
        """Take the work's newest reading over; whether anything is new."""
        reading = live.control.reading
        live.pace.note(self._clock(), reading.phase, reading.done_bytes)
        rate, eta = live.pace.bytes_per_s, live.pace.eta_s(reading.total_bytes)
        progress = JobProgress(
            phase=reading.phase,
            done_bytes=reading.done_bytes,
            total_bytes=reading.total_bytes,
            fraction=None if reading.fraction is None else round(reading.fraction, 4),
            bytes_per_s=None if rate is None else round(rate, 1),
            eta_s=None if eta is None else round(eta, 1),
        )
        changed = progress != live.job.progress
        if changed:
            live.job = live.job.model_copy(update={"progress": progress})
        return changed

    def _tell(self, job: Job) -> None:
        for reader in self._readers:
            if reader.job_id in (None, job.id):
                reader.news[job.id] = job
                reader.woken.set()


def _request_details(job: Job) -> dict[str, Any]:
    """What was asked for, for the audit log, whose rows have a bound: long paths, many of them, are cut short."""
    shown = json.dumps(job.request)
    return {"request": job.request} if len(shown) <= MOST_DETAILS else {"request": shown[:MOST_DETAILS]}
