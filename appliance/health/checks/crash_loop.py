"""An engine that dies again and again: each time every running answer is lost."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from appliance.health.types import BoxFacts, Problem

WINDOW = timedelta(minutes=10)
MANY = 3


def engine_crashes(facts: BoxFacts) -> Iterator[Problem]:
    """Three ends in ten minutes. One alone is restarted and stands in the log."""
    errors = {model.id: model.error for model in facts.models}
    for model_id, times in facts.restarts.items():
        recent = [at for at in times if facts.now - at <= WINDOW]
        if len(recent) < MANY:
            continue
        last = errors.get(model_id)
        yield Problem(
            code="engine_crash_loop",
            severity="error",
            subject=model_id,
            message=f"The engine of {model_id} ended by itself {len(recent)} times in ten minutes."
            + (f" The last time: {last}." if last else ""),
            hint="The log has its last lines, docs/troubleshooting.md the known causes. A damaged file is one: r1box "
            f"models verify {model_id}",
            fixups=("verify_model", "reload_model"),
        )
