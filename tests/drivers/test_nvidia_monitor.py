"""Watching NVIDIA cards: one child that is asked again and again, against the compiled library."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.command import minimal_environment
from drivers.errors import MonitorFailed
from drivers.nvidia import NvidiaProbe
from drivers.nvidia_monitor import NvidiaMonitor, samples
from drivers.nvidia_reading import NvmlSample, NvmlStart, child_argv, parse_watch_line
from drivers.types import DeviceSample, Health
from tests.drivers.conftest import HOST_MEMORY
from tests.fakes.nvml import scenarios
from tests.fakes.nvml.build import LIBRARY_NAME, OLD_DRIVER, build_fake_nvml, write_scenario

GIB, MIB = 1 << 30, 1 << 20
PATIENCE_S = 60.0
"""A child that ends ends at once; a busy machine may be late in saying so."""

Watch = Callable[..., NvidiaMonitor]


@pytest.fixture
def watch(tmp_path: Path, fake_nvml: Path) -> Iterator[Watch]:
    """Makes a monitor of the given scenario; all are closed at the end."""
    made: list[NvidiaMonitor] = []

    def make(scenario: dict[str, object], *, library: Path = fake_nvml, **settings: float) -> NvidiaMonitor:
        limits = {"start_timeout_s": PATIENCE_S, "sample_timeout_s": PATIENCE_S} | settings
        monitor = NvidiaMonitor(
            tmp_path, environment=environment(tmp_path, scenario, library), host_memory=lambda: HOST_MEMORY, **limits
        )
        made.append(monitor)
        return monitor

    yield make
    for monitor in made:
        monitor.close()


def environment(folder: Path, scenario: dict[str, object], library: Path) -> dict[str, str]:
    path = write_scenario(folder / "scenario", scenario)
    return minimal_environment(LD_LIBRARY_PATH=str(library), FAKE_NVML_SCENARIO=str(path))


def test_figures_change_from_sample_to_sample(watch: Watch) -> None:
    monitor = watch(
        scenarios.box(
            scenarios.l20(
                utilization="12|35|71",
                temperature="41|60|83",
                power="72500|201000|274900",
                throttle="1|1|64",
                free=f"{40 * GIB}|{20 * GIB}|{2 * GIB}",
            )
        )
    )
    found = [monitor.sample() for _ in range(4)]
    total = 46068 * MIB
    assert found[0] == (
        DeviceSample(
            key="nvidia:0",
            health=Health.OK,
            utilization_percent=12,
            memory_used_bytes=total - 40 * GIB,
            memory_total_bytes=total,
            temperature_celsius=41,
            power_watts=72.5,
            clock_mhz=2520,
        ),
    )
    assert [one.utilization_percent for (one,) in found] == [12, 35, 71, 71]
    assert [one.power_watts for (one,) in found] == [72.5, 201, 274.9, 274.9]
    assert [one.throttle_reasons for (one,) in found] == [(), (), ("hw_thermal",), ("hw_thermal",)]
    assert [one.health for (one,) in found] == [Health.OK, Health.OK, Health.WARNING, Health.WARNING]
    assert found[2][0].memory_used_bytes == total - 2 * GIB


@pytest.mark.parametrize("scenario", [scenarios.h20_box(), scenarios.mig_a100(), scenarios.gb10(), scenarios.t4()])
def test_keys_are_those_of_the_devices(
    tmp_path: Path, fake_nvml: Path, watch: Watch, scenario: dict[str, object]
) -> None:
    probe = NvidiaProbe(tmp_path, 20.0, environment(tmp_path, scenario, fake_nvml), host_memory=lambda: HOST_MEMORY)
    assert [one.key for one in watch(scenario).sample()] == [device.key for device in probe.probe().devices]


def test_mig_instances_have_their_own_memory(watch: Watch) -> None:
    monitor = watch(scenarios.mig_a100() | {"0.mig.3.handle": "0|4"})
    first = {one.key: one for one in monitor.sample()}
    second = {one.key: one for one in monitor.sample()}
    assert first["nvidia:0.0"].memory_used_bytes == 38 * MIB
    assert second["nvidia:0.0"].memory_used_bytes == 7968 * MIB
    assert first["nvidia:0.0"].utilization_percent is None
    assert first["nvidia:0"].utilization_percent is None
    assert first["nvidia:0.3"].memory_total_bytes == 19968 * MIB
    assert second["nvidia:0.3"] == DeviceSample("nvidia:0.3", "It gives no answer: error 4 (no permission).")


def test_gb10_uses_the_hosts_memory(watch: Watch) -> None:
    (sample,) = watch(scenarios.gb10()).sample()
    assert sample.memory_total_bytes == HOST_MEMORY.total_bytes
    assert sample.memory_used_bytes == 28 << 30


def test_another_card_without_memory_figures_stays_unknown(watch: Watch) -> None:
    (sample,) = watch(scenarios.box(scenarios.l20(memory=3))).sample()
    assert (sample.memory_total_bytes, sample.memory_used_bytes) == (None, None)


def test_a_card_that_falls_off_the_bus_is_told_and_the_others_go_on(watch: Watch) -> None:
    cards = [scenarios.l20(0), scenarios.l20(1, temperature="41|!15")]
    monitor = watch(scenarios.box(*cards))
    assert [one.problem for one in monitor.sample()] == [None, None]
    good, lost = monitor.sample()
    assert (good.problem, good.health) == (None, Health.OK)
    assert lost == DeviceSample("nvidia:1", "It gives no answer: error 15 (GPU is lost).", Health.CRITICAL)


def test_a_card_without_a_handle_is_asked_again(watch: Watch) -> None:
    monitor = watch(scenarios.box(scenarios.l20(handle="15|15|0")))
    assert [monitor.sample()[0].problem is None for _ in range(3)] == [False, False, True]


def test_the_library_is_started_anew_when_a_card_stays_silent(watch: Watch) -> None:
    """The fake's first value comes back with a new child, as a reset card does."""
    monitor = watch(scenarios.box(scenarios.l20(temperature="41|!15|!15|!15|!15|!15|!15")), troubled_samples=3)
    silent = [monitor.sample()[0].problem is not None for _ in range(9)]
    assert silent == [False, True, True, True, False, True, True, True, False]


