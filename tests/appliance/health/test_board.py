"""Issues come, stay while they are so, and go; fix-ups are applied and looked at."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from datetime import timedelta

import pytest

from appliance.errors import FixupNotOffered, IssueNotFound
from appliance.health.board import IssueBoard
from appliance.health.fixups.check_offload import CheckOffload
from appliance.health.fixups.detect_hardware import DetectHardware
from appliance.health.fixups.reload_model import ReloadModel
from appliance.health.fixups.verify_model import VerifyModel
from appliance.health.types import BoxFacts, Problem
from drivers.types import Device, HardwareSnapshot, Host
from tests.appliance.health.test_checks import WELL, verdict
from tests.appliance.hosts import HostBox


@dataclass
class World:
    """What is wrong, and a fix-up that mends it."""

    problems: list[Problem] = field(default_factory=list)
    looks: int = 0
    mends: bool = True
    asked: list[str | None] = field(default_factory=list)
    name: str = "mend"
    label: str = "Mend it"

    async def facts(self) -> BoxFacts:
        self.looks += 1
        if self.looks == 3:
            raise OSError("the disk is gone for a moment")
        return BoxFacts(now=WELL.now + timedelta(seconds=self.looks), telemetry=WELL.telemetry)

    def check(self, facts: BoxFacts) -> list[Problem]:
        return list(self.problems)

    async def apply(self, subject: str | None) -> str:
        self.asked.append(subject)
        if self.mends:
            self.problems.clear()
        return "It is mended."


BROKEN = Problem(
    code="broken", severity="warning", subject="x", message="It is broken.", hint="Mend it.", fixups=("mend",)
)
BAD = Problem(code="bad", severity="error", message="It is bad.")


@pytest.fixture
def world() -> World:
    return World([BROKEN])


@pytest.fixture
def board(world: World) -> IssueBoard:
    return IssueBoard(world.facts, [world.check], [world])


async def test_listeners_hear_of_what_opens_changes_and_closes(world: World) -> None:
    heard: list[tuple[str, str, str]] = []
    board = IssueBoard(
        world.facts, [world.check], [], on_change=lambda change, issue: heard.append((change, issue.id, issue.severity))
    )
    world.looks = 10
    await board.look()
    await board.look()
    world.problems = [replace(BROKEN, severity="error"), BAD]
    await board.look()
    world.problems = []
    await board.look()
    assert [change for change, _, _ in heard] == ["issue.opened", "issue.changed", "issue.opened"]
    await board.look()
    assert heard == [
        ("issue.opened", "broken@x", "warning"),
        ("issue.changed", "broken@x", "error"),
        ("issue.opened", "bad", "error"),
        ("issue.closed", "broken@x", "error"),
        ("issue.closed", "bad", "error"),
    ]


async def test_an_issue_keeps_its_date_and_goes_when_it_is_missed_twice(world: World, board: IssueBoard) -> None:
    assert board.issues().checked_at is None
    [issue] = (await board.look()).issues
    assert (issue.id, issue.code, issue.subject, issue.hint) == ("broken@x", "broken", "x", "Mend it.")
    assert [(button.name, button.label) for button in issue.fixups] == [("mend", "Mend it")]
    world.problems = [BROKEN, BAD]
    second = (await board.look()).issues
    assert [one.id for one in second] == ["bad", "broken@x"]
    assert second[1].since == issue.since
    world.problems, world.looks = [], 10
    assert len((await board.look()).issues) == 2
    assert (await board.look()).issues == ()
    world.problems = [BROKEN]
    assert (await board.look()).issues[0].since > issue.since


async def test_a_fix_up_is_applied_and_the_issue_is_gone_at_once(world: World, board: IssueBoard) -> None:
    await board.look()
    done = await board.fix("broken@x", "mend")
    assert (done.message, done.issues, world.asked) == ("It is mended.", (), ["x"])
    with pytest.raises(IssueNotFound):
        await board.fix("broken@x", "mend")


async def test_a_fix_up_that_does_not_mend_leaves_the_issue(world: World, board: IssueBoard) -> None:
    world.mends = False
    await board.look()
    assert [issue.id for issue in (await board.fix("broken@x", "mend")).issues] == ["broken@x"]
    with pytest.raises(FixupNotOffered, match="It offers: mend"):
        await board.fix("broken@x", "burn")


async def test_it_looks_by_itself_and_a_look_that_fails_is_not_the_last(world: World) -> None:
    paused = 0

    async def sleep(_seconds: float) -> None:
        nonlocal paused
        paused += 1
        await asyncio.sleep(0)

    board = IssueBoard(world.facts, [world.check], [world], sleep=sleep)
    board.start()
    async with asyncio.timeout(5):
        while paused < 5:
            await asyncio.sleep(0)
    await board.aclose()
    assert world.looks >= 5
    assert [issue.id for issue in board.issues().issues] == ["broken@x"]


async def test_the_fix_ups_act_on_what_they_are_given() -> None:
    box = HostBox()
    box.add("main", 8)
    await box.host.boot("main")
    reload_model = ReloadModel(box.host)
    for subject in ("main", "nvidia:0", None):
        assert await reload_model.apply(subject) == "main is loaded again."
    assert len(box.engines["main"]) == 4
    await box.host.aclose()

    class Parts:
        checked = 0

        async def verify(self, model_id: str) -> str | None:
            return None if model_id == "whole" else "a hash differs."

        async def detect(self) -> HardwareSnapshot:
            return HardwareSnapshot(Host(), (Device("nvidia", 0, "L4"),))

        async def check_all(self) -> None:
            self.checked += 1

        def verdict(self, model_id: str) -> object:
            return verdict("DEGRADED", "slow") if model_id == "r1-7b" else None

    parts = Parts()
    verify = VerifyModel(parts)
    assert await verify.apply("whole") == "whole is whole."
    assert await verify.apply("old") == "old is damaged: a hash differs."
    assert await DetectHardware(parts).apply(None) == "1 device answers."
    check = CheckOffload(parts)  # type: ignore[arg-type]
    assert (await check.apply("r1-7b"), await check.apply(None)) == ("r1-7b: DEGRADED.", "Checked.")
    assert parts.checked == 2
