"""Device and host gauges: units, labels, and nothing where nothing is known. Read by Prometheus' own parser."""

from __future__ import annotations

from datetime import UTC, datetime

from prometheus_client.parser import text_string_to_metric_families

from appliance.metrics.devices import DeviceCollector
from appliance.metrics.serving import Metrics
from appliance.schemas.telemetry import DeviceTelemetry, HostTelemetry, MonitorTelemetry, Telemetry

TIME = datetime(2026, 1, 1, tzinfo=UTC)
CARD = {"device": "ascend:0", "vendor": "ascend", "chip": "910B3"}


def device(**values: object) -> DeviceTelemetry:
    base: dict[str, object] = {"key": "ascend:0", "vendor": "ascend", "chip": "910B3", "monitor": "ascend"}
    return DeviceTelemetry(**(base | {"state": "present", "told_at": TIME} | values))  # type: ignore[arg-type]


def told(**values: object) -> dict[str, list[tuple[dict[str, str], float]]]:
    """Samples by metric's name."""
    telemetry = Telemetry(**({"enabled": True, "time": TIME, "started_at": TIME} | values))  # type: ignore[arg-type]
    text = Metrics(DeviceCollector(lambda: telemetry)).text().decode()
    found: dict[str, list[tuple[dict[str, str], float]]] = {}
    for family in text_string_to_metric_families(text):
        assert family.type == "gauge"
        for sample in family.samples:
            found.setdefault(sample.name, []).append((sample.labels, sample.value))
    return found


def test_a_devices_values_in_base_units() -> None:
    one = device(
        health="warning",
        utilization_percent=37.0,
        memory_used_bytes=10 << 30,
        memory_total_bytes=64 << 30,
        temperature_celsius=51.5,
        power_watts=93.25,
        clock_mhz=1500,
        throttle_reasons=("hw_thermal", "hw_power_brake"),
    )
    found = told(devices=(one,))
    assert found["r1box_device_up"] == [(CARD, 1)]
    assert found["r1box_device_utilization_ratio"] == [(CARD, 0.37)]
    assert found["r1box_device_memory_used_bytes"] == [(CARD, 10 << 30)]
    assert found["r1box_device_memory_total_bytes"] == [(CARD, 64 << 30)]
    assert found["r1box_device_temperature_celsius"] == [(CARD, 51.5)]
    assert found["r1box_device_power_watts"] == [(CARD, 93.25)]
    assert found["r1box_device_clock_hertz"] == [(CARD, 1.5e9)]
    assert {labels["state"]: value for labels, value in found["r1box_device_health"]} == {
        "ok": 0,
        "warning": 1,
        "alarm": 0,
        "critical": 0,
        "unknown": 0,
    }
    assert found["r1box_device_throttled"] == [
        ({**CARD, "reason": "hw_thermal"}, 1),
        ({**CARD, "reason": "hw_power_brake"}, 1),
    ]


def test_unknown_is_absent() -> None:
    found = told(devices=(device(), device(key="ascend:1", chip=None, state="lost", problem="It is gone.")))
    assert {labels["device"]: value for labels, value in found.pop("r1box_device_up")} == {"ascend:0": 1, "ascend:1": 0}
    assert {labels["device"] for labels, _ in found.pop("r1box_device_health")} == {"ascend:0"}
    assert found == {}


def test_a_zero_that_was_measured_is_told() -> None:
    found = told(devices=(device(utilization_percent=0.0),), host=HostTelemetry(swap_used_bytes=0))
    assert found["r1box_device_utilization_ratio"] == [(CARD, 0)]
    assert found["r1box_host_swap_used_bytes"] == [({}, 0)]


def test_the_host() -> None:
    host = HostTelemetry(cpu_percent=25.0, load_1=1.5, memory_used_bytes=1, memory_total_bytes=2, disk_free_bytes=3)
    assert told(host=host) == {
        "r1box_host_cpu_utilization_ratio": [({}, 0.25)],
        "r1box_host_load1": [({}, 1.5)],
        "r1box_host_memory_used_bytes": [({}, 1)],
        "r1box_host_memory_total_bytes": [({}, 2)],
        "r1box_host_disk_free_bytes": [({}, 3)],
    }


def test_monitors() -> None:
    states = {"host": "ok", "nvidia": "failed", "ascend": "unavailable", "other": "waiting"}
    monitors = tuple(MonitorTelemetry(name=n, state=s, interval_s=1) for n, s in states.items())  # type: ignore[arg-type]
    assert told(monitors=monitors) == {"r1box_monitor_up": [({"monitor": "host"}, 1), ({"monitor": "nvidia"}, 0)]}


def test_switched_off() -> None:
    assert told(enabled=False) == {}