def test_what_a_card_does_not_have_is_asked_once(watch: Watch) -> None:
    """The second answer would be another one."""
    monitor = watch(scenarios.box(scenarios.l20(power="!3|90000", temperature="!13|50", utilization="!999|30")))
    for expected in (None, 30):
        (sample,) = monitor.sample()
        assert (sample.power_watts, sample.temperature_celsius) == (None, None)
        assert sample.utilization_percent == expected


def test_an_old_driver_is_watched_as_well(tmp_path: Path, watch: Watch) -> None:
    (tmp_path / "old").mkdir()
    library = build_fake_nvml(tmp_path / "old", defines=OLD_DRIVER).parent
    monitor = watch(scenarios.t4(throttle="1|32"), library=library)
    assert monitor.sample()[0].throttle_reasons == ()
    assert monitor.sample()[0].throttle_reasons == ("sw_thermal",)


def test_what_the_library_prints_does_not_disturb(watch: Watch) -> None:
    monitor = watch(scenarios.l20_pair() | {"chatter": 1})
    assert [len(monitor.sample()) for _ in range(3)] == [2, 2, 2]


def refused(monitor: NvidiaMonitor) -> MonitorFailed:
    with pytest.raises(MonitorFailed) as caught:
        monitor.sample()
    assert caught.value.hint
    return caught.value


@pytest.mark.parametrize("code", [9, 18, 4, 999])
def test_a_library_that_does_not_start(watch: Watch, code: int) -> None:
    error = refused(watch({"init": code}))
    assert error.code == "monitor_refused"
    assert f"error {code}" in error.message


def test_no_library(tmp_path: Path, watch: Watch) -> None:
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / LIBRARY_NAME).write_bytes(b"")
    assert refused(watch({}, library=tmp_path / "none")).code == "monitor_unavailable"


def test_an_interpreter_that_is_not_there(monkeypatch: pytest.MonkeyPatch, watch: Watch) -> None:
    monkeypatch.setattr("sys.executable", "/nonexistent/python")
    assert refused(watch(scenarios.t4())).code == "monitor_unavailable"


