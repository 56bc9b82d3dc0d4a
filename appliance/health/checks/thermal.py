"""A card slows itself down, or its driver thinks badly of it; a processor that is too hot."""

from __future__ import annotations

from collections.abc import Iterator

from appliance.health.types import BoxFacts, Problem

_HOT_CELSIUS = 95.0


def device_throttles(facts: BoxFacts) -> Iterator[Problem]:
    """``throttle_reasons`` are the alarming ones alone (docs/drivers.md)."""
    for device in facts.telemetry.devices:
        if device.state != "present":
            continue
        name = device.name or device.key
        heat = "" if device.temperature_celsius is None else f" at {device.temperature_celsius:.0f} °C"
        if device.throttle_reasons:
            yield Problem(
                code="device_throttled",
                severity="warning",
                subject=device.key,
                message=f"{name} slows itself down{heat}: {', '.join(device.throttle_reasons)}.",
                hint="Check fans, air flow and power supply. Answers come slower meanwhile.",
            )
        if device.health in ("alarm", "critical"):
            yield Problem(
                code="device_unhealthy",
                severity="error" if device.health == "critical" else "warning",
                subject=device.key,
                message=f"The driver says that {name} is in state {device.health}{heat}.",
                hint=f"r1box doctor card {device.key}",
                fixups=("detect_hardware",),
            )
    host = facts.telemetry.host
    if host is not None and host.cpu_temperature_celsius is not None and host.cpu_temperature_celsius >= _HOT_CELSIUS:
        yield Problem(
            code="processor_hot",
            severity="warning",
            message=f"The processor is at {host.cpu_temperature_celsius:.0f} °C.",
            hint="Check fans and air flow.",
        )
