"""Rings and buckets: every sample lands where it belongs, gaps stay gaps, memory has a bound."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.telemetry_history import DEVICE_FIELDS, HOST_FIELDS, History, Ring
from drivers.telemetry_types import HistoryReading

NAME = ("nvidia:0", "power_watts")


def read(history: History, now_s: float, seconds: float, points: int, *names: tuple[str, str]) -> HistoryReading:
    return history.read(names or (NAME,), now_s=now_s, now_at_s=1e9 + now_s, seconds=seconds, points=points)


def put(history: History, at_s: float, value: float | None, interval_s: float = 1.0) -> None:
    history.note(*NAME, value, at_s=at_s, interval_s=interval_s)


def test_buckets_have_least_mean_and_most_of_their_samples() -> None:
    history = History(60)
    for second in range(40):
        put(history, 1000.0 + second, float(second))
    reading = read(history, 1039.0, 40, 4)
    assert (reading.step_s, reading.buckets, reading.start_at_s) == (10.0, 4, 1e9 + 1000.0)
    (series,) = reading.series
    assert series.minimum == (0, 10, 20, 30)
    assert series.mean == (4.5, 14.5, 24.5, 34.5)
    assert series.maximum == (9, 19, 29, 39)


def test_unknown_is_a_gap_and_never_zero() -> None:
    history = History(60)
    for second in (0, 1, 2, 7, 8, 9):
        put(history, 1000.0 + second, None if second == 1 else 5.0)
    put(history, 1003.0, math.inf)
    put(history, 1004.0, math.nan)
    (series,) = read(history, 1009.0, 10, 10).series
    assert series.mean == (5, None, 5, None, None, None, None, 5, 5, 5)
    assert series.minimum == series.maximum == series.mean


def test_what_stopped_is_unknown_from_then_on() -> None:
    history = History(60)
    put(history, 1000.0, 5.0)
    (series,) = read(history, 1004.0, 5, 5).series
    assert series.mean == (5, None, None, None, None)
    (series,) = read(history, 1061.0, 60, 60).series
    assert set(series.mean) == {None}
    assert history.used_bytes == 0


def test_a_name_without_samples_is_unknown_throughout() -> None:
    (series,) = read(History(60), 1000.0, 10, 5, ("host", "cpu_temperature_celsius")).series
    assert (series.subject, series.field, series.mean) == ("host", "cpu_temperature_celsius", (None,) * 5)


def test_a_slow_source_fills_the_time_between_its_samples() -> None:
    history = History(60)
    for second in range(0, 30, 5):
        put(history, 1000.0 + second, float(second), interval_s=5.0)
    history.note("host", "load_1", 1.0, at_s=1025.0, interval_s=1.0)
    slow, fast = read(history, 1025.0, 10, 10, NAME, ("host", "load_1")).series
    assert slow.mean == (15, 20, 20, 20, 20, 20, 20, 25, 25, 25)
    assert fast.mean == (None,) * 9 + (1,)


def test_buckets_are_no_shorter_than_the_fastest_source() -> None:
    history = History(60)
    put(history, 1000.0, 1.0, interval_s=5.0)
    reading = read(history, 1000.0, 20, 100)
    assert (reading.step_s, reading.buckets) == (5.0, 4)


def test_buckets_stay_the_same_while_time_goes_on() -> None:
    history = History(60)
    for second in range(60):
        put(history, 1000.0 + second, float(second))
    first, second_reading = read(history, 1055.0, 30, 3), read(history, 1059.0, 30, 3)
    assert first.start_at_s == second_reading.start_at_s
    assert first.series[0].mean[:2] == second_reading.series[0].mean[:2]


@given(
    st.lists(st.tuples(st.integers(1, 30), st.floats(-1e6, 1e6, width=32)), min_size=1, max_size=120),
    st.integers(1, 50),
    st.integers(1, 60),
    st.integers(1, 60),
)
def test_a_ring_is_a_dictionary_that_forgets(
    steps: list[tuple[int, float]], slots: int, seconds: int, points: int
) -> None:
    ring, history, known, now_s = Ring(slots, 1.0, 500.0), History(slots), {}, 500.0
    for number, (step, value) in enumerate(steps):
        now_s += step if number else 0
        ring.put(now_s, value)
        put(history, now_s, value)
        known[now_s] = value
    kept = {at_s: value for at_s, value in known.items() if at_s > now_s - slots}
    assert ring.between(0.0, now_s + 1) == list(kept.values())
    reading = read(history, now_s, seconds, points)
    assert reading.buckets <= points
    (series,) = reading.series
    for number in range(reading.buckets):
        begin_s = reading.start_at_s - 1e9 + number * reading.step_s
        inside = [value for at_s, value in kept.items() if begin_s - 1e-6 <= at_s < begin_s + reading.step_s + 1e-6]
        if series.mean[number] is None:
            assert len(inside) <= 2  # at most the two on the edges belong to the neighbours
        else:
            assert series.minimum[number] == pytest.approx(min(inside), rel=1e-5, abs=1e-6) or len(inside) > 1
            assert series.minimum[number] <= series.maximum[number]  # type: ignore[operator]


def test_a_sample_that_comes_a_little_late_or_early_keeps_its_slot() -> None:
    ring = Ring(10, 1.0, 100.0)
    for moment_s, value in ((100.0, 1.0), (101.3, 2.0), (101.8, 3.0), (103.0, 4.0), (102.9, 5.0), (99.0, 6.0)):
        ring.put(moment_s, value)
    assert ring.between(100.0, 104.0) == [1, 2, 3, 5]


def test_an_hour_of_sixteen_devices_takes_less_than_four_megabytes() -> None:
    history = History()
    for at_s in range(0, 8000, 100):
        for number in range(16):
            for name in DEVICE_FIELDS:
                history.note(f"nvidia:{number}", name, 1.0, at_s=float(at_s), interval_s=1.0)
        for name in HOST_FIELDS:
            history.note("host", name, 1.0, at_s=float(at_s), interval_s=1.0)
    assert history.used_bytes == (16 * len(DEVICE_FIELDS) + len(HOST_FIELDS)) * 3600 * 4 < 2_000_000


def test_series_of_devices_that_went_are_forgotten() -> None:
    history = History(100)
    for number in range(500):
        history.note(f"nvidia:{number}", "power_watts", 1.0, at_s=number * 10.0, interval_s=1.0)
    assert history.used_bytes <= 12 * 400
