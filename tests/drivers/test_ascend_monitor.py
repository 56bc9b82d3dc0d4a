"""The Ascend monitor: the real watching child with the fake library, and npu-smi where there is no library."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from drivers.ascend_monitor import LIBRARY_INTERVAL_S, TOOL_INTERVAL_S, AscendMonitor
from drivers.errors import MonitorFailed
from drivers.types import DeviceSample, Health
from tests.drivers.ascend_box import FIXTURES, Box, prints
from tests.drivers.conftest import HANG_LIMITS_S
from tests.fakes.dcmi.build import build_fake_dcmi, build_needed
from tests.fakes.dcmi.scenarios import (
    ascend_310b_box,
    ascend_910b3_box,
    ascend_950_box,
    ascend_a3_box,
    atlas_300i_duo_box,
    crashing,
    failing_init,
    hanging,
    lost_chip,
)

Make = Callable[..., AscendMonitor]
MIB = 1 << 20
A2 = FIXTURES / "910b2c-23.0.2.1-info.txt"


class Clock:
    """Seconds that pass only when they are told to."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def box(tmp_path: Path) -> Box:
    return Box(tmp_path)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def monitors() -> Iterator[list[AscendMonitor]]:
    made: list[AscendMonitor] = []
    yield made
    for monitor in made:
        monitor.close()


@pytest.fixture
def make(box: Box, clock: Clock, monitors: list[AscendMonitor]) -> Make:
    """Makes a monitor of the box that is closed after the test."""

    def begin(answer_timeout_s: float = 60.0) -> AscendMonitor:
        monitor = AscendMonitor(box.root, search_path="", answer_timeout_s=answer_timeout_s, clock=clock)
        monitors.append(monitor)
        return monitor

    return begin


def failure(monitor: AscendMonitor) -> MonitorFailed:
    with pytest.raises(MonitorFailed) as caught:
        monitor.sample()
    return caught.value


@pytest.mark.parametrize(
    "scenario",
    [ascend_910b3_box(), atlas_300i_duo_box(), ascend_a3_box(2), ascend_310b_box(), ascend_950_box(2)],
)
def test_samples_have_the_keys_of_the_devices(
    box: Box, make: Make, fake_dcmi: Path, scenario: dict[str, object]
) -> None:
    box.library(fake_dcmi, scenario)
    box.nodes(1)
    devices = {device.key: device for device in box.probe().devices}
    samples = {sample.key: sample for sample in make().sample()}
    assert samples.keys() == devices.keys()
    for key, device in devices.items():
        sample = samples[key]
        assert device.memory_total_bytes is not None
        assert device.memory_free_bytes is not None
        assert (sample.memory_total_bytes, sample.memory_used_bytes) == (
            device.memory_total_bytes,
            device.memory_total_bytes - device.memory_free_bytes,
        )
        assert (sample.health, sample.temperature_celsius, sample.power_watts, sample.clock_mhz) == (
            device.health,
            device.temperature_celsius,
            device.power_watts,
            device.clock_mhz,
        )


def test_one_child_answers_again_and_again(box: Box, make: Make, fake_dcmi: Path) -> None:
    box.library(fake_dcmi, ascend_910b3_box(1) | {"0.0.temperature": "40|50|60"})
    monitor = make()
    assert monitor.interval_s == LIBRARY_INTERVAL_S
    assert [monitor.sample()[0].temperature_celsius for _ in range(3)] == [40, 50, 60]


def test_lost_chip_has_a_problem(box: Box, make: Make, fake_dcmi: Path) -> None:
    box.library(fake_dcmi, lost_chip(ascend_910b3_box(2), "1.0"))
    good, lost = make().sample()
    assert (good.problem, good.health) == (None, Health.OK)
    assert lost == DeviceSample("ascend:1.0", problem="the driver gives no answer (DCMI -8008)")


