"""A model does not run where it should (docs/offload.md)."""

from __future__ import annotations

from collections.abc import Iterator

from appliance.health.types import BoxFacts, Problem


def offload_is_degraded(facts: BoxFacts) -> Iterator[Problem]:
    """DEGRADED, the processor of a machine with cards, or a load that was ended for it."""
    for model_id, reason in facts.refused.items():
        yield Problem(
            code="offload_refused",
            severity="error",
            subject=model_id,
            message=f"{model_id} is not served: {reason}",
            hint="r1box doctor --compute shows whether the cards compute. allow_cpu_fallback serves it all the same.",
            fixups=("detect_hardware", "reload_model"),
        )
    for verdict in facts.offload:
        if verdict.model in facts.refused or not verdict.reasons:
            continue
        if verdict.state == "DEGRADED":
            yield Problem(
                code="offload_degraded",
                severity="warning",
                subject=verdict.model,
                message=f"{verdict.model} does not run as planned: {' '.join(r.message for r in verdict.reasons)}",
                hint="docs/offload.md tells what each reason means.",
                fixups=("check_offload", "reload_model"),
            )
        elif verdict.state == "CPU":
            yield Problem(
                code="offload_on_processor",
                severity="warning",
                subject=verdict.model,
                message=f"{verdict.model} runs on the processor: {' '.join(r.message for r in verdict.reasons)}",
                hint="allow_cpu_fallback allows it. r1box plan names models that the cards compute.",
                fixups=("check_offload", "reload_model"),
            )
