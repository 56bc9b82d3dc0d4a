"""Which plan is better, and which rejection is nearer to a plan. Pure."""

from __future__ import annotations

import math

from models.types import Catalogue, FitPlan, Rejection, Variant

_SAME_QUALITY = {"F16": "BF16"}
"""Forms between which quality does not decide: on chips without BF16 an engine runs that in F16."""
_SLOW_AT_BEST_TOKENS_PER_S = 5.0
_SLOW_ON_PROCESSOR_TOKENS_PER_S = 4.0
"""Below that a plan says so and ranks behind the others: 3,000 tokens of thought take over ten minutes. The band of a
processor is wide, so there its (geometric) middle counts and not its best."""


def rank(catalogue: Catalogue, variant: Variant, plan_: FitPlan, level: int) -> tuple[int, ...]:
    """The plan's place, the least first: see the docstring of ``models.planner``. ``level`` is that of its seating."""
    quality = catalogue.quantization_rank(_SAME_QUALITY.get(plan_.quantization, plan_.quantization))
    place = variant.rank
    speed = plan_.decode_tokens_per_s
    if variant.demoted_below is not None and variant.demoted_rank is not None:
        place = variant.demoted_rank if quality > catalogue.quantization_rank(variant.demoted_below) else place
    return (
        int(not plan_.installed),
        int(plan_.reduced),
        int(is_slow(plan_)),
        place,
        quality,
        -level,
        0 if speed is None else -round(speed.high),
        len(plan_.devices),
    )


_NEARNESS = {"memory": 0, "memory_unknown": 1, "context_too_long": 2, "no_devices": 4, "quality_floor": 5}


def is_slow(plan_: FitPlan) -> bool:
    """Whether it is too slow for a model that thinks before it answers; not known is not slow."""
    speed = plan_.decode_tokens_per_s
    if speed is None:
        return False
    if not plan_.devices:
        return math.sqrt(speed.low * speed.high) < _SLOW_ON_PROCESSOR_TOKENS_PER_S
    return speed.high < _SLOW_AT_BEST_TOKENS_PER_S


def nearness(rejection: Rejection, variant: Variant) -> tuple[int, int]:
    """What could be mended first: too little memory (the least missing first), then what nobody can change."""
    missing = (rejection.needed_bytes or 0) - (rejection.available_bytes or 0)
    return _NEARNESS.get(rejection.code, 3), missing if rejection.code == "memory" else variant.rank
