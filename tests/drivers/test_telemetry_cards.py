"""The sampler over the real monitors and their children, which ask the compiled fake libraries."""

from __future__ import annotations

import gc
import logging
import tracemalloc
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import psutil
import pytest

from drivers.ascend_monitor import AscendMonitor
from drivers.command import minimal_environment
from drivers.nvidia_monitor import NvidiaMonitor
from drivers.telemetry_types import DeviceState, MonitorState
from tests.drivers.ascend_box import Box as AscendBox
from tests.drivers.telemetry_parts import Rig, ScriptedMonitor, card, lost, rig
from tests.fakes.dcmi.scenarios import ascend_910b3_box
from tests.fakes.nvml.build import write_scenario
from tests.fakes.nvml.scenarios import box as nvidia_box
from tests.fakes.nvml.scenarios import h20_box, l20, l20_pair, version_mismatch

PATIENT_S = 60.0


@pytest.fixture
def watch(tmp_path: Path, fake_nvml: Path) -> Iterator[Callable[..., Rig]]:
    """Makes a sampler over a box of that scenario; its child is ended after the test."""
    made: list[Rig] = []

    def make(scenario: Mapping[str, object], *, sample_timeout_s: float = PATIENT_S) -> Rig:
        file = write_scenario(tmp_path / "scenario", scenario)
        environment = minimal_environment(LD_LIBRARY_PATH=str(fake_nvml), FAKE_NVML_SCENARIO=str(file))
        monitor = NvidiaMonitor(tmp_path, environment, start_timeout_s=PATIENT_S, sample_timeout_s=sample_timeout_s)
        made.append(rig(monitor))
        return made[-1]

    yield make
    for one in made:
        one.sampler.stop()


def children() -> set[int]:
    return {child.pid for child in psutil.Process().children(recursive=True)}


def test_sixteen_cards_are_asked_through_one_child(watch: Callable[..., Rig]) -> None:
    before = children()
    made = watch(h20_box(16))
    for _ in range(3):
        made.step(1.0)
    (child,) = children() - before
    reading = made.sampler.reading()
    assert [one.sample.key for one in reading.devices] == [f"nvidia:{number}" for number in range(16)]
    assert {one.state for one in reading.devices} == {DeviceState.PRESENT}
    first = reading.devices[0].sample
    assert (first.memory_total_bytes, first.clock_mhz) == (97871 << 20, 1980)
    (power,) = made.sampler.history(3, 3, ["nvidia:15/power_watts"]).series
    assert power.mean == (117.3, 240.8, 365.1)
    assert made.kinds() == []
    made.sampler.stop()
    assert not psutil.pid_exists(child)


def test_a_card_that_falls_off_the_bus_is_an_event(watch: Callable[..., Rig]) -> None:
    made = watch(nvidia_box(l20(0), l20(1, temperature="41|42|!15")))
    for _ in range(5):
        made.step(1.0)
    assert [(event.kind.value, event.subject) for event in made.sampler.events()] == [("device_lost", "nvidia:1")]
    assert [one.state for one in made.sampler.reading().devices] == [DeviceState.PRESENT, DeviceState.LOST]


def test_a_hanging_library_is_a_failed_monitor_and_a_fresh_child_answers(watch: Callable[..., Rig]) -> None:
    made = watch(nvidia_box(l20(0, utilization="10|20|!hang")), sample_timeout_s=2.0)
    states = []
    for _ in range(4):
        made.step(1.0)
        states.append(made.sampler.reading().monitors[1])
    failed = next(one for one in states if one.state is MonitorState.FAILED)
    assert failed.code == "monitor_timed_out"
    assert "monitor_failed" in made.kinds()
    while made.sampler.reading().monitors[1].state is not MonitorState.OK:
        made.step(1.0)
    assert made.sampler.reading().devices[0].state is DeviceState.PRESENT