def test_hang_is_told_and_the_next_call_begins_anew(box: Box, make: Make, fake_dcmi: Path) -> None:
    box.library(fake_dcmi, hanging(ascend_910b3_box(1), "dcmi_get_device_health", call=2))
    for limit_s in HANG_LIMITS_S:
        monitor = make(limit_s)
        told: list[str] = []
        for _ in range(3):
            try:
                told.append(monitor.sample()[0].key)
            except MonitorFailed as error:
                told.append(error.code)
        if told[0] == told[2] == "ascend:0.0":
            break  # else the machine was too busy for this limit
    assert told == ["ascend:0.0", "monitor_timed_out", "ascend:0.0"]


def test_crash_is_told(box: Box, make: Make, fake_dcmi: Path) -> None:
    box.library(fake_dcmi, crashing(ascend_910b3_box(1), "dcmi_get_device_temperature"))
    assert failure(make()).code == "monitor_crashed"


def test_refused_start_is_told(box: Box, make: Make, fake_dcmi: Path) -> None:
    box.library(fake_dcmi, failing_init())
    box.tool(prints(info=A2))
    refused = failure(make())
    assert refused.code == "monitor_refused"
    assert "-8005" in refused.message


def test_nothing_to_watch_with(box: Box, make: Make, fake_dcmi: Path) -> None:
    monitor = make()
    assert failure(monitor).code == "monitor_unavailable"
    box.library(fake_dcmi, ascend_910b3_box(1))
    assert monitor.sample()[0].key == "ascend:0.0", "a driver that was installed meanwhile is found"


def test_library_that_cannot_be_loaded(box: Box, make: Make, tmp_path: Path) -> None:
    folder = tmp_path / "built"
    folder.mkdir()
    library = build_fake_dcmi(folder, needs=build_needed(folder))
    (folder / "libc_sec.so").unlink()
    box.library(library, ascend_910b3_box(1))
    missing = failure(make())
    assert missing.code == "monitor_unavailable"
    assert "libc_sec.so" in missing.message
    box.tool(prints(info=A2))
    monitor = make()
    assert [sample.key for sample in monitor.sample()] == ["ascend:0.0", "ascend:1.0"]
    assert monitor.interval_s == TOOL_INTERVAL_S


def test_tool_is_started_every_five_seconds_at_most(box: Box, make: Make, clock: Clock) -> None:
    box.tool(f"echo x >> '{box.root}/started'\n" + prints(info=A2))
    monitor = make()
    assert monitor.interval_s == TOOL_INTERVAL_S
    first = monitor.sample()
    assert first[0] == DeviceSample(
        "ascend:0.0",
        health=Health.OK,
        utilization_percent=0,
        memory_used_bytes=20701 * MIB,
        memory_total_bytes=65536 * MIB,
        temperature_celsius=51,
        power_watts=88.6,
    )
    clock.now_s += TOOL_INTERVAL_S - 1
    assert monitor.sample() == first
    assert (box.root / "started").read_text() == "x\n"
    clock.now_s += 1
    assert monitor.sample() == first
    assert (box.root / "started").read_text() == "x\nx\n"


def test_power_of_a_card_stands_once(box: Box, make: Make) -> None:
    box.tool(prints(info=FIXTURES / "a3-910c-25.2.0-info.txt"))
    assert [sample.power_watts for sample in make().sample()] == [162.8, None, 167.1, None]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("kill -SEGV $$", "monitor_crashed"),
        ("exit 3", "monitor_crashed"),
        (f"tail -n +2 '{FIXTURES / 'error-8005-in-container.txt'}'; exit 251", "monitor_refused"),
    ],
)
def test_tool_that_fails(box: Box, make: Make, body: str, code: str) -> None:
    box.tool(body)
    monitor = make()
    assert failure(monitor).code == code
    box.tool(prints(info=A2))
    assert len(monitor.sample()) == 2


def test_closing_twice_is_nothing(box: Box, make: Make, fake_dcmi: Path) -> None:
    box.library(fake_dcmi, ascend_910b3_box(1))
    monitor = make()
    monitor.close()
    monitor.sample()
    monitor.close()
    monitor.close()
    assert monitor.sample()[0].key == "ascend:0.0"
