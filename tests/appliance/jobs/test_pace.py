"""Rate and time left."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from appliance.jobs.pace import WINDOW_S, Pace


def test_a_steady_rate_and_what_is_left() -> None:
    pace = Pace()
    for second in range(11):
        pace.note(second, "download", second * 100)
    assert (pace.bytes_per_s, pace.eta_s(2_000)) == (100, 10)


def test_nothing_is_claimed_too_early_or_while_it_stands_still() -> None:
    pace = Pace()
    pace.note(0, None, 0)
    pace.note(0.5, None, 1_000_000)
    assert (pace.bytes_per_s, pace.eta_s(2_000_000)) == (None, None)
    pace = Pace()
    pace.note(0, None, 7)
    pace.note(5, None, 7)
    assert (pace.bytes_per_s, pace.eta_s(9)) == (0, None)


def test_another_phase_begins_anew() -> None:
    pace = Pace()
    pace.note(0, "download", 0)
    pace.note(10, "download", 1_000)
    pace.note(11, "check", 10)
    assert pace.bytes_per_s is None


@given(st.lists(st.tuples(st.floats(0.01, 20), st.integers(0, 10**12)), max_size=60))
def test_never_negative_and_bounded(steps: list[tuple[float, int]]) -> None:
    pace, at, done = Pace(), 0.0, 0
    for seconds, more in steps:
        at, done = at + seconds, done + more
        pace.note(at, "x", done)
        assert (pace.bytes_per_s or 0) >= 0
        assert (pace.eta_s(done) or 0) == 0
        assert len([seen for seen in pace._seen if at - seen[0] > WINDOW_S]) <= 1
