"""How a source is watched: pauses while it fails, what is told of it, and what hangs."""

from __future__ import annotations

import logging
import threading

import pytest

from drivers.errors import MonitorFailed
from drivers.telemetry_types import DeviceState, MonitorState
from drivers.telemetry_watch import LONGEST_PAUSE_S, LONGEST_UNAVAILABLE_PAUSE_S, OVERDUE_S
from tests.drivers.telemetry_parts import HangingMonitor, Rig, ScriptedMonitor, card, refused, rig

PATIENT_S = 60.0


def fail_for(made: Rig, count: int) -> list[float]:
    """Pauses (seconds) of the second source over so many failures."""
    pauses = []
    for _ in range(count):
        pauses.append(made.sampler.watches[1].step())
        made.hands.now_s += pauses[-1]
    return pauses


def test_a_monitor_that_fails_is_asked_ever_more_rarely_and_told_once(caplog: pytest.LogCaptureFixture) -> None:
    made = rig(ScriptedMonitor(answer=refused()))
    with caplog.at_level(logging.INFO):
        assert fail_for(made, 9) == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, LONGEST_PAUSE_S, LONGEST_PAUSE_S]
    assert [record.getMessage() for record in caplog.records] == [
        "monitor_failed: The nvidia monitor failed: The driver and its library differ."
    ]
    monitor = made.sampler.reading().monitors[1]
    assert (monitor.state, monitor.code, monitor.reason, monitor.hint, monitor.failures, monitor.answered_at_s) == (
        MonitorState.FAILED,
        "monitor_refused",
        "The driver and its library differ.",
        "Restart the machine.",
        9,
        None,
    )


def test_a_monitor_that_answers_again_is_told_and_asked_at_its_pace() -> None:
    monitor = ScriptedMonitor(answer=refused())
    made = rig(monitor)
    fail_for(made, 4)
    monitor.answer = [card()]
    pauses = fail_for(made, 12)
    assert set(pauses) == {1.0}
    assert made.kinds() == ["monitor_failed", "monitor_back"]
    told = made.sampler.reading().monitors[1]
    assert (told.state, told.code, told.failures) == (MonitorState.OK, None, 0)
    monitor.answer = refused()
    assert fail_for(made, 1) == [1.0]


def test_a_monitor_that_fails_every_other_time_is_asked_as_rarely_as_one_that_fails_always() -> None:
    monitor = ScriptedMonitor()
    made = rig(monitor)
    pauses = []
    for number in range(20):
        monitor.answer = [card()] if number % 2 else refused()
        pauses += fail_for(made, 1)
    assert pauses[::2] == [1, 2, 4, 8, 16, 32, 60, 60, 60, 60]
    assert made.kinds() == ["monitor_failed"]


def test_its_devices_are_unknown_while_a_monitor_fails() -> None:
    monitor = ScriptedMonitor(answer=[card()])
    made = rig(monitor)
    made.step()
    monitor.answer = refused()
    for _ in range(6):
        made.step(1.0)
    assert made.sampler.reading().devices[0].state is DeviceState.UNKNOWN
    assert made.kinds() == ["monitor_failed"]


def test_nothing_to_monitor_is_quiet_and_asked_rarely(caplog: pytest.LogCaptureFixture) -> None:
    monitor = ScriptedMonitor(answer=MonitorFailed("monitor_unavailable", "There is no NVIDIA driver.", None))
    made = rig(monitor)
    with caplog.at_level(logging.DEBUG):
        assert fail_for(made, 8) == [15, 30, 60, 120, 240, 480, 600, LONGEST_UNAVAILABLE_PAUSE_S]
    assert (caplog.records, made.kinds()) == ([], [])
    told = made.sampler.reading().monitors[1]
    assert (told.state, told.reason, told.failures) == (MonitorState.UNAVAILABLE, "There is no NVIDIA driver.", 8)
    monitor.answer = [card()]
    assert fail_for(made, 1) == [1.0]
    assert (made.sampler.reading().monitors[1].state, made.kinds()) == (MonitorState.OK, [])


def test_a_driver_that_goes_while_its_devices_are_watched_is_no_quiet_matter() -> None:
    monitor = ScriptedMonitor(answer=[card()])
    made = rig(monitor)
    made.step()
    monitor.answer = MonitorFailed("monitor_unavailable", "There is no NVIDIA driver.", None)
    made.step(1.0)
    assert made.kinds() == ["monitor_failed"]
    assert made.sampler.reading().monitors[1].state is MonitorState.FAILED


def test_a_broken_monitor_is_a_failure_with_one_traceback(caplog: pytest.LogCaptureFixture) -> None:
    made = rig(ScriptedMonitor(answer=ZeroDivisionError("division by zero")))
    with caplog.at_level(logging.INFO):
        fail_for(made, 5)
    assert sum(record.exc_info is not None for record in caplog.records) == 1
    told = made.sampler.reading().monitors[1]
    assert (told.code, told.reason) == ("monitor_broken", "ZeroDivisionError: division by zero")


def test_a_question_without_an_answer_is_told_by_the_others() -> None:
    hanging = HangingMonitor()
    made = rig(hanging)
    thread = threading.Thread(target=made.sampler.watches[1].step)
    thread.start()
    assert hanging.asked.wait(PATIENT_S)
    made.hands.now_s += OVERDUE_S
    made.sampler.watches[1].check_overdue()
    assert made.kinds() == []
    made.hands.now_s += 0.1
    for _ in range(3):
        made.sampler.watches[1].check_overdue()
    assert made.kinds() == ["monitor_failed"]
    assert made.sampler.reading().monitors[1].code == "monitor_hangs"
    hanging.go.set()
    thread.join(PATIENT_S)
    assert made.sampler.reading().monitors[1].state is MonitorState.OK