def test_a_crash_of_the_library_is_told_and_reaches_nobody(watch: Callable[..., Rig]) -> None:
    made = watch(nvidia_box(l20(0, utilization="10|20|!crash")))
    codes = []
    for _ in range(4):
        made.step(1.0)
        codes.append(made.sampler.reading().monitors[1].code)
    assert codes == [None, None, "monitor_crashed", None]
    (event,) = made.sampler.events()
    assert (event.kind.value, event.subject) == ("monitor_failed", "nvidia")
    assert "SIGSEGV" in event.message


def test_a_mismatch_of_library_and_module_is_told_once(watch: Callable[..., Rig]) -> None:
    made = watch(version_mismatch())
    for _ in range(3):
        made.step(1.0)
    monitor = made.sampler.reading().monitors[1]
    assert (monitor.state, monitor.code, monitor.failures) == (MonitorState.FAILED, "monitor_refused", 3)
    assert made.kinds() == ["monitor_failed"]


def test_a_machine_without_nvidias_library_is_quiet(tmp_path: Path) -> None:
    made = rig(NvidiaMonitor(tmp_path, minimal_environment(), start_timeout_s=PATIENT_S))
    assert made.step()[1] >= 15.0
    assert made.sampler.reading().monitors[1].state is MonitorState.UNAVAILABLE
    assert made.kinds() == []
    made.sampler.stop()


def test_ascend_chips_are_asked_through_dcmi(tmp_path: Path, fake_dcmi: Path) -> None:
    machine = AscendBox(tmp_path)
    machine.ready(2)
    machine.library(fake_dcmi, ascend_910b3_box(2) | {"1.0.aicore": "0|35|90"})
    made = rig(AscendMonitor(tmp_path, search_path="", answer_timeout_s=PATIENT_S))
    for _ in range(3):
        made.step(1.0)
    assert [(one.sample.key, one.state, one.monitor) for one in made.sampler.reading().devices] == [
        ("ascend:0.0", DeviceState.PRESENT, "ascend"),
        ("ascend:1.0", DeviceState.PRESENT, "ascend"),
    ]
    (series,) = made.sampler.history(3, 3, ["ascend:1.0/utilization_percent"]).series
    assert series.mean == (0, 35, 90)
    made.sampler.stop()
    assert made.kinds() == []


def test_load_that_changes_is_seen(watch: Callable[..., Rig]) -> None:
    made = watch(l20_pair())
    seen = set()
    for _ in range(6):
        made.step(1.0)
        seen.add(made.sampler.reading().devices[0].sample.utilization_percent)
    assert seen == {12, 35, 71}


def test_memory_is_flat(monkeypatch: pytest.MonkeyPatch) -> None:
    """Samples, lost devices and events over and over: nothing grows once the rings are full."""
    # The test program keeps all lines of the log.
    monkeypatch.setattr(logging.getLogger("drivers.telemetry_events"), "disabled", True)
    monitor = ScriptedMonitor()
    made = rig(monitor, history_s=60.0)
    answers = [[card(number, power_watts=float(n)) for number in range(15)] for n in range(7)]
    tracemalloc.start()
    try:
        sizes = []
        for _ in range(4):
            for second in range(500):
                # The last card is there for twenty seconds and away for twenty: an event each time.
                monitor.answer = [*answers[second % 7], card(15) if second // 20 % 2 else lost(15)]
                made.step(1.0)
                made.sampler.reading()
            made.sampler.history(60, 30)
            gc.collect()
            ours = tracemalloc.take_snapshot().filter_traces([tracemalloc.Filter(True, "*/drivers/*")])
            sizes.append(sum(trace.size for trace in ours.traces))
    finally:
        tracemalloc.stop()
    assert made.kinds().count("device_back") > 40
    # A hundred events (of a thousand that are kept) and nothing else: with values that pile up it were megabytes.
    assert sizes[-1] - sizes[0] < 100_000, sizes
