"""The loop detector: what it finds, how soon, and what it must leave alone."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.engine.llamacpp.loops import (
    ANSWER_LIMITS,
    MAX_PERIOD,
    PHRASE,
    THOUGHT_LIMITS,
    WINDOW,
    LoopDetector,
    LoopLimits,
)
from tests.appliance.engine.llamacpp.texts import HARMLESS, LOOPS, tokens


def found_at(text: list[int], limits: LoopLimits = THOUGHT_LIMITS) -> int | None:
    """After how many tokens a loop is found."""
    detector = LoopDetector(limits)
    return next((place for place, token in enumerate(text, start=1) if detector.add(token)), None)


@pytest.mark.parametrize("name", HARMLESS)
def test_what_only_looks_like_a_loop_is_left_alone(name: str) -> None:
    text = tokens(HARMLESS[name])
    assert found_at(text) is None
    assert found_at(text, ANSWER_LIMITS) is None


def test_all_of_it_in_one_long_thought_is_left_alone() -> None:
    assert found_at([token for text in HARMLESS.values() for token in tokens(text)]) is None


@pytest.mark.parametrize("name", LOOPS)
def test_loops_are_found(name: str) -> None:
    assert found_at(tokens(LOOPS[name])) is not None


def test_an_answer_may_repeat_what_it_was_asked_to() -> None:
    lines = tokens("I will not talk in class.\n") * 100
    assert found_at(lines) is not None
    assert found_at(lines, ANSWER_LIMITS) is None
    assert found_at(lines * 20, ANSWER_LIMITS) is not None


@given(
    cycle=st.lists(st.integers(0, 150_000), min_size=1, max_size=MAX_PERIOD),
    before=st.integers(0, 2 * WINDOW),
    limits=st.sampled_from([THOUGHT_LIMITS, ANSWER_LIMITS]),
)
@settings(max_examples=60, deadline=None)
def test_a_cycle_of_any_period_is_found_as_soon_as_it_is_long_enough(
    cycle: list[int], before: int, limits: LoopLimits
) -> None:
    source = random.Random(len(cycle) * 31 + before)
    beginning = [source.randrange(150_000) for _ in range(before)]
    poor = limits.poor_run_tokens if len(set(cycle)) < 6 else 0
    enough = max(limits.run_tokens, limits.repeats * len(cycle), poor)
    found = found_at(beginning + cycle * (2 * enough // len(cycle) + 4), limits)
    # A cycle may hold cycles, which mislead the detector for a turn or two; it can never be early.
    assert found is not None
    assert before + enough - PHRASE - len(cycle) <= found
    assert found <= before + enough + 2 * len(cycle) + PHRASE


@given(st.lists(st.integers(0, 3), min_size=0, max_size=400), st.integers(1, 5))
@settings(max_examples=100, deadline=None)
def test_nothing_short_is_a_loop(text: list[int], times: int) -> None:
    text = (text * times)[: THOUGHT_LIMITS.run_tokens - 1]
    assert found_at(text) is None


def test_what_was_long_ago_is_forgotten() -> None:
    """The window is bounded: memory does not grow with the thought, and what was there once long ago counts no more."""
    source = random.Random(1)
    detector = LoopDetector(THOUGHT_LIMITS)
    for _ in range(5 * WINDOW):
        assert not detector.add(source.randrange(150_000))
    assert len(detector._tokens) == len(detector._hashes) == WINDOW
    assert len(detector._seen) <= WINDOW
    assert detector.period == 0


def test_a_cycle_that_is_broken_starts_again() -> None:
    cycle = tokens(" But if it is false, then it is true.")
    almost = cycle * ((THOUGHT_LIMITS.run_tokens - 2) // len(cycle))
    assert found_at(almost + tokens(" And now to something quite different, which is new here.")) is None
    assert found_at([*almost, 1, *almost]) is None
    assert found_at(almost + cycle * 3) is not None
