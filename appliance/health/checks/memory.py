"""The host's memory is nearly used up: the next thing that happens is the kernel ending a worker."""

from __future__ import annotations

from collections.abc import Iterator

from appliance.health.types import BoxFacts, Problem

_GIB = 1024**3
_SHARE = 0.04
_LEAST_BYTES = 1 * _GIB


def memory_is_low(facts: BoxFacts) -> Iterator[Problem]:
    """Under 4 % and 1 GiB available."""
    host = facts.telemetry.host
    if host is None or host.memory_total_bytes is None or host.memory_used_bytes is None:
        return
    left = host.memory_total_bytes - host.memory_used_bytes
    if left >= _LEAST_BYTES or left >= host.memory_total_bytes * _SHARE:
        return
    yield Problem(
        code="memory_low",
        severity="warning",
        message=f"The box has {left / 1024**2:,.0f} MiB of {host.memory_total_bytes / _GIB:,.1f} GiB of memory left.",
        hint="Unload a model, or give the served one fewer seats or less context (seats, context_tokens).",
    )
