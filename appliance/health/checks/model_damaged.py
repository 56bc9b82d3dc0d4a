"""A model of the store is not what its manifest says."""

from __future__ import annotations

from collections.abc import Iterator

from appliance.health.types import BoxFacts, Problem


def model_is_damaged(facts: BoxFacts) -> Iterator[Problem]:
    """What the store's listing names, and what ``verify_model`` found."""
    for model_id, problem in facts.damaged.items():
        yield Problem(
            code="model_damaged",
            severity="error",
            subject=model_id,
            message=f"The model {model_id} is damaged: {problem}",
            hint=f"Pull or import it again; r1box models pull repairs it in place: r1box models pull {model_id}",
            fixups=("verify_model",),
        )
