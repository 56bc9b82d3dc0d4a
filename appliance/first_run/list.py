"""The list of steps of a new box: what is done, what is left, what works on it now.

Where the box can tell by itself it does: an administrator that the page made, a model that an installation brought, a
pull that goes on are not asked for again. What only a person can say (the fingerprint was compared, the network is
meant so) is a mark in ``first-run.json`` of the state folder. An installation with an answer file writes that file
before the first start; the console and the page work it off. Nothing is kept in the console: it can be left and
resumed.

A box that has an administrator and no such file is older than the list: it is finished.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol, get_args

import structlog
from pydantic import BaseModel, ConfigDict, ValidationError

from appliance.errors import AppError, InvalidRequest, describe
from appliance.schemas.first_run import FirstRun, Step, StepChange, StepName, StepState, TestLine
from appliance.schemas.issues import IssueList
from appliance.schemas.jobs import Job
from appliance.schemas.models import ModelEntries, ModelEntry
from appliance.schemas.offload import Offload

_log = structlog.get_logger(__name__)

FILE = "first-run.json"
STEPS: tuple[StepName, ...] = get_args(StepName)
KEYMAPS = ("us", "uk", "de", "de-latin1", "fr", "fr-bepo", "es", "it", "pt-latin1", "br-abnt2", "ch", "be-latin1",
           "nl", "dk", "no", "se-lat6", "fi", "pl2", "cz", "hu", "ru", "ua", "tr", "jp106")  # fmt: skip
"""Keyboards that are offered; a name of ``localectl list-keymaps`` may be given as well. Chinese ones are ``us``."""
GOING = frozenset({"queued", "running"})
_GETTING = frozenset({"pull", "import", "bundle_import", "load"})
_SETTLED = frozenset({"done", "skipped"})


class SelfTestRunning(AppError):
    """One at a time."""

    code = "self_test_running"
    http_status = 409
    template = "The self-test goes on already."


class Mark(BaseModel):
    """What was written down of a step."""

    model_config = ConfigDict(extra="forbid")

    state: StepState
    by: str
    at: datetime | None = None
    told: str | None = None
    lines: tuple[TestLine, ...] = ()


class Notes(BaseModel):
    """The file."""

    model_config = ConfigDict(extra="forbid")

    version: int = 1
    finished: bool = False
    language: str | None = None
    marks: dict[StepName, Mark] = {}


class Machine(Protocol):
    """What ``NetworkService`` gives. Raises AppError."""

    async def set_zone(self, zone: str) -> Any: ...

    async def set_keymap(self, keymap: str) -> Any: ...


class Models(Protocol):
    """What ``ModelHost`` gives."""

    async def entries(self) -> ModelEntries: ...


class Jobs(Protocol):
    """What ``JobService`` gives."""

    async def list(self, limit: int = 100) -> tuple[Job, ...]: ...


class Proof(Protocol):
    """What ``OffloadService`` gives."""

    def verdicts(self) -> tuple[Offload, ...]: ...

    async def check_all(self) -> None: ...


class Issues(Protocol):
    """What ``IssueBoard`` gives."""

    async def look(self, *, settled: bool = False) -> IssueList: ...


class FirstRunList:
    """``has_admin`` blocks. One writer of the file; ``aclose`` ends a self-test."""

    def __init__(
        self,
        folder: Path,
        *,
        has_admin: Callable[[], bool],
        machine: Machine,
        models: Models,
        jobs: Jobs,
        proof: Proof,
        issues: Issues,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._file = folder / FILE
        self._has_admin = has_admin
        self._machine, self._models, self._jobs = machine, models, jobs
        self._proof, self._issues, self._now = proof, issues, now
        self._writing = asyncio.Lock()
        self._test: asyncio.Task[None] | None = None

    async def show(self) -> FirstRun:
        """The list as it is now."""
        notes, admin = await asyncio.to_thread(lambda: (self._read(), self._has_admin()))
        entries, jobs = (await self._models.entries()).models, await self._jobs.list(50)
        if notes is None:
            notes = Notes(finished=admin)
        steps = tuple(self._step(name, notes, admin=admin, entries=entries, jobs=jobs) for name in STEPS)
        following = next((one.name for one in steps if one.state not in _SETTLED), None)
        language: Any = notes.language if notes.language in ("en", "zh") else None
        return FirstRun(finished=notes.finished, steps=steps, next=following, language=language, keymaps=KEYMAPS)

    async def change(self, name: str, change: StepChange, by: str) -> FirstRun:
        """Do a step with a value, or mark it. Raises InvalidRequest and what the machine's helper refuses."""
        step = _known(name)
        if change.value is not None:
            await self._set(step, change.value)
        elif step == "language" and change.state == "done":
            raise InvalidRequest("The language needs a value: en or zh.", param="value")
        if step == "admin" and change.state == "done":
            raise InvalidRequest("This step is done when the box has an administrator.", param="state")

        def mark(notes: Notes) -> None:
            if change.state == "open":
                notes.marks.pop(step, None)
            else:
                notes.marks[step] = Mark(state=change.state, by=by, at=self._now(), told=change.value)
            if step == "language" and change.value is not None:
                notes.language = change.value

        await self._note(mark)
        return await self.show()

    async def finish(self) -> FirstRun:
        """Nobody is led through it any more; it can be looked at all the same."""
        await self._note(lambda notes: setattr(notes, "finished", True))
        return await self.show()

    async def self_test(self, by: str) -> FirstRun:
        """Begin it. Raises SelfTestRunning."""
        if self._test is not None and not self._test.done():
            raise SelfTestRunning
        self._test = asyncio.create_task(self._run_test(by), name="self-test")
        return await self.show()

    async def aclose(self) -> None:
        """End a test that goes on."""
        if self._test is not None:
            self._test.cancel()
            await asyncio.wait({self._test})

    async def _run_test(self, by: str) -> None:
        try:
            lines = [line async for line in self._lines()]
        except Exception as error:  # noqa: BLE001 - the test of whatever is there ends with a result
            _log.exception("self_test_failed")
            lines = [TestLine(what="model", ok=False, told=describe(error).message)]
        good = all(line.ok for line in lines)
        told = None if good else next(line.told for line in lines if not line.ok)
        mark = Mark(state="done" if good else "failed", by=by, at=self._now(), told=told, lines=tuple(lines))
        await self._note(lambda notes: notes.marks.__setitem__("self_test", mark))

    async def _lines(self) -> AsyncIterator[TestLine]:
        """A model answers; it does so from the cards; nothing else is wrong."""
        ready = [one for one in (await self._models.entries()).models if one.state == "ready"]
        if not ready:
            yield TestLine(what="model", ok=False, told="No model is loaded.")
        for one in ready:
            yield TestLine(what="model", ok=True, told=f"{one.name} {one.quantization}")
        await self._proof.check_all()
        for verdict in self._proof.verdicts():
            speed = verdict.decode_tokens_per_s
            told = verdict.state if speed is None else f"{verdict.state}, {speed:.1f} tok/s"
            reasons = "; ".join(reason.message for reason in verdict.reasons)
            # A model that was placed on the processor on purpose is there; one that fell there is DEGRADED.
            good = verdict.state in ("VERIFIED", "CPU")
            yield TestLine(what="offload", ok=good, told=f"{told}: {reasons}" if reasons and not good else told)
        found = (await self._issues.look(settled=True)).issues
        errors = [one for one in found if one.severity == "error"]
        told = "; ".join(one.message for one in errors) if errors else f"{len(found)}"
        yield TestLine(what="issues", ok=not errors, told=told)

    def _step(
        self, name: StepName, notes: Notes, *, admin: bool, entries: Iterable[ModelEntry], jobs: Iterable[Job]
    ) -> Step:
        mark = notes.marks.get(name)
        step = Step(name=name) if mark is None else Step(name=name, **mark.model_dump())
        if name == "admin" and admin:
            return step.model_copy(update={"state": "done"})
        if name == "model":
            return _model_step(step, entries, jobs)
        if name == "self_test" and self._test is not None and not self._test.done():
            return Step(name=name, state="running")
        return step

    async def _set(self, step: StepName, value: str) -> None:
        if step == "language":
            if value not in ("en", "zh"):
                raise InvalidRequest("The language is en or zh.", param="value")
        elif step == "keyboard":
            await self._machine.set_keymap(value)
        elif step == "time":
            await self._machine.set_zone(value)
        else:
            raise InvalidRequest(f"The step {step} takes no value.", param="value")

    async def _note(self, change: Callable[[Notes], None]) -> None:
        async with self._writing:
            await asyncio.to_thread(self._write, change)

    def _write(self, change: Callable[[Notes], None]) -> None:
        notes = self._read() or Notes(finished=self._has_admin())
        change(notes)
        beside = self._file.with_name(f"{FILE}.new")
        with beside.open("w", encoding="utf-8") as file:
            file.write(notes.model_dump_json(indent=1) + "\n")
            file.flush()
            os.fsync(file.fileno())
        beside.replace(self._file)

    def _read(self) -> Notes | None:
        """What was written down; None without a file. One that cannot be read is said in the log and begun anew."""
        try:
            return Notes.model_validate(json.loads(self._file.read_bytes()))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, ValidationError) as error:
            _log.warning("first_run_unreadable", file=str(self._file), reason=type(error).__name__)
            return None


