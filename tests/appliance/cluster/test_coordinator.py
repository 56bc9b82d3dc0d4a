"""Leader and boxes as they decide, with a network between them that loses, delays, doubles and reorders."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

from appliance.cluster.coordinator import LOST_S, Coordinator, Report, RunPhase
from appliance.cluster.rank_state import LEASE_S, Begin, Cease, RankStateMachine
from appliance.cluster.wire import RankState

BOXES = ("leader", "b", "c")


def idle(number: int, boot: str = "1") -> Report:
    return Report(boot=boot, number=number)


def up(number: int, run: str, boot: str = "1") -> Report:
    return Report(boot=boot, number=number, state=RankState.UP, run=run)


@pytest.fixture
def gathered() -> Coordinator:
    leader = Coordinator()
    assert leader.hear("b", idle(1), 0.0) is None
    assert leader.hear("c", idle(1), 0.0) is None
    return leader


def test_ranks_start_in_order(gathered: Coordinator) -> None:
    gathered.begin("r1", BOXES, 0.0)
    assert gathered.hear("b", idle(2), 0.5) is None
    gathered.leader_is_up("r1")
    assert gathered.hear("c", idle(2), 0.5) is None
    assert gathered.hear("b", idle(3), 1.0) == "r1"
    assert gathered.phase is RunPhase.FORMING
    assert gathered.hear("b", up(4, "r1"), 1.5) == "r1"
    assert gathered.hear("c", idle(3), 1.5) == "r1"
    assert gathered.hear("c", up(4, "r1"), 2.0) == "r1"
    assert gathered.phase is RunPhase.RUNNING


def test_a_run_needs_every_box_and_none_that_still_ends_an_older_one(gathered: Coordinator) -> None:
    assert gathered.missing(BOXES[1:], LOST_S + 1) == ("b", "c")
    gathered.hear("b", up(2, "r0"), 1.0)
    assert gathered.missing(BOXES[1:], 1.0) == ("b",)
    with pytest.raises(ValueError, match="missing: b"):
        gathered.begin("r1", BOXES, 1.0)


def formed(leader: Coordinator) -> None:
    leader.begin("r1", BOXES, 0.0)
    leader.leader_is_up("r1")
    leader.hear("b", up(10, "r1"), 0.0)
    leader.hear("c", up(10, "r1"), 0.0)
    assert leader.phase is RunPhase.RUNNING


def test_silence_ends_it_for_all(gathered: Coordinator) -> None:
    formed(gathered)
    gathered.hear("b", up(11, "r1"), LOST_S)
    gathered.check(LOST_S)
    assert gathered.phase is RunPhase.RUNNING
    gathered.check(LOST_S + 0.1)
    assert (gathered.phase, gathered.cause) == (RunPhase.ENDED, "c does not answer")
    assert gathered.hear("b", up(12, "r1"), LOST_S + 0.2) is None


@pytest.mark.parametrize(
    ("report", "cause"),
    [
        (Report(boot="1", number=11, state=RankState.FAILED, run="r1", cause="exit code 1"), "b: exit code 1"),
        (idle(11), "b has lost its part"),
        (idle(1, boot="2"), "b has lost its part"),
    ],
)
def test_a_rank_that_ended_ends_it_for_all(gathered: Coordinator, report: Report, cause: str) -> None:
    formed(gathered)
    gathered.hear("b", report, 0.5)
    assert (gathered.phase, gathered.cause) == (RunPhase.ENDED, cause)


def test_a_box_that_is_taken_out_ends_it(gathered: Coordinator) -> None:
    formed(gathered)
    gathered.forget("c")
    assert gathered.cause == "c was taken out of the cluster"


def test_what_comes_late_or_twice_is_not_believed(gathered: Coordinator) -> None:
    formed(gathered)
    failure = Report(boot="1", number=9, state=RankState.FAILED, run="r1", cause="old")
    assert gathered.hear("b", failure, 0.5) == "r1"
    assert gathered.hear("b", failure, 0.5) == "r1"
    assert gathered.phase is RunPhase.RUNNING
    gathered.hear("b", idle(1, boot="2"), 1.0)
    assert gathered.phase is RunPhase.ENDED
    gathered.hear("b", up(99, "r1"), 9.0)
    assert gathered.state_of("b") is RankState.IDLE
    assert gathered.heard_s("b") == 1.0


def test_a_box_gives_up_by_itself_before_the_leader_begins_anew() -> None:
    assert LEASE_S < LOST_S
    box = RankStateMachine("1")
    box.report()
    assert box.take(1, "r1", 0.0) == Begin("r1")
    box.began("r1")
    assert box.check(LEASE_S) is None
    assert isinstance(box.check(LEASE_S + 0.1), Cease)
    box.ceased()
    box.report()
    assert box.take(2, "r1", 5.0) is None, "a run that was ended here is not begun again"
    assert box.report().state is RankState.FAILED, "and the leader must hear of it"
    assert box.take(3, "r2", 6.0) is None
    box.report()
    assert box.take(4, "r2", 7.0) == Begin("r2")
    assert box.take(4, None, 7.0) is None, "an answer that came twice"
    assert box.take(9, None, 6.0) is None, "an answer to nothing that was asked"


@dataclass
class _Process:
    """What a box really runs."""

    brain: RankStateMachine
    run: str | None = None
    ran: list[str] = field(default_factory=list)


class Cluster(RuleBasedStateMachine):
    """Three boxes. Beats and answers lie in bags from which anything may be delivered, any number of times."""

    beats = Bundle("beats")
    answers = Bundle("answers")

    @initialize()
    def boot(self) -> None:
        self.now = 0.0
        self.runs = 0
        self.boots = 0
        self.leader = Coordinator()
        self.started: dict[str, list[int]] = {}
        self.boxes = {name: self.fresh() for name in BOXES[1:]}

    def fresh(self) -> _Process:
        self.boots += 1
        return _Process(RankStateMachine(str(self.boots)))

    def act(self, name: str, found: object) -> None:
        box = self.boxes[name]
        if isinstance(found, Begin):
            rank = BOXES.index(name)
            assert box.run is None
            assert found.run not in box.ran, "a run is begun once on a box"
            order = self.started.setdefault(found.run, [])
            assert all(earlier in order for earlier in range(rank)), "ranks start in order"
            order.append(rank)
            box.run = found.run
            box.ran.append(found.run)
            box.brain.began(found.run)
        elif isinstance(found, Cease):
            box.run = None
            box.brain.ceased()

    @rule(seconds=st.sampled_from([0.1, 1.0, 5.0, 13.0]))
    def time_goes_on(self, seconds: float) -> None:
        """Everybody's own clock ticks often, whatever the network does."""
        left = seconds
        while left > 0:
            self.now += min(left, 0.5)
            left -= 0.5
            for name, box in self.boxes.items():
                self.act(name, box.brain.check(self.now))
            self.leader.check(self.now)

    @rule(target=beats, name=st.sampled_from(BOXES[1:]))
    def beat(self, name: str) -> tuple[str, Report]:
        return name, self.boxes[name].brain.report()

    @rule(target=answers, beat=beats)
    def arrives(self, beat: tuple[str, Report]) -> tuple[str, str, int, str | None]:
        name, report = beat
        return name, report.boot, report.number, self.leader.hear(name, report, self.now)

    @rule(answer=answers)
    def answered(self, answer: tuple[str, str, int, str | None]) -> None:
        name, boot, number, wanted = answer
        box = self.boxes[name]
        if box.brain.report().boot == boot:
            self.act(name, box.brain.take(number, wanted, self.now))

    @rule()
    def leader_begins(self) -> None:
        if self.leader.run is None and not self.leader.missing(BOXES[1:], self.now):
            self.runs += 1
            run = f"r{self.runs}"
            self.leader.begin(run, BOXES, self.now)
            self.started[run] = [0]
            self.leader.leader_is_up(run)

    @rule()
    def leader_ends(self) -> None:
        self.leader.end("stopped")

    @rule(name=st.sampled_from(BOXES[1:]))
    def process_dies(self, name: str) -> None:
        box = self.boxes[name]
        if box.run is not None:
            box.brain.failed(box.run, "exit code 1")
            box.run = None

    @rule(name=st.sampled_from(BOXES[1:]))
    def daemon_starts_anew(self, name: str) -> None:
        self.boxes[name] = self.fresh()

    @invariant()
    def nobody_runs_what_it_does_not_say(self) -> None:
        for box in getattr(self, "boxes", {}).values():
            assert (box.brain.state is RankState.UP) == (box.run is not None)
            assert box.run is None or box.brain.run == box.run

    def teardown(self) -> None:
        """The network is well again: whatever happened, all come to rest, and the next run forms."""
        if not hasattr(self, "boxes"):
            return
        for _ in range(6):
            self.calm()
        if self.leader.run is not None and any(box.run != self.leader.run for box in self.boxes.values()):
            raise AssertionError("a run goes on without one of its boxes")
        self.leader.end("next")
        for _ in range(4):
            self.calm()
        assert all(box.run is None for box in self.boxes.values())
        self.leader_begins()
        assert self.leader.run is not None
        for _ in range(6):
            self.calm()
        assert self.leader.phase is RunPhase.RUNNING
        assert {box.run for box in self.boxes.values()} == {self.leader.run}

    def calm(self) -> None:
        self.time_goes_on(1.0)
        for name, box in self.boxes.items():
            report = box.brain.report()
            wanted = self.leader.hear(name, report, self.now)
            self.act(name, box.brain.take(report.number, wanted, self.now))


TestCluster = Cluster.TestCase
TestCluster.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
