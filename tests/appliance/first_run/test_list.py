"""The list of a new box: what it knows by itself, what is marked, what survives a restart."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest

from appliance.errors import InvalidRequest
from appliance.first_run.list import FILE, FirstRunList, SelfTestRunning
from appliance.network.errors import HelperMissing
from appliance.schemas.first_run import FirstRun, Step, StepChange
from appliance.schemas.issues import Issue, IssueList
from appliance.schemas.jobs import Job, JobError, JobProgress
from appliance.schemas.models import ModelEntries, ModelEntry
from appliance.schemas.offload import Offload, OffloadReason

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)


def entry(state: str = "installed", **fields: object) -> ModelEntry:
    values = {"id": "tiny", "name": "Tiny R1", "quantization": "Q8_0", "size_bytes": 1, "default": True, **fields}
    return ModelEntry.model_validate({**values, "state": state})


def job(state: str, kind: str = "pull", error: str | None = None) -> Job:
    return Job.model_validate(
        {
            "id": f"job_{state}",
            "kind": kind,
            "state": state,
            "request": {},
            "created_by": "local",
            "created_at": NOON,
            "cancellable": True,
            "progress": JobProgress(),
            "error": None if error is None else JobError(code="failed", message=error),
        }
    )


@dataclass
class World:
    """Everything that the list asks, and what it asked for."""

    folder: Path
    admin: bool = False
    models: tuple[ModelEntry, ...] = ()
    jobs: tuple[Job, ...] = ()
    told: tuple[Offload, ...] = ()
    issues: tuple[Issue, ...] = ()
    helper: bool = True
    asked: list[str] = field(default_factory=list)
    checking: asyncio.Event = field(default_factory=asyncio.Event)

    def list_(self) -> FirstRunList:
        return FirstRunList(
            self.folder, has_admin=lambda: self.admin, machine=self, models=self, jobs=_Jobs(self), proof=self,
            issues=self, now=lambda: NOON,
        )  # fmt: skip

    async def set_zone(self, zone: str) -> None:
        self._set(f"zone {zone}")

    async def set_keymap(self, keymap: str) -> None:
        self._set(f"keymap {keymap}")

    def _set(self, what: str) -> None:
        if not self.helper:
            raise HelperMissing(path="/run/r1box-system.sock", reason="no such file")
        self.asked.append(what)

    async def entries(self) -> ModelEntries:
        return ModelEntries(models=self.models)

    def verdicts(self) -> tuple[Offload, ...]:
        return self.told

    async def check_all(self) -> None:
        await self.checking.wait()

    async def look(self, *, settled: bool = False) -> IssueList:
        return IssueList(issues=self.issues)


@dataclass
class _Jobs:
    world: World

    async def list(self, limit: int = 100) -> tuple[Job, ...]:
        return self.world.jobs


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def step(told: FirstRun, name: str) -> Step:
    return next(one for one in told.steps if one.name == name)


DONE = StepChange(state="done")


async def test_a_new_box_needs_everything_in_order(world: World) -> None:
    told = await world.list_().show()
    assert [one.name for one in told.steps] == [
        "language", "keyboard", "network", "time", "admin", "tls", "model", "self_test",
    ]  # fmt: skip
    assert {one.state for one in told.steps} == {"open"}
    assert (told.finished, told.next) == (False, "language")


async def test_marks_and_values_survive_a_restart(world: World) -> None:
    first = world.list_()
    await first.change("language", StepChange(state="done", value="zh"), "local")
    await first.change("keyboard", StepChange(state="done", value="de-latin1"), "local")
    await first.change("network", DONE, "local")
    await first.change("time", StepChange(state="done", value="Asia/Shanghai"), "local")
    await first.change("tls", StepChange(state="skipped"), "anna")
    told = await world.list_().show()
    assert world.asked == ["keymap de-latin1", "zone Asia/Shanghai"]
    assert (told.language, told.next) == ("zh", "admin")
    assert (step(told, "keyboard").told, step(told, "keyboard").at) == ("de-latin1", NOON)
    assert (step(told, "tls").state, step(told, "tls").by) == ("skipped", "anna")
    told = await world.list_().change("tls", StepChange(state="open"), "anna")
    assert step(told, "tls").state == "open"
    assert (await world.list_().finish()).finished
    assert (await world.list_().show()).finished


async def test_what_cannot_be_done_is_not_marked(world: World) -> None:
    listed = world.list_()
    world.helper = False
    with pytest.raises(HelperMissing):
        await listed.change("keyboard", StepChange(state="done", value="de"), "local")
    for name, change in (
        ("language", DONE),
        ("language", StepChange(state="done", value="fr")),
        ("admin", DONE),
        ("network", StepChange(state="done", value="10.0.0.1")),
        ("dance", DONE),
    ):
        with pytest.raises(InvalidRequest):
            await listed.change(name, change, "local")
    assert {one.state for one in (await listed.show()).steps} == {"open"}
    assert not (world.folder / FILE).exists()


async def test_an_administrator_counts_wherever_it_was_made(world: World) -> None:
    listed = world.list_()
    await listed.change("network", DONE, "local")
    world.admin = True
    told = await listed.show()
    assert (step(told, "admin").state, told.finished) == ("done", False)


async def test_a_box_that_is_older_than_the_list_is_finished(world: World) -> None:
    world.admin = True
    assert (await world.list_().show()).finished


async def test_an_answer_file_did_some_steps(world: World) -> None:
    mark = {"state": "done", "by": "installation", "at": NOON.isoformat()}
    notes = {"language": "zh", "marks": {"language": mark, "network": mark}}
    (world.folder / FILE).write_text(json.dumps(notes))
    told = await world.list_().show()
    assert (told.language, told.next) == ("zh", "keyboard")
    assert step(told, "network").by == "installation"


async def test_a_damaged_file_begins_anew(world: World) -> None:
    (world.folder / FILE).write_text('{"marks": {"dance": 1}}')
    assert (await world.list_().show()).next == "language"


async def test_the_models_step_is_what_the_box_does(world: World) -> None:
    listed = world.list_()

    async def model() -> Step:
        return step(await listed.show(), "model")

    world.jobs = (job("running"),)
    assert ((await model()).state, (await model()).job) == ("running", "job_running")
    world.jobs = (job("failed", error="The hub does not answer."),)
    assert ((await model()).state, (await model()).told) == ("failed", "The hub does not answer.")
    world.jobs, world.models = (job("succeeded"),), (entry(),)
    assert ((await model()).state, (await model()).model) == ("open", "tiny")
    world.models = (entry("starting"),)
    assert (await model()).state == "running"
    world.models = (entry("failed", error="No memory."),)
    assert ((await model()).state, (await model()).told) == ("failed", "No memory.")
    world.models = (entry("ready"),)
    assert ((await model()).state, (await model()).told) == ("done", "Tiny R1 Q8_0")
    world.models = ()
    await listed.change("model", StepChange(state="skipped"), "local")
    assert (await model()).state == "skipped"


async def test_the_self_test_says_what_it_saw(world: World) -> None:
    listed = world.list_()
    world.models = (entry("ready"),)
    world.told = (Offload(model="tiny", state="VERIFIED", checked_at=NOON, decode_tokens_per_s=24.25),)
    told = await listed.self_test("local")
    assert step(told, "self_test").state == "running"
    with pytest.raises(SelfTestRunning):
        await listed.self_test("local")
    world.checking.set()
    assert listed._test is not None
    await listed._test
    result = step(await listed.show(), "self_test")
    assert (result.state, result.by) == ("done", "local")
    assert [(line.what, line.ok, line.told) for line in result.lines] == [
        ("model", True, "Tiny R1 Q8_0"),
        ("offload", True, "VERIFIED, 24.2 tok/s"),
        ("issues", True, "0"),
    ]
    # A model that fell back to the processor, and an error that is open.
    reason = OffloadReason(code="slow", message="It is as slow as the processor.")
    world.told = (Offload(model="tiny", state="DEGRADED", checked_at=NOON, reasons=(reason,)),)
    world.issues = (Issue(id="a", code="a", severity="error", message="A card is lost.", since=NOON),)
    await listed.self_test("local")
    await listed._test
    result = step(await world.list_().show(), "self_test")
    assert (result.state, result.told) == ("failed", "DEGRADED: It is as slow as the processor.")
    assert [line.ok for line in result.lines] == [True, False, False]
    world.models, world.told = (), ()
    await listed.self_test("local")
    await listed._test
    assert step(await listed.show(), "self_test").told == "No model is loaded."
    world.checking.clear()
    await listed.self_test("local")
    await listed.aclose()
