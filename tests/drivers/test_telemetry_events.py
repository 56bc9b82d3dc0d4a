"""Events have a bound, and what flickers is told once."""

from __future__ import annotations

import logging
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.telemetry_events import SETTLE_S, EventLog, Settled
from drivers.telemetry_types import EventKind
from drivers.types import Severity
from tests.drivers.telemetry_parts import START_AT_S, Hands


def test_events_are_numbered_without_gaps_and_the_oldest_go() -> None:
    hands = Hands()
    log = EventLog(hands.clock(), capacity=3)
    for number in range(5):
        hands.now_s += 1
        log.add(EventKind.DEVICE_LOST, f"nvidia:{number}", "It went.", Severity.ERROR)
    assert [event.id for event in log.since(0)] == [3, 4, 5]
    assert [event.subject for event in log.since(4)] == ["nvidia:4"]
    assert log.since(5) == log.since(99) == ()
    assert log.since(4)[0].at_s == START_AT_S + 5


def test_an_event_is_a_line_in_the_log_without_control_characters(caplog: pytest.LogCaptureFixture) -> None:
    log = EventLog(Hands().clock())
    with caplog.at_level(logging.INFO):
        log.add(EventKind.DEVICE_LOST, "nvidia:0", "It went\x1b[31m\naway.", Severity.ERROR)
        log.add(EventKind.DEVICE_BACK, "nvidia:0", "It is back.", Severity.INFO)
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("ERROR", "device_lost: It went[31maway."),
        ("INFO", "device_back: It is back."),
    ]


def settled(told: int = 0) -> Settled[int]:
    return Settled(told, lambda before, after: after > before)


def test_worse_at_once_better_when_it_held() -> None:
    value = settled()
    assert value.update(3, 0.0)
    assert not value.update(0, 1.0)
    assert not value.update(0, 1.0 + SETTLE_S - 0.1)
    assert value.told == 3
    assert value.update(0, 1.0 + SETTLE_S)
    assert value.told == 0


def test_back_to_the_old_state_begins_anew() -> None:
    value = settled(3)
    assert not value.update(0, 0.0)
    assert not value.update(3, 5.0)
    assert not value.update(0, 6.0)
    assert not value.update(0, 6.0 + SETTLE_S - 0.1)
    assert value.update(0, 6.0 + SETTLE_S)


def test_the_worst_of_what_flickers_counts() -> None:
    value = settled(3)
    assert not any(value.update(number % 2 + 1, float(number)) for number in range(int(SETTLE_S)))
    assert value.update(1, SETTLE_S)
    assert value.told == 2


@given(st.lists(st.integers(0, 3), max_size=200))
def test_no_more_than_one_change_for_the_better_in_each_span(values: list[int]) -> None:
    value, better = settled(), []
    for second, one in enumerate(values):
        before = value.told
        assert value.update(one, float(second)) == (value.told != before)
        assert value.told >= one or value.told in values
        if value.told < before:
            better.append(second)
    assert all(after - before >= SETTLE_S for before, after in pairwise(better))
