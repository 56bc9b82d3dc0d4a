"""A card that was there does not answer any more."""

from __future__ import annotations

from collections.abc import Iterator

from appliance.health.types import BoxFacts, Problem


def device_is_lost(facts: BoxFacts) -> Iterator[Problem]:
    """An error when a loaded model lies on it, else a warning."""
    used = {key: model.id for model in facts.models for key in model.devices}
    for device in facts.telemetry.devices:
        if device.state != "lost":
            continue
        model = used.get(device.key)
        problem = device.problem or "its driver lists it no longer."
        serves = f" {model} was loaded on it." if model else ""
        yield Problem(
            code="device_lost",
            severity="error" if model else "warning",
            subject=device.key,
            message=f"{device.name or device.key} does not answer: {problem}{serves}",
            hint=f"r1box doctor card {device.key}",
            fixups=("detect_hardware", "reload_model") if model else ("detect_hardware",),
        )
