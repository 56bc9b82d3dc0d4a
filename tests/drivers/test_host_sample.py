"""The host's sample, from trees of files and from the real machine."""

from __future__ import annotations

import math
from dataclasses import fields
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest

from drivers.host_sample import HostSampler
from drivers.telemetry_types import HostSample


class Counters(NamedTuple):
    bytes_recv: int
    bytes_sent: int


class Times(NamedTuple):
    user: float
    nice: float
    system: float
    idle: float
    iowait: float
    guest: float
    guest_nice: float


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_the_real_machine(tmp_path: Path) -> None:
    sampler = HostSampler(tmp_path)
    sampler.sample()
    sample = sampler.sample()
    assert sample.memory_total_bytes is not None
    assert sample.memory_used_bytes is not None
    assert 0 < sample.memory_used_bytes <= sample.memory_total_bytes
    assert sample.disk_free_bytes is not None
    assert sample.load_1 is not None
    for field in fields(HostSample):
        value = getattr(sample, field.name)
        assert value is None or (value >= 0 and math.isfinite(value)), field.name
    assert sample.cpu_percent is None or sample.cpu_percent <= 100
    sampler.close()


def test_a_machine_that_tells_nothing_is_unknown_not_zero(tmp_path: Path) -> None:
    sample = HostSampler(tmp_path / "no such folder", tmp_path).sample()
    assert (sample.cpu_percent, sample.swap_used_bytes, sample.swap_total_bytes) == (None, None, None)
    assert (sample.disk_used_bytes, sample.disk_free_bytes) == (None, None)
    assert (sample.network_in_bytes_per_s, sample.cpu_temperature_celsius) == (None, None)


def test_processor_use_is_busy_time_between_two_samples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sampler = HostSampler(tmp_path, tmp_path)
    told = [
        Times(100, 0, 50, 800, 50, 10, 0),
        Times(125, 0, 50, 815, 60, 20, 0),  # 25 of 50 seconds busy; a guest's time is part of user's
        Times(125, 0, 50, 815, 60, 20, 0),
        Times(125, 0, 50, 810, 60, 20, 0),  # idle time may run backwards on some kernels
    ]
    shares = []
    for times in told:
        monkeypatch.setattr(psutil, "cpu_times", lambda times=times: times)
        shares.append(sampler.sample().cpu_percent)
    assert shares == [None, 50.0, None, None]


def test_memory_is_what_the_group_may_use(tmp_path: Path) -> None:
    group = "sys/fs/cgroup"
    write(
        tmp_path,
        {
            "proc/self/mountinfo": "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw",
            "proc/self/cgroup": "0::/\n",
            f"{group}/memory.max": "1000000",
            f"{group}/memory.current": "400000",
            f"{group}/memory.stat": "inactive_file 100000\n",
            "proc/meminfo": "MemTotal: 5 kB\nSwapTotal:  2048 kB\nSwapFree:  1024 kB\n",
        },
    )
    sample = HostSampler(tmp_path, tmp_path).sample()
    assert (sample.memory_used_bytes, sample.memory_total_bytes) == (300_000, 1_000_000)
    assert (sample.swap_used_bytes, sample.swap_total_bytes) == (1 << 20, 2 << 20)


def rates(
    root: Path, monkeypatch: pytest.MonkeyPatch, told: list[dict[str, Counters]]
) -> list[tuple[float | None, float | None]]:
    """Two seconds lie between the samples."""
    clock = Clock()
    sampler = HostSampler(root, root, monotonic=clock)
    found = []
    for counters in told:
        monkeypatch.setattr(psutil, "net_io_counters", lambda pernic, counters=counters: counters)
        sample = sampler.sample()
        found.append((sample.network_in_bytes_per_s, sample.network_out_bytes_per_s))
        clock.now_s += 2
    return found


def test_network_is_the_sum_of_the_hardware(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("eth0/device", "eth1/device", "br0", "veth1", "eth0v3/device/physfn", "lo"):
        (tmp_path / "sys/class/net" / name).mkdir(parents=True)
    names = ("lo", "eth0", "eth1", "br0", "veth1", "eth0v3")
    told = [{name: Counters(n, 10 * n) for name in names} for n in (1000, 3000)]
    told.append({name: Counters(10, 100) for name in names})  # a counter that began anew
    told.append({name: Counters(30, 100) for name in names})
    told.append({name: Counters(40, 200) for name in names[:-1]})  # an interface went
    found = rates(tmp_path, monkeypatch, told)
    assert found == [(None, None), (2000.0, 20_000.0), (None, None), (20.0, 0.0), (None, None)]


def test_in_a_container_all_but_the_loopback_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = [{"lo": Counters(n * 9, n * 9), "eth0": Counters(n, n)} for n in (0, 10)]
    assert rates(tmp_path, monkeypatch, told)[1] == (5.0, 5.0)


def test_without_interfaces_the_network_is_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert rates(tmp_path, monkeypatch, [{"lo": Counters(1, 1)}, {"lo": Counters(2, 2)}]) == [(None, None)] * 2


def test_the_hottest_sensor_of_the_processor(tmp_path: Path) -> None:
    hwmon = "sys/class/hwmon"
    write(
        tmp_path,
        {
            f"{hwmon}/hwmon0/name": "nvme\n",
            f"{hwmon}/hwmon0/temp1_input": "91000\n",
            f"{hwmon}/hwmon1/name": "coretemp\n",
            f"{hwmon}/hwmon1/temp1_input": "54000\n",
            f"{hwmon}/hwmon1/temp2_input": "61500\n",
            f"{hwmon}/hwmon1/temp3_input": "-128000\n",
            f"{hwmon}/hwmon1/temp4_input": "nonsense\n",
        },
    )
    assert HostSampler(tmp_path, tmp_path).sample().cpu_temperature_celsius == 61.5


def test_a_thermal_zone_where_there_is_no_sensor(tmp_path: Path) -> None:
    zone = "sys/class/thermal/thermal_zone"
    write(
        tmp_path,
        {
            f"{zone}0/type": "acpitz\n",
            f"{zone}0/temp": "99000",
            f"{zone}1/type": "x86_pkg_temp",
            f"{zone}1/temp": "48000",
        },
    )
    assert HostSampler(tmp_path, tmp_path).sample().cpu_temperature_celsius == 48.0