def _known(name: str) -> StepName:
    for one in STEPS:
        if one == name:
            return one
    raise InvalidRequest(f"There is no step '{name[:32]}'. There are: {', '.join(STEPS)}.", param="name")


def _model_step(step: Step, entries: Iterable[ModelEntry], jobs: Iterable[Job]) -> Step:
    """By what is there: a model that answers, one that comes, one that failed to."""
    found = list(entries)
    ready = next((one for one in found if one.state == "ready"), None)
    if ready is not None:
        return step.model_copy(update={"state": "done", "told": f"{ready.name} {ready.quantization}"})
    getting = [job for job in jobs if job.kind in _GETTING]
    going = next((job for job in getting if job.state in GOING), None)
    if going is not None:
        return Step(name="model", state="running", job=going.id, by=going.created_by)
    installed = next((one for one in found if one.default and one.state == "installed"), None)
    starting = next((one for one in found if one.state == "starting"), None)
    if starting is not None:
        return Step(name="model", state="running", told=f"{starting.name} {starting.quantization}")
    if step.state in _SETTLED:
        return step
    failed = next((one for one in found if one.state == "failed"), None)
    if failed is not None:
        return Step(name="model", state="failed", told=failed.error, model=failed.id)
    if installed is not None:
        return Step(name="model", told=f"{installed.name} {installed.quantization}", model=installed.id)
    if getting and getting[0].state == "failed" and getting[0].error is not None:
        return Step(name="model", state="failed", told=getting[0].error.message, job=getting[0].id)
    return step
