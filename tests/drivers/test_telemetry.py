"""The sampler, a step at a time: what it tells of devices and monitors that come, go, fail and hang."""

from __future__ import annotations

import threading

import pytest

from drivers.telemetry import HOST, Sampler, UnknownSeries
from drivers.telemetry_devices import MOST_DEVICES
from drivers.telemetry_events import SETTLE_S
from drivers.telemetry_history import DEVICE_FIELDS, HOST_FIELDS
from drivers.telemetry_types import DeviceState, MonitorState
from drivers.types import DeviceSample, Health
from tests.drivers.telemetry_parts import (
    START_AT_S,
    HangingMonitor,
    ScriptedHost,
    ScriptedMonitor,
    card,
    lost,
    rig,
)

PATIENT_S = 60.0


def test_before_the_first_sample_nothing_is_known() -> None:
    reading = rig(ScriptedMonitor()).sampler.reading()
    assert (reading.host, reading.devices) == (None, ())
    assert [(one.name, one.state) for one in reading.monitors] == [
        ("host", MonitorState.WAITING),
        ("nvidia", MonitorState.WAITING),
    ]


def test_a_step_reads_host_and_devices() -> None:
    made = rig(ScriptedMonitor(answer=[card(0), card(1)]))
    assert made.step(2.0) == [1.0, 1.0]
    reading = made.sampler.reading()
    assert reading.at_s == START_AT_S + 2
    assert reading.host is not None
    assert reading.host.cpu_percent == 12.5
    assert [(one.sample, one.state, one.monitor, one.told_at_s) for one in reading.devices] == [
        (card(0), DeviceState.PRESENT, "nvidia", START_AT_S + 2),
        (card(1), DeviceState.PRESENT, "nvidia", START_AT_S + 2),
    ]
    assert {one.state for one in reading.monitors} == {MonitorState.OK}
    assert made.kinds() == []


def test_values_that_are_five_intervals_old_are_unknown() -> None:
    monitor = ScriptedMonitor(answer=[card()])
    made = rig(monitor)
    made.step()
    made.hands.now_s += 5.0
    assert made.sampler.reading().devices[0].sample == card()
    made.hands.now_s += 0.1
    reading = made.sampler.reading()
    assert reading.host is None
    (device,) = reading.devices
    assert (device.state, device.sample.utilization_percent, device.sample.health) == (
        DeviceState.UNKNOWN,
        None,
        Health.UNKNOWN,
    )
    assert device.sample.problem == "There is no sample since 5 s."
    assert device.told_at_s == START_AT_S


def test_a_slow_monitor_keeps_its_own_pace() -> None:
    made = rig(ScriptedMonitor("ascend", interval_s=5.0, answer=[card()]))
    assert made.step() == [1.0, 5.0]
    made.hands.now_s += 24.0
    assert made.sampler.reading().devices[0].state is DeviceState.PRESENT
    made.hands.now_s += 2.0
    assert made.sampler.reading().devices[0].state is DeviceState.UNKNOWN


def test_a_monitor_may_change_its_pace() -> None:
    monitor = ScriptedMonitor("ascend", interval_s=1.0, answer=[card()])
    made = rig(monitor)
    assert made.step() == [1.0, 1.0]
    monitor.interval_s = 5.0
    assert made.step(1.0) == [1.0, 4.0]
    assert made.step(4.0) == [1.0, 5.0]
    assert made.sampler.reading().monitors[1].interval_s == 5.0
    made.hands.now_s += 24.0
    assert made.sampler.reading().devices[0].state is DeviceState.PRESENT


def test_the_setting_slows_all_down() -> None:
    assert rig(ScriptedMonitor(), ScriptedMonitor("ascend", 30.0), interval_s=10.0).step() == [10.0, 10.0, 30.0]


