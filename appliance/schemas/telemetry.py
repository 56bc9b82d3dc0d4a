"""Bodies of ``/api/admin/telemetry`` and ``/api/admin/hardware``. Unknown is null; times are RFC 3339 in UTC."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

HISTORY_S = 3600
"""How far back the history goes, in seconds."""
MOST_POINTS = 3600


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True)


class HostTelemetry(_Value):
    """The machine now. Memory is what the box may use, the disk that of the state folder, the network the sum of the
    physical interfaces."""

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


class DeviceTelemetry(_Value):
    """A device now. ``state``: present answers; lost gave no answer, or its driver no longer lists it; unknown was not
    sampled for five intervals. Unless it is present, ``problem`` says why and no value is known."""

    key: str
    vendor: str
    index: int | None = None
    name: str | None = None
    chip: str | None = None
    monitor: str
    state: Literal["present", "lost", "unknown"]
    problem: str | None = None
    told_at: datetime
    health: Literal["ok", "warning", "alarm", "critical", "unknown"] = "unknown"
    utilization_percent: float | None = None
    memory_used_bytes: int | None = None
    memory_total_bytes: int | None = None
    temperature_celsius: float | None = None
    power_watts: float | None = None
    clock_mhz: int | None = None
    throttle_reasons: tuple[str, ...] = ()


class MonitorTelemetry(_Value):
    """What asks the devices of one vendor, or the host. ``unavailable``: there is nothing to ask. ``failures`` counts
    attempts in a row that failed."""

    name: str
    state: Literal["waiting", "ok", "failed", "unavailable"]
    interval_s: float
    code: str | None = None
    reason: str | None = None
    hint: str | None = None
    failures: int = 0
    answered_at: datetime | None = None


class TelemetryEvent(_Value):
    """Something that changed. Ids count from 1 without gaps and begin anew with the daemon; ``subject`` is a device's
    key or a monitor's name."""

    id: int
    time: datetime
    kind: Literal[
        "device_found",
        "device_lost",
        "device_back",
        "health_changed",
        "throttle_started",
        "throttle_ended",
        "monitor_failed",
        "monitor_back",
    ]
    subject: str
    severity: Literal["info", "warning", "error"]
    message: str


class Telemetry(_Value):
    """Everything known now, and the events since the id that was asked for. ``enabled`` is false when the setting
    ``telemetry_interval_s`` is 0; then nothing is known."""

    enabled: bool
    time: datetime
    started_at: datetime
    host: HostTelemetry | None = None
    devices: tuple[DeviceTelemetry, ...] = ()
    monitors: tuple[MonitorTelemetry, ...] = ()
    events: tuple[TelemetryEvent, ...] = ()


class TelemetryQuery(BaseModel):
    """Parameters of ``GET /api/admin/telemetry``."""

    model_config = ConfigDict(extra="forbid")

    since: int = Field(default=0, ge=0, le=1 << 53, description="Only events with a greater id.")


SeriesName = Annotated[str, Field(min_length=1, max_length=200)]


class HistoryQuery(BaseModel):
    """Parameters of ``GET /api/admin/telemetry/history``."""

    model_config = ConfigDict(extra="forbid")

    seconds: int = Field(default=HISTORY_S, ge=1, le=HISTORY_S, description="How far back, in seconds.")
    points: int = Field(default=120, ge=1, le=MOST_POINTS, description="Most buckets that a series is told in.")
    series: list[SeriesName] = Field(
        default_factory=list,
        max_length=1000,
        description="A device's key, host, or one field of either, such as nvidia:0/power_watts; may be given several "
        "times. Without it: everything.",
    )


class HistorySeries(_Value):
    """One field of a device or of the host, a value for each bucket, oldest first; null where nothing is known."""

    subject: str
    field: str
    minimum: tuple[float | None, ...]
    mean: tuple[float | None, ...]
    maximum: tuple[float | None, ...]


class TelemetryHistory(_Value):
    """Series on one time axis: bucket ``n`` begins ``n * step_s`` after ``start``; the last one is still filling."""

    start: datetime
    step_s: float
    buckets: int
    series: tuple[HistorySeries, ...]


class Hardware(_Value):
    """What detection found, in the form of ``r1box detect --json``, when, and how long it took."""

    detected_at: datetime
    duration_s: float
    snapshot: dict[str, Any]
