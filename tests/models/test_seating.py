"""Seats x context to try."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.seating import seating, small_model_seating, smaller_wishes


def test_usual_is_four_seats_of_8192() -> None:
    usual = seating(None, None, 131_072)
    assert usual.levels[usual.usual] == (4, 8192)
    assert usual.levels[0] == (1, 4096)
    assert usual.reduced(usual.usual - 1)
    assert not usual.reduced(usual.usual)


def test_a_full_wish_is_kept_exactly() -> None:
    assert seating(5, 10_000, 131_072).levels == ((5, 10_000),)
    assert {s for s, _ in seating(3, None, 131_072).levels} == {3}
    assert {c for _, c in seating(None, 5000, 131_072).levels} == {5000}


@given(
    seats=st.none() | st.integers(1, 64),
    context=st.none() | st.integers(1, 8192),
    trained=st.integers(8192, 200_000),
)
def test_levels_rise_and_stay_within_the_trained_context(seats: int | None, context: int | None, trained: int) -> None:
    found = seating(seats, context, trained)
    tokens = [s * c for s, c in found.levels]
    assert tokens == sorted(tokens)
    assert all(c <= trained for _, c in found.levels)
    assert 0 <= found.usual < len(found.levels)


@given(trained=st.integers(1, 40_000))
def test_small_models(trained: int) -> None:
    found = small_model_seating(trained)
    assert found.levels[-1] == (8, min(trained, 4096))
    assert all(1 <= c <= trained for _, c in found.levels)


@given(seats=st.integers(1, 64), context=st.integers(1, 131_072))
def test_offers_are_smaller_than_the_wish_and_fall(seats: int, context: int) -> None:
    tokens = [s * c for s, c in smaller_wishes(seats, context)]
    assert tokens == sorted(tokens, reverse=True)
    assert all(t < seats * context for t in tokens)


@pytest.mark.parametrize(("seats", "context"), [(0, None), (-1, 8), (None, 0), (5000, None)])
def test_nonsense_is_refused(seats: int | None, context: int | None) -> None:
    with pytest.raises(ValueError, match=r"seats|context"):
        seating(seats, context, 131_072)
