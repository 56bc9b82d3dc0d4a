"""What the machine does, once a second: processor, memory, the state folder's disk, network, temperature.

psutil where it counts, files where asking it would cost more or warn. Rates are the difference to the last sample, so
the first sample has none. What cannot be read is ``None``.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import psutil

from drivers.host import read_memory
from drivers.telemetry_types import HostSample

_CPU_SENSORS = frozenset({"coretemp", "k10temp", "zenpower", "cpu_thermal"})
"""Names of hwmon chips that sit in the processor (kernel, Documentation/hwmon; cpu_thermal: device trees)."""
_CPU_ZONES = frozenset({"x86_pkg_temp", "cpu-thermal", "cpu_thermal", "soc-thermal", "soc_thermal"})
"""Thermal zones of the processor, for machines without such a chip."""


class HostSampler:
    """Not safe for several threads at once: it remembers its last sample's counters."""

    name = "host"

    def __init__(
        self, disk_folder: Path, root: Path = Path("/"), *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        """``disk_folder`` lies on the disk whose space is told, ``root`` is where ``proc`` and ``sys`` lie."""
        self._disk_folder = disk_folder
        self._root = root
        self._monotonic = monotonic
        self._cpu: tuple[float, float] | None = None
        self._network: tuple[float, int, int] | None = None
        self._interfaces: tuple[frozenset[str], frozenset[str]] = (frozenset(), frozenset())
        self._sensors: tuple[Path, ...] | None = None

    def sample(self) -> HostSample:
        """One sample. Never raises for what a machine lacks."""
        load = _load()
        memory = read_memory(self._root)
        swap_total, swap_free = self._swap()
        disk_used, disk_free = self._disk()
        received, sent = self._rates()
        return HostSample(
            cpu_percent=self._cpu_percent(),
            load_1=load[0],
            load_5=load[1],
            load_15=load[2],
            memory_used_bytes=_difference(memory.total_bytes, memory.available_bytes),
            memory_total_bytes=memory.total_bytes,
            swap_used_bytes=_difference(swap_total, swap_free),
            swap_total_bytes=swap_total,
            disk_used_bytes=disk_used,
            disk_free_bytes=disk_free,
            network_in_bytes_per_s=received,
            network_out_bytes_per_s=sent,
            cpu_temperature_celsius=self._temperature(),
        )

    def close(self) -> None:
        """Nothing is held."""

    def _cpu_percent(self) -> float | None:
        """Busy time of all processors together, 0 to 100."""
        try:
            times = psutil.cpu_times()
        except (OSError, ValueError):
            return None
        idle = times.idle + getattr(times, "iowait", 0.0)
        # The kernel counts a guest's time within user and nice already.
        total = sum(times) - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0)
        before, self._cpu = self._cpu, (total, idle)
        if before is None or total <= before[0]:
            return None
        share = 1 - (idle - before[1]) / (total - before[0])
        return round(100 * min(1.0, max(0.0, share)), 2)

    def _swap(self) -> tuple[int | None, int | None]:
        """(total, free). From the file, because psutil warns where there is no /proc/vmstat."""
        found: dict[str, int] = {}
        for line in (_read(self._root / "proc/meminfo") or "").splitlines():
            name, _, value = line.partition(":")
            words = value.split()
            if name in ("SwapTotal", "SwapFree") and words and words[0].isascii() and words[0].isdigit():
                found[name] = int(words[0]) * 1024
        return found.get("SwapTotal"), found.get("SwapFree")

    def _disk(self) -> tuple[int | None, int | None]:
        """(used, free for unprivileged users)."""
        try:
            usage = psutil.disk_usage(str(self._disk_folder))
        except OSError:
            return None, None
        return int(usage.used), int(usage.free)

    def _rates(self) -> tuple[float | None, float | None]:
        """Bytes per second (in, out)."""
        try:
            counters = psutil.net_io_counters(pernic=True)
        except OSError:
            return None, None
        names = frozenset(counters)
        if names != self._interfaces[0]:
            self._interfaces = (names, self._counted(names))
            self._network = None
        counted = self._interfaces[1]
        now_s = self._monotonic()
        received = sum(counters[name].bytes_recv for name in counted)
        sent = sum(counters[name].bytes_sent for name in counted)
        before, self._network = self._network, (now_s, received, sent)
        if before is None or not counted or now_s <= before[0] or received < before[1] or sent < before[2]:
            return None, None
        seconds = now_s - before[0]
        return round((received - before[1]) / seconds, 1), round((sent - before[2]) / seconds, 1)

    def _counted(self, names: Iterable[str]) -> frozenset[str]:
        """Interfaces that are hardware: bridges and the like count the same bytes again, virtual functions those of
        their card. In a container none is, and all but the loopback count."""
        folder = self._root / "sys/class/net"
        names = frozenset(name for name in names if name != "lo")
        hardware = frozenset(
            name
            for name in names
            if (folder / name / "device").exists() and not (folder / name / "device/physfn").exists()
        )
        return hardware or names

    def _temperature(self) -> float | None:
        """The hottest of the processor's sensors. Only those are read: others may be slow or wake a sleeping disk."""
        if self._sensors is None:
            self._sensors = self._find_sensors()
        found = [_milli(sensor) for sensor in self._sensors]
        return max((value for value in found if value is not None), default=None)

    def _find_sensors(self) -> tuple[Path, ...]:
        chips = sorted((self._root / "sys/class/hwmon").glob("hwmon*"))
        chosen = [chip for chip in chips if (_read(chip / "name") or "").strip() in _CPU_SENSORS]
        sensors = [sensor for chip in chosen for sensor in sorted(chip.glob("temp*_input"))]
        if not sensors:
            zones = sorted((self._root / "sys/class/thermal").glob("thermal_zone*"))
            sensors = [zone / "temp" for zone in zones if (_read(zone / "type") or "").strip() in _CPU_ZONES]
        return tuple(sensors)


def _load() -> tuple[float | None, float | None, float | None]:
    try:
        one, five, fifteen = os.getloadavg()
    except OSError:
        return None, None, None
    return round(one, 2), round(five, 2), round(fifteen, 2)


def _difference(total: int | None, part: int | None) -> int | None:
    return None if total is None or part is None else max(0, total - part)


def _milli(path: Path) -> float | None:
    """A temperature as the kernel writes it; a sensor that is off tells 0 or less than absolute zero."""
    text = (_read(path) or "").strip()
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdigit()):
        return None
    value = int(text) / 1000
    return value if 0 < value < 200 else None


def _read(path: Path) -> str | None:
    try:
        return path.read_text("utf-8", "replace")
    except OSError:
        return None
