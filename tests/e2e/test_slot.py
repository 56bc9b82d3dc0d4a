"""The proof of a system slot asks a real daemon by its admin socket, as root does on an installed box."""

from __future__ import annotations

from installer.slot import BoxProbe, State
from tests.e2e.box import Box, Home, start_box


def test_a_box_that_serves_answers_the_probe(box: Box, prepared: tuple[Home, str, str], model: str) -> None:
    with BoxProbe(prepared[0].state_dir / "admin.sock") as probe:
        state = probe.state()
        assert state is not None
        assert (state.ready, state.model) == (True, model)
        assert probe.answers(model)
        assert not probe.answers("no-such-model")


def test_a_box_without_a_model_says_so(home: Home) -> None:
    empty = start_box(home, wait=False)
    try:
        with BoxProbe(home.state_dir / "admin.sock") as probe:
            assert probe.state() == State(False, "stopped", None)
    finally:
        empty.stop()


def test_nobody_there(home: Home) -> None:
    with BoxProbe(home.state_dir / "admin.sock") as probe:
        assert probe.state() is None
        assert not probe.answers("any")
