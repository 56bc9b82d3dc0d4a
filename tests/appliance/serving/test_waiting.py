"""Estimated waits: right where everything takes equally long, and never absurd."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.errors import QueueFull
from appliance.serving.admission import Admission
from appliance.serving.waiting import SeatTimes

DURATIONS = st.floats(min_value=0, max_value=10_000)


def times(*durations_s: float) -> SeatTimes:
    made = SeatTimes()
    for duration_s in durations_s:
        made.add(duration_s)
    return made


def test_equal_requests_take_their_turns() -> None:
    waits = times(*[10.0] * 5).waits_s([9.0, 4.0], seats=2, waiting=5)
    assert waits == (1.0, 6.0, 11.0, 16.0, 21.0)


def test_nothing_is_said_before_some_have_ended() -> None:
    assert times(10.0, 10.0).waits_s([1.0], seats=1, waiting=1) is None
    assert times(*[1.0] * 4).waits_s([], seats=0, waiting=1) is None


def test_what_has_run_long_is_expected_to_run_longer() -> None:
    """Answers are short or long: one that has passed the short ones is a long one."""
    seen = times(1.0, 1.0, 1.0, 60.0)
    assert seen.waits_s([0.0], seats=1, waiting=1) == (15.75,)
    assert seen.waits_s([2.0], seats=1, waiting=1) == (58.0,)
    assert seen.waits_s([80.0], seats=1, waiting=1) == (80.0,)


def test_seats_that_were_taken_away_free_nobody() -> None:
    assert times(*[10.0] * 3).waits_s([9.0, 6.0, 2.0], seats=1, waiting=1) == (8.0,)


@given(st.lists(DURATIONS, min_size=3), st.lists(DURATIONS, min_size=1, max_size=20), st.data())
def test_later_places_never_wait_less(recent: list[float], running: list[float], data: st.DataObject) -> None:
    seats = data.draw(st.integers(1, len(running)))
    waits = times(*recent).waits_s(running, seats=seats, waiting=40)
    assert waits is not None
    assert all(wait >= 0 for wait in waits)
    assert list(waits) == sorted(waits)


class _Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def served(admission: Admission, clock: _Clock, *durations_s: float) -> None:
    for duration_s in durations_s:
        ticket = admission.enter()
        clock.now_s += duration_s
        ticket.release()


def test_a_ticket_knows_its_wait() -> None:
    clock = _Clock()
    admission = Admission(seats=1, max_waiting=2, now_s=clock)
    served(admission, clock, 8.0, 8.0)
    holder, first = admission.enter(), admission.enter()
    assert (holder.wait_s, first.wait_s) == (None, None)
    first.release()
    clock.now_s += 8.0
    holder.release()
    holder, *waiting = (admission.enter() for _ in range(3))
    assert [ticket.wait_s for ticket in waiting] == [8.0, 16.0]
    clock.now_s += 3.0
    assert [ticket.wait_s for ticket in waiting] == [5.0, 13.0]
    with pytest.raises(QueueFull) as caught:
        admission.enter()
    assert caught.value.retry_after_s == 5
    holder.release()
    assert (waiting[0].wait_s, waiting[0].granted) == (None, True)


def test_a_full_queue_without_experience_says_ten_seconds() -> None:
    admission = Admission(seats=1, max_waiting=0)
    admission.enter()
    with pytest.raises(QueueFull) as caught:
        admission.enter()
    assert caught.value.retry_after_s == 10