def test_questions_keep_their_beat_whatever_the_answers_take() -> None:
    made = rig()
    host = made.sampler.watches[0]
    took_s = [0.25, 0.0, 1.5, 0.5]

    def answering() -> None:
        made.hands.now_s += took_s.pop(0)

    host._source.on_sample = answering  # type: ignore[attr-defined]
    starts = []
    for _ in range(4):
        starts.append(made.hands.now_s)
        pause_s = host.step()
        made.hands.now_s += pause_s
    assert starts == [1000.0, 1001.0, 1002.0, 1004.0]


@pytest.mark.parametrize("gone", [[lost(0), card(1)], [card(1)]], ids=["no answer", "not listed"])
def test_a_device_that_goes_is_told_once_and_so_is_its_return(gone: list[DeviceSample]) -> None:
    monitor = ScriptedMonitor(answer=[card(0), card(1)])
    made = rig(monitor)
    made.step()
    monitor.answer = gone
    for _ in range(30):
        made.step(1.0)
    assert made.kinds() == ["device_lost"]
    devices = {one.sample.key: one for one in made.sampler.reading().devices}
    assert devices["nvidia:0"].state is DeviceState.LOST
    assert devices["nvidia:0"].sample == DeviceSample("nvidia:0", problem=devices["nvidia:0"].sample.problem)
    assert devices["nvidia:1"].sample == card(1)
    monitor.answer = [card(0), card(1)]
    made.step(1.0)
    assert made.sampler.reading().devices[0].state is DeviceState.PRESENT
    assert made.kinds() == ["device_lost"]
    for _ in range(int(SETTLE_S)):
        made.step(1.0)
    assert made.kinds() == ["device_lost", "device_back"]
    assert [event.subject for event in made.sampler.events()] == ["nvidia:0"] * 2


def test_the_reason_of_a_lost_device_is_told() -> None:
    made = rig(ScriptedMonitor(answer=[lost(3, "Xid 79: it has fallen off the bus.")]))
    made.step()
    (event,) = made.sampler.events()
    assert event.message == "nvidia:3 gives no answer: Xid 79: it has fallen off the bus."
    assert event.severity == "error"
    assert event.at_s == START_AT_S


def test_a_device_that_comes_and_goes_does_not_fill_the_list() -> None:
    monitor = ScriptedMonitor(answer=[card()])
    made = rig(monitor)
    for number in range(600):
        monitor.answer = [card() if number % 2 else lost()]
        made.step(1.0)
    assert made.kinds() == ["device_lost"]


def test_a_device_that_appears_later_is_told() -> None:
    monitor = ScriptedMonitor(answer=[])
    made = rig(monitor)
    made.step()
    monitor.answer = [card(0)]
    made.step(1.0)
    assert made.kinds() == ["device_found"]


def test_values_of_a_sample_with_a_problem_are_not_believed() -> None:
    made = rig(ScriptedMonitor(answer=[card(problem="gone", throttle_reasons=("hw_slowdown",))]))
    made.step()
    assert made.sampler.reading().devices[0].sample == DeviceSample("nvidia:0", problem="gone")
    (series,) = made.sampler.history(60, 1, ["nvidia:0/power_watts"]).series
    assert series.mean == (None,)


def test_worse_health_is_told_at_once_and_unknown_is_no_news() -> None:
    monitor = ScriptedMonitor(answer=[card()])
    made = rig(monitor)
    made.step()
    for health in (Health.UNKNOWN, Health.WARNING, Health.UNKNOWN, Health.CRITICAL):
        monitor.answer = [card(health=health)]
        made.step(1.0)
    monitor.answer = [card()]
    for _ in range(20):
        made.step(1.0)
    assert [(event.message, event.severity.value) for event in made.sampler.events()] == [
        ("The health of nvidia:0 is now warning.", "warning"),
        ("The health of nvidia:0 is now critical.", "error"),
        ("The health of nvidia:0 is now ok.", "info"),
    ]


