"""When a slot is taken as good; and the probe against a real daemon's admin socket is in tests/e2e."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from drivers.command import CommandResult
from installer.errors import InstallFailed
from installer.slot import State, prove_slot

SLOT = ("quiet", "rauc.slot=B")
READY = State(True, "ready", "tiny-r1")
STARTING = State(False, "starting", "tiny-r1")
BROKEN = State(False, "failed", "tiny-r1", "no memory")


class Box:
    """A daemon that says these states in turn, the last for ever."""

    def __init__(self, *states: State | None, answers: bool = True, dies: bool = False) -> None:
        self.states = list(states)
        self.dies = dies
        self.looks = 0
        self.does_answer = answers
        self.asked: list[str] = []

    def state(self) -> State | None:
        return self.states.pop(0) if len(self.states) > 1 else self.states[0]

    def answers(self, model: str) -> bool:
        self.asked.append(model)
        return self.does_answer

    def restarts(self) -> int:
        self.looks += 1
        return self.looks if self.dies else 0


class Bench:
    def __init__(self) -> None:
        self.argv: list[tuple[str, ...]] = []
        self.said: list[str] = []
        self.pauses = 0

    def run(self, argv: Sequence[str], timeout_s: float, ok_codes: Sequence[int]) -> CommandResult:
        self.argv.append(tuple(argv))
        return CommandResult(tuple(argv), 0, "", "", 0.0)

    def pause(self) -> None:
        self.pauses += 1
        assert self.pauses < 100

    def prove(self, box: Box, arguments: Sequence[str] = SLOT) -> None:
        prove_slot(arguments, box, self.run, self.said.append, self.pause)


def test_a_box_that_serves_is_good() -> None:
    bench, box = Bench(), Box(None, None, STARTING, READY)
    bench.prove(box)
    assert box.asked == ["tiny-r1"]
    assert bench.argv == [("rauc", "status", "mark-good")]
    assert bench.pauses == 3
    assert "Slot B is good" in bench.said[-1]


def test_a_box_without_a_model_is_good_too() -> None:
    bench, box = Bench(), Box(State(False, "stopped", None))
    bench.prove(box)
    assert box.asked == []
    assert bench.argv


def test_ready_and_silent_is_not_good() -> None:
    bench = Bench()
    with pytest.raises(InstallFailed):
        bench.prove(Box(READY, answers=False))
    assert bench.argv == []


def test_an_engine_that_fails_again_and_again_is_not_good() -> None:
    bench = Bench()
    with pytest.raises(InstallFailed, match="no memory"):
        bench.prove(Box(STARTING, BROKEN))
    assert bench.argv == []


def test_an_engine_that_recovers_is_good() -> None:
    bench = Bench()
    bench.prove(Box(BROKEN, BROKEN, STARTING, BROKEN, BROKEN, READY))
    assert bench.argv


@pytest.mark.parametrize("arguments", [(), ("rauc.slot=A", "r1box.rescue")])
def test_nothing_to_prove(arguments: tuple[str, ...]) -> None:
    bench = Bench()
    bench.prove(Box(None), arguments)
    assert bench.argv == []


def test_a_service_that_does_not_come_up_is_not_waited_for() -> None:
    bench = Bench()
    with pytest.raises(InstallFailed, match="does not come up: it was started again 5 times"):
        bench.prove(Box(None, dies=True))
    assert bench.argv == []
