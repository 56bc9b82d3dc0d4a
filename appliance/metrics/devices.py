"""Devices and host as Prometheus gauges, read at the moment of a scrape. What is unknown is absent, never 0."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from appliance.schemas.telemetry import DeviceTelemetry, HostTelemetry, Telemetry

HEALTH_STATES = ("ok", "warning", "alarm", "critical", "unknown")
_LABELS = ("device", "vendor", "chip")
_DEVICE: tuple[tuple[str, str, str, float], ...] = (
    ("utilization_ratio", "Share of the time in which the device computed, 0 to 1", "utilization_percent", 0.01),
    ("memory_used_bytes", "Memory in use on the device", "memory_used_bytes", 1),
    ("memory_total_bytes", "Memory of the device", "memory_total_bytes", 1),
    ("temperature_celsius", "Temperature of the device", "temperature_celsius", 1),
    ("power_watts", "Power that the device, or its card, draws", "power_watts", 1),
    ("clock_hertz", "Clock of the device's cores", "clock_mhz", 1e6),
)
"""(name, help, field of ``DeviceTelemetry``, factor)."""
_HOST: tuple[tuple[str, str, str, float], ...] = (
    ("cpu_utilization_ratio", "Share of the time in which the processors were busy, 0 to 1", "cpu_percent", 0.01),
    ("load1", "Programs that run or wait for the processor or a disk, over 1 minute", "load_1", 1),
    ("load5", "The same over 5 minutes", "load_5", 1),
    ("load15", "The same over 15 minutes", "load_15", 1),
    ("memory_used_bytes", "Memory in use", "memory_used_bytes", 1),
    ("memory_total_bytes", "Memory that the box may use", "memory_total_bytes", 1),
    ("swap_used_bytes", "Swap in use", "swap_used_bytes", 1),
    ("swap_total_bytes", "Swap", "swap_total_bytes", 1),
    ("disk_used_bytes", "Space in use on the state folder's disk", "disk_used_bytes", 1),
    ("disk_free_bytes", "Space left on the state folder's disk", "disk_free_bytes", 1),
    ("network_receive_bytes_per_second", "Bytes received in the last second", "network_in_bytes_per_s", 1),
    ("network_transmit_bytes_per_second", "Bytes sent in the last second", "network_out_bytes_per_s", 1),
    ("cpu_temperature_celsius", "Temperature of the processor", "cpu_temperature_celsius", 1),
)


class DeviceCollector(Collector):
    """Reads telemetry. ``now`` must not wait: scrapes are answered in the event loop."""

    def __init__(self, now: Callable[[], Telemetry]) -> None:
        self._now = now

    def collect(self) -> Iterator[Metric]:
        """The gauges of this moment, without values while telemetry is off."""
        telemetry = self._now()
        yield from _monitors(telemetry)
        yield from _devices(telemetry.devices)
        yield from _host(telemetry.host)


def _monitors(telemetry: Telemetry) -> Iterator[Metric]:
    up = GaugeMetricFamily(
        "r1box_monitor_up", "1 while a monitor answers; absent with nothing to ask", labels=["monitor"]
    )
    for monitor in telemetry.monitors:
        if monitor.state in ("ok", "failed"):
            up.add_metric([monitor.name], float(monitor.state == "ok"))
    yield up


def _devices(devices: tuple[DeviceTelemetry, ...]) -> Iterator[Metric]:
    up = GaugeMetricFamily("r1box_device_up", "1 for a device that answers", labels=_LABELS)
    health = GaugeMetricFamily(
        "r1box_device_health", "1 for the health that the driver tells", labels=(*_LABELS, "state")
    )
    throttled = GaugeMetricFamily(
        "r1box_device_throttled", "1 for each alarming reason for which it slows down", labels=(*_LABELS, "reason")
    )
    for device in devices:
        labels = _labels(device)
        up.add_metric(labels, float(device.state == "present"))
        if device.state == "present":
            for state in HEALTH_STATES:
                health.add_metric([*labels, state], float(state == device.health))
            for reason in device.throttle_reasons:
                throttled.add_metric([*labels, reason], 1.0)
    yield from (up, health, throttled)
    for name, text, field, factor in _DEVICE:
        gauge = GaugeMetricFamily(f"r1box_device_{name}", text, labels=_LABELS)
        for device in devices:
            value = getattr(device, field)
            if value is not None:
                gauge.add_metric(_labels(device), value * factor)
        yield gauge


def _host(host: HostTelemetry | None) -> Iterator[Metric]:
    for name, text, field, factor in _HOST:
        value = None if host is None else getattr(host, field)
        yield GaugeMetricFamily(f"r1box_host_{name}", text, None if value is None else value * factor)


def _labels(device: DeviceTelemetry) -> list[str]:
    return [device.key, device.vendor, device.chip or ""]
