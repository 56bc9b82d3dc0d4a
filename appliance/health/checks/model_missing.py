"""Nobody is answered: there is no model, or the default one could not be loaded."""

from __future__ import annotations

from collections.abc import Iterator

from appliance.health.types import BoxFacts, Problem


def no_model_answers(facts: BoxFacts) -> Iterator[Problem]:
    """An empty store, no default, or a default that failed. One refused for its offload is told by that check."""
    if not facts.models:
        yield Problem(
            code="no_model",
            severity="warning",
            message="There is no model on this box.",
            hint="r1box plan names what fits; r1box models pull NAME or r1box models import FILE brings it.",
        )
        return
    for model in facts.models:
        if model.state == "failed" and model.id not in facts.refused and model.restarts == 0:
            yield Problem(
                code="model_not_loaded",
                severity="error" if model.default else "warning",
                subject=model.id,
                message=f"{model.id} could not be loaded: {model.error or 'the log says why'}",
                hint="r1box plan shows what fits this machine now.",
                fixups=("reload_model", "verify_model"),
            )
    if all(model.state == "installed" for model in facts.models):
        default = next((model.id for model in facts.models if model.default), None)
        yield Problem(
            code="no_model_loaded",
            severity="info",
            subject=default,
            message="No model is loaded.",
            hint="Requests load one where load_on_request allows it; operators do with r1box models load ID.",
            fixups=() if default is None else ("reload_model",),
        )