def test_a_hanging_library_costs_the_limit_and_the_next_call_begins_anew(tmp_path: Path, watch: Watch) -> None:
    monitor = watch(scenarios.box(scenarios.l20(temperature="41|!hang")), sample_timeout_s=1.0)
    monitor.sample_timeout_s = PATIENCE_S
    monitor.sample()
    monitor.sample_timeout_s = 0.3
    assert refused(monitor).code == "monitor_timed_out"
    monitor.sample_timeout_s = PATIENCE_S
    assert monitor.sample()[0].temperature_celsius == 41


def test_a_library_that_hangs_at_its_start(watch: Watch) -> None:
    assert refused(watch({"hang": "nvmlInitWithFlags"}, start_timeout_s=0.3)).code == "monitor_timed_out"


def test_a_crash_costs_one_sample(watch: Watch) -> None:
    monitor = watch(scenarios.box(scenarios.l20(temperature="41|!crash")))
    monitor.sample()
    error = refused(monitor)
    assert error.code == "monitor_crashed"
    assert "SIGSEGV" in error.message
    assert monitor.sample()[0].temperature_celsius == 41


@pytest.mark.parametrize(
    "script",
    ["print('hello')", 'input(print(\'{"kind":"start"}\', flush=True)); print("hello")'],
    ids=["start", "sample"],
)
def test_a_child_that_says_something_else(monkeypatch: pytest.MonkeyPatch, watch: Watch, script: str) -> None:
    argv = [sys.executable, "-I", "-c", f"{script}; import sys; sys.stdout.flush(); sys.stdin.read()"]
    monkeypatch.setattr("drivers.nvidia_monitor.child_argv", lambda *, watch: argv)
    assert refused(watch({})).code == "monitor_crashed"


def test_closing_twice_and_watching_again(watch: Watch) -> None:
    monitor = watch(scenarios.t4())
    monitor.close()
    monitor.sample()
    monitor.close()
    monitor.close()
    assert len(monitor.sample()) == 1


@pytest.mark.parametrize("hang", ["", "nvmlInitWithFlags", "nvmlDeviceGetTemperature"])
def test_the_end_of_the_input_ends_the_child_even_while_it_hangs(tmp_path: Path, fake_nvml: Path, hang: str) -> None:
    scenario = scenarios.t4() | {"hang": hang}
    child = subprocess.Popen(
        child_argv(watch=True),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment(tmp_path, scenario, fake_nvml),
    )
    try:
        assert child.stdin is not None
        child.stdin.write(b"sample\n")
        child.stdin.close()
        assert child.wait(PATIENCE_S) == 0
    finally:
        child.kill()
        child.wait()
        assert child.stdout is not None
        child.stdout.close()


@given(
    st.one_of(
        st.text(),
        st.sampled_from(
            ['{"kind":"start","error":9}', '{"kind":"sample"}', '{"kind":"sample","cards":[{}]}', "[" * 9999]
        ),
    )
)
def test_any_line_is_read_without_an_exception(line: str) -> None:
    record = parse_watch_line(line)
    assert record is None or isinstance(record, NvmlStart | NvmlSample)


CARD_FIELDS = {
    "error": st.none() | st.integers(0, 1000),
    "errors": st.dictionaries(st.text(max_size=9), st.integers(0, 1000), max_size=3),
    "name": st.none() | st.text(max_size=9) | st.just("NVIDIA GB10"),
    "memory_total_bytes": st.none() | st.integers(0, 1 << 40),
    "memory_free_bytes": st.none() | st.integers(0, 1 << 40),
    "power_milliwatts": st.none() | st.integers(),
    "throttle_mask": st.none() | st.integers(),
    "recovery_action": st.none() | st.integers(),
    "instances": st.lists(st.fixed_dictionaries({"instance": st.integers(0, 9)}), max_size=3),
}


@given(st.lists(st.fixed_dictionaries({"index": st.integers(0, 20)}, optional=CARD_FIELDS), max_size=4))
def test_any_figures_become_samples(cards: list[dict[str, object]]) -> None:
    record = parse_watch_line(json.dumps({"kind": "sample", "cards": cards}))
    # Numbers beyond 64 bits are none of NVML's.
    if isinstance(record, NvmlSample):
        found = samples(record, lambda: HOST_MEMORY)
        assert len(found) >= len(cards)
        assert all(one.memory_used_bytes is None or one.memory_used_bytes >= 0 for one in found)
