"""What telemetry tells: readings of this moment, events, history; frozen values, unknown is ``None``.

Times named ``_at_s`` are seconds since 1970 (UTC), for people; intervals are measured with a clock that never jumps.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from drivers.types import DeviceSample, Severity


@dataclass(frozen=True, slots=True)
class Clock:
    """The two clocks: ``monotonic`` for intervals, ``wall`` for what a person reads. Tests put in their own."""

    monotonic: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time

    def at_s(self, moment_s: float) -> float:
        """The wall-clock time of a moment of the monotonic clock."""
        return self.wall() - (self.monotonic() - moment_s)


class EventKind(StrEnum):
    """What happened. The subject is a device's key, for the last two a monitor's name."""

    DEVICE_FOUND = "device_found"
    DEVICE_LOST = "device_lost"
    DEVICE_BACK = "device_back"
    HEALTH_CHANGED = "health_changed"
    THROTTLE_STARTED = "throttle_started"
    THROTTLE_ENDED = "throttle_ended"
    MONITOR_FAILED = "monitor_failed"
    MONITOR_BACK = "monitor_back"


@dataclass(frozen=True, slots=True)
class TelemetryEvent:
    """One change. ``id`` counts from 1 without gaps, anew with each start of the daemon."""

    id: int
    at_s: float
    kind: EventKind
    subject: str
    message: str
    severity: Severity


class DeviceState(StrEnum):
    """PRESENT answers; LOST gave no answer, or its driver no longer lists it; UNKNOWN was not sampled lately."""

    PRESENT = "present"
    LOST = "lost"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class DeviceReading:
    """A device as it is known now. Unless it is PRESENT, ``sample`` has nothing but the key and the ``problem``.

    ``told_at_s`` is when its monitor last told something of it, be it that it is lost.
    """

    monitor: str
    state: DeviceState
    sample: DeviceSample
    told_at_s: float


class MonitorState(StrEnum):
    """WAITING was not asked yet; UNAVAILABLE has nothing to monitor (no such card or driver) and is asked rarely."""

    WAITING = "waiting"
    OK = "ok"
    FAILED = "failed"
    UNAVAILABLE = "unavailable"


@dataclass(frozen=True, slots=True)
class MonitorReading:
    """How a monitor does. ``code``, ``reason`` and ``hint`` say why it is FAILED or UNAVAILABLE; ``failures`` counts
    the failed attempts in a row; ``answered_at_s`` is its last good answer."""

    name: str
    interval_s: float
    state: MonitorState = MonitorState.WAITING
    code: str | None = None
    reason: str | None = None
    hint: str | None = None
    failures: int = 0
    answered_at_s: float | None = None


@dataclass(frozen=True, slots=True)
class HostSample:
    """The machine at one moment. Memory is what this process may use (the machine's, or its cgroup's limit), the disk
    the file system of the state folder, the network the sum of the physical interfaces."""

    cpu_percent: float | None = None
    load_1: float | None = None
    load_5: float | None = None
    load_15: float | None = None
    memory_used_bytes: int | None = None
    memory_total_bytes: int | None = None
    swap_used_bytes: int | None = None
    swap_total_bytes: int | None = None
    disk_used_bytes: int | None = None
    disk_free_bytes: int | None = None
    network_in_bytes_per_s: float | None = None
    network_out_bytes_per_s: float | None = None
    cpu_temperature_celsius: float | None = None


@dataclass(frozen=True, slots=True)
class TelemetryReading:
    """Everything known at one moment. ``host`` is ``None`` while it is unknown."""

    at_s: float
    host: HostSample | None
    devices: tuple[DeviceReading, ...]
    monitors: tuple[MonitorReading, ...]


@dataclass(frozen=True, slots=True)
class SeriesHistory:
    """One series in buckets of equal length, oldest first; ``None`` where nothing is known.

    ``subject`` is a device's key or ``host``, ``field`` a field of its sample.
    """

    subject: str
    field: str
    minimum: tuple[float | None, ...]
    mean: tuple[float | None, ...]
    maximum: tuple[float | None, ...]


@dataclass(frozen=True, slots=True)
class HistoryReading:
    """Series on one time axis: bucket ``n`` begins at ``start_at_s + n * step_s``; the last one is still filling."""

    start_at_s: float
    step_s: float
    buckets: int
    series: tuple[SeriesHistory, ...]
