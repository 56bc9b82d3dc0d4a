"""Telemetry as the API and Prometheus tell it: the drivers' readings in the words of the schemas."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime

from appliance.errors import InvalidRequest
from appliance.schemas.telemetry import (
    DeviceTelemetry,
    HistorySeries,
    HostTelemetry,
    MonitorTelemetry,
    Telemetry,
    TelemetryEvent,
    TelemetryHistory,
)
from drivers.telemetry import Sampler, UnknownSeries
from drivers.telemetry_types import DeviceReading, MonitorReading
from drivers.types import Device


class TelemetryService:
    """Reads the sampler. ``now`` never waits for a device; without a sampler (telemetry is off) nothing is known."""

    def __init__(self, sampler: Sampler | None, devices: Callable[[], Mapping[str, Device]]) -> None:
        """``devices`` gives what the last detection found, by key: names and chips are not sampled."""
        self._sampler = sampler
        self._devices = devices
        self._started_at = datetime.now(UTC)

    def now(self, since: int | None = None) -> Telemetry:
        """What is known now, with the events after the id ``since``; ``None``: without events."""
        if self._sampler is None:
            return Telemetry(enabled=False, time=datetime.now(UTC), started_at=self._started_at)
        reading = self._sampler.reading()
        known = self._devices()
        events = () if since is None else self._sampler.events(since)
        return Telemetry(
            enabled=True,
            time=_utc(reading.at_s),
            started_at=self._started_at,
            host=None if reading.host is None else HostTelemetry(**asdict(reading.host)),
            devices=tuple(_device(one, known.get(one.sample.key)) for one in reading.devices),
            monitors=tuple(_monitor(one) for one in reading.monitors),
            events=tuple(
                TelemetryEvent(
                    id=event.id,
                    time=_utc(event.at_s),
                    kind=event.kind.value,
                    subject=event.subject,
                    severity=event.severity.value,
                    message=event.message,
                )
                for event in events
            ),
        )

    def history(self, seconds: int, points: int, series: Sequence[str]) -> TelemetryHistory:
        """The last ``seconds`` in at most ``points`` buckets. Takes some 50 ms for an hour of 16 devices. Raises
        InvalidRequest for a series that there is none of."""
        if self._sampler is None:
            if series:
                raise InvalidRequest("Telemetry is switched off (telemetry_interval_s is 0).", param="series")
            return TelemetryHistory(start=datetime.now(UTC), step_s=seconds / points, buckets=0, series=())
        try:
            reading = self._sampler.history(seconds, points, series)
        except UnknownSeries as error:
            raise InvalidRequest(f"{error.message} {error.hint}", param="series") from error
        return TelemetryHistory(
            start=_utc(reading.start_at_s),
            step_s=reading.step_s,
            buckets=reading.buckets,
            series=tuple(
                HistorySeries(
                    subject=one.subject, field=one.field, minimum=one.minimum, mean=one.mean, maximum=one.maximum
                )
                for one in reading.series
            ),
        )


def _device(reading: DeviceReading, known: Device | None) -> DeviceTelemetry:
    sample = reading.sample
    return DeviceTelemetry(
        key=sample.key,
        vendor=sample.key.partition(":")[0],
        index=None if known is None else known.index,
        name=None if known is None else known.name,
        chip=None if known is None else known.chip,
        monitor=reading.monitor,
        state=reading.state.value,
        problem=sample.problem,
        told_at=_utc(reading.told_at_s),
        health=sample.health.value,
        utilization_percent=sample.utilization_percent,
        memory_used_bytes=sample.memory_used_bytes,
        memory_total_bytes=sample.memory_total_bytes,
        temperature_celsius=sample.temperature_celsius,
        power_watts=sample.power_watts,
        clock_mhz=sample.clock_mhz,
        throttle_reasons=sample.throttle_reasons,
    )


def _monitor(reading: MonitorReading) -> MonitorTelemetry:
    return MonitorTelemetry(
        name=reading.name,
        state=reading.state.value,
        interval_s=reading.interval_s,
        code=reading.code,
        reason=reading.reason,
        hint=reading.hint,
        failures=reading.failures,
        answered_at=None if reading.answered_at_s is None else _utc(reading.answered_at_s),
    )


def _utc(at_s: float) -> datetime:
    return datetime.fromtimestamp(round(at_s, 3), UTC)
