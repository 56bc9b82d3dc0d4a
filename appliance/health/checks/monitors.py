"""A source of telemetry fails, so that the state of its cards is not known."""

from __future__ import annotations

from collections.abc import Iterator

from appliance.health.types import BoxFacts, Problem

_FAILURES = 3
"""One failed answer is asked again; so many in a row are a state."""


def monitor_fails(facts: BoxFacts) -> Iterator[Problem]:
    """Three failures in a row."""
    for monitor in facts.telemetry.monitors:
        if monitor.state == "failed" and monitor.failures >= _FAILURES:
            yield Problem(
                code="monitor_failed",
                severity="warning",
                subject=monitor.name,
                message=f"Nothing is known of the {monitor.name} cards: {monitor.reason or 'their monitor fails'}",
                hint=monitor.hint or f"r1box doctor --vendor {monitor.name}",
            )
