"""Why this engine and not that one: llama.cpp against the big engines, in a sentence. Pure.

The planner ranks the plans of all engines together (``models.ranking``); this says which rule decided between the best
plan of llama.cpp and the best of an engine that divides every layer over its devices.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from models.ranking import is_slow
from models.types import Catalogue, EngineName, FitPlan, PlanResult


@dataclass(frozen=True, slots=True)
class EngineChoice:
    """The plan that was taken, the best one of the other kind of engine where there is one, and why."""

    taken: FitPlan
    other: FitPlan | None
    reason: str


def choose_engine(catalogue: Catalogue, result: PlanResult) -> EngineChoice | None:
    """The best plan against the best of the other kind; ``None`` when nothing fits."""
    if not result.plans:
        return None
    taken = result.plans[0]
    is_big = taken.engine is not EngineName.LLAMA_CPP
    other = next((one for one in result.plans if (one.engine is not EngineName.LLAMA_CPP) != is_big), None)
    if other is not None:
        return EngineChoice(taken, other, _difference(catalogue, taken, other))
    nearest = next((one for one in result.rejections if (one.engine is not EngineName.LLAMA_CPP) != is_big), None)
    if nearest is None:
        return EngineChoice(taken, None, f"{taken.engine}: no other engine is for this machine.")
    why = f"{nearest.variant} {nearest.quantization}: {nearest.reason}"
    return EngineChoice(taken, None, f"{taken.engine}: nothing fits with {nearest.engine} ({why}).")


def why_served_by(plan: FitPlan, engines: frozenset[EngineName]) -> str:
    """Why a stored model runs in the engine of its plan. ``engines`` are the big ones that are installed."""
    if plan.engine is EngineName.LLAMA_CPP:
        rest = "" if not engines else f"; {_listed(engines)} would need it in safetensors"
        return f"llama.cpp serves GGUF{rest}."
    where = "made for these cards" if plan.devices else "the one that also runs on the processor"
    others = engines - {plan.engine}
    if plan.engine is EngineName.VLLM_ASCEND and EngineName.MINDIE in others:
        return (
            "vllm-ascend is installed and made for these cards; it goes before mindie, whose interface has no forms "
            "and no log probabilities."
        )
    return f"{plan.engine} is installed, {where}, and serves safetensors; llama.cpp does not."


def _difference(catalogue: Catalogue, taken: FitPlan, other: FitPlan) -> str:
    """The first rule of the ranking on which the two differ, in its order."""
    start = f"{taken.engine} and not {other.engine}: "
    rules: tuple[tuple[Callable[[FitPlan], object], Callable[[], str]], ...] = (
        (lambda p: p.installed, lambda: f"{other.engine} is not installed on this box."),
        (lambda p: p.reduced, lambda: f"with {other.engine} fewer seats or less context than usual would fit."),
        (is_slow, lambda: f"{_form(other)} on {other.engine} would be too slow for a model that thinks."),
        (lambda p: p.variant, lambda: f"it has room for {taken.variant}, {other.engine} for {other.variant}."),
        (
            lambda p: catalogue.quantization_rank(p.quantization),
            lambda: (
                f"{taken.quantization} keeps more of {taken.variant} than {other.quantization}, the best that fits "
                f"with {other.engine}."
            ),
        ),
        (
            lambda p: p.total_context_tokens,
            lambda: (
                f"{taken.seats} x {taken.context_tokens:,} tokens fit, with {other.engine} {other.seats} x "
                f"{other.context_tokens:,}."
            ),
        ),
        (
            lambda p: p.decode_tokens_per_s.high if p.decode_tokens_per_s else None,
            lambda: f"the same model and room, at up to {_speed(taken)} tokens/s instead of {_speed(other)}.",
        ),
        (
            lambda p: len(p.devices),
            lambda: f"the same model and room on {len(taken.devices)} cards instead of {len(other.devices)}.",
        ),
    )
    for value, said in rules:
        if value(taken) != value(other):
            return start + said()
    return start + "they are level; the one that is part of the box is taken."


def _form(plan: FitPlan) -> str:
    return f"{plan.variant} {plan.quantization}"


def _speed(plan: FitPlan) -> str:
    return "unknown" if plan.decode_tokens_per_s is None else f"{plan.decode_tokens_per_s.high:g}"


def _listed(engines: frozenset[EngineName]) -> str:
    return ", ".join(sorted(engines))