def test_throttling_is_told_when_it_starts_gets_worse_and_ends() -> None:
    monitor = ScriptedMonitor(answer=[card()])
    made = rig(monitor)
    made.step()
    for reasons in (("hw_thermal",), ("hw_power_brake", "hw_thermal"), ("hw_thermal",)):
        monitor.answer = [card(throttle_reasons=reasons)]
        for _ in range(20):
            made.step(1.0)
    monitor.answer = [card()]
    for _ in range(20):
        made.step(1.0)
    assert [(event.kind.value, event.message) for event in made.sampler.events()] == [
        ("throttle_started", "nvidia:0 slows itself down: hw_thermal."),
        ("throttle_started", "nvidia:0 slows itself down: hw_power_brake, hw_thermal."),
        ("throttle_ended", "nvidia:0 no longer slows itself down."),
    ]
    (series,) = made.sampler.history(81, 81, ["nvidia:0/throttled"]).series
    assert series.mean == (None,) + (1,) * 60 + (0,) * 20


def test_a_monitor_that_tells_ever_new_names_has_a_bound() -> None:
    monitor = ScriptedMonitor()
    made = rig(monitor)
    for number in range(3 * MOST_DEVICES):
        monitor.answer = [DeviceSample(f"nvidia:{number}", power_watts=1.0)]
        made.step(1.0)
    assert len(made.sampler.reading().devices) == MOST_DEVICES
    assert made.sampler.reading().devices[0].sample.key == f"nvidia:{3 * MOST_DEVICES - 1}"


def test_a_hanging_monitor_holds_up_neither_the_others_nor_the_end() -> None:
    hanging, steady, sampled = HangingMonitor(), ScriptedMonitor(answer=[card()]), threading.Event()

    def counting() -> None:
        if steady.asked > 2:
            sampled.set()

    sampler = Sampler([hanging, steady], ScriptedHost(on_sample=counting), interval_s=0.01)
    sampler.start()
    assert hanging.asked.wait(PATIENT_S)
    assert sampled.wait(PATIENT_S)
    assert sampler.reading().devices[0].sample == card()
    assert not sampler.stop(timeout_s=0.1)
    assert steady.closed == 1
    hanging.go.set()
    assert sampler.stop(timeout_s=PATIENT_S)


def test_it_starts_once_and_ends_without_having_started() -> None:
    monitor = ScriptedMonitor()
    sampler = rig(monitor).sampler
    assert sampler.stop()
    assert monitor.closed == 1
    with pytest.raises(RuntimeError, match="once"):
        sampler.start()


def test_threads_end_with_it() -> None:
    sampler = Sampler([ScriptedMonitor()], ScriptedHost())
    sampler.start()
    assert {f"telemetry-{name}" for name in ("host", "nvidia")} <= {thread.name for thread in threading.enumerate()}
    assert sampler.stop(PATIENT_S)
    assert not any(thread.name.startswith("telemetry-") for thread in threading.enumerate())


def test_history_has_every_series_or_the_named_ones() -> None:
    made = rig(ScriptedMonitor(answer=[card(0), card(1)]))
    for _ in range(10):
        made.step(1.0)
    every = made.sampler.history(60, 6)
    assert [(one.subject, one.field) for one in every.series] == [
        *((HOST, field) for field in HOST_FIELDS),
        *((f"nvidia:{number}", field) for number in (0, 1) for field in DEVICE_FIELDS),
    ]
    some = made.sampler.history(60, 6, ["nvidia:1", "host/cpu_percent"])
    assert [(one.subject, one.field) for one in some.series] == [
        *(("nvidia:1", field) for field in DEVICE_FIELDS),
        (HOST, "cpu_percent"),
    ]
    assert some.series[-1].mean[-1] == 12.5
    assert some.series[0].maximum[-1] == 51.0
    assert some.start_at_s + some.step_s * some.buckets > START_AT_S + 10


@pytest.mark.parametrize("name", ["nvidia:9", "host/colour", "", "nvidia:0/"])
def test_a_series_that_there_is_none_of_is_an_error(name: str) -> None:
    made = rig(ScriptedMonitor(answer=[card(0)]))
    made.step()
    with pytest.raises(UnknownSeries) as caught:
        made.sampler.history(60, 6, ["host", name])
    assert (caught.value.http_status, caught.value.details["param"]) == (400, "series")
