"""Judges whether a model runs where the plan put it. Pure: measurements in, a verdict out.

1. A plan without cards: CPU.
2. Weights: what the engine says lies on cards against what the plan put there. Less than half: CPU (the model fell back
   to the processor); a part missing: DEGRADED.
3. The graph: many changes between card and processor in each step mean that operations fell back although the weights
   did not. DEGRADED.
4. Memory: a card that holds weights has lost that memory, by its driver's own word. If not: DEGRADED.
5. Speed: far below the plan's band: DEGRADED.
6. Nothing against it, and memory or speed bear it out: VERIFIED. With the engine's word alone, or without it: UNKNOWN.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from appliance.engine.base import LoadPlacement
from models.residuals import by_plan_devices
from models.types import HOST, FitPlan, SpeedBand

_MIB = 1024**2
FALLEN_BACK_BELOW = 0.5
"""Share of the planned weights on cards below which a load counts as having fallen back to the processor."""
ALL_FROM = 0.97
"""The plan counts layers at the size of the largest, llama.cpp prints MiB with two decimals."""
LEAST_TELLING_BYTES = 64 * _MIB
"""Less than this on a card is lost in what drivers and other programs take and give back."""
_GROWTH_SHARE = 0.85
_USED_SHARE = 0.95
_SPEED_SHARE = 0.6
"""The band is an estimate from memory bandwidth; a processor is ten times below it, not by a third."""
_STEP_OVERHEAD_S = 0.005
"""Launching kernels, sampling and handing on a token take this long on a card however small the model is."""
_SPARE_SPLITS = 8


class OffloadState(StrEnum):
    """Where a model runs. CPU is served only where the operator allows it or there are no cards."""

    VERIFIED = "VERIFIED"
    DEGRADED = "DEGRADED"
    CPU = "CPU"
    UNKNOWN = "UNKNOWN"


@dataclass(frozen=True, slots=True)
class Speed:
    """What a short generation measured, one stream. ``prefill_tokens_per_s`` is ``None`` where too little was new."""

    decode_tokens_per_s: float
    prefill_tokens_per_s: float | None = None


@dataclass(frozen=True, slots=True)
class MemoryReading:
    """Memory in use on one device now, and before the load (``None`` when it was not read then)."""

    used_bytes: int
    before_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that was measured. ``memory`` by the plan's device keys, without those whose memory is the host's."""

    placement: LoadPlacement | None = None
    memory: Mapping[str, MemoryReading] | None = None
    speed: Speed | None = None
    fast_enough: bool | None = None
    """From live traffic, where no stream of its own was measured: it was at least, or surely not, as fast as needed."""


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a verdict is not VERIFIED. ``code`` is stable, ``message`` a plain sentence with the numbers."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Judgement:
    """``state`` with the ``reasons`` against it; ``proof`` is what speaks for it, in plain words. ``fell_back``: the
    plan put the model on cards and it lies on the processor."""

    state: OffloadState
    reasons: tuple[Reason, ...] = ()
    proof: tuple[str, ...] = ()
    fell_back: bool = False


def judge(plan: FitPlan, evidence: Evidence, *, has_cards: bool) -> Judgement:
    """The verdict on one load of ``plan``."""
    if plan.attached:
        elsewhere = Reason("attached", "The model is served by a server that this box does not run.")
        return Judgement(OffloadState.UNKNOWN, (elsewhere,), _said_speed(evidence.speed))
    if not plan.devices:
        why = Reason("no_card_used", "The plan puts this model on the processor although the machine has cards.")
        return Judgement(OffloadState.CPU, (why,) if has_cards else (), _said_speed(evidence.speed))
    against: list[Reason] = []
    proof: list[str] = []
    measured = False
    if evidence.placement is not None:
        share = _weights_share(plan, evidence.placement)
        if share < FALLEN_BACK_BELOW:
            return Judgement(OffloadState.CPU, (_fallen_back(plan, evidence.placement),), fell_back=True)
        against += _placement_problems(plan, evidence.placement, share)
        proof.append(_said_placement(plan, evidence.placement))
        for key, reading in (evidence.memory or {}).items():
            told = _memory_told(plan, evidence.placement, key, reading)
            if isinstance(told, Reason):
                against.append(told)
            elif told is not None:
                measured = True
                proof.append(told)
    proof += _said_speed(evidence.speed)
    fast = _is_fast(plan, evidence)
    if fast is False and plan.decode_tokens_per_s is not None:
        against.append(_too_slow(plan.decode_tokens_per_s, evidence.speed))
    if against:
        return Judgement(OffloadState.DEGRADED, tuple(against), tuple(proof))
    if evidence.placement is None:
        missing = Reason("placement_unknown", "The engine does not say where it put the model.")
        return Judgement(OffloadState.UNKNOWN, (missing,), tuple(proof))
    if measured or fast:
        return Judgement(OffloadState.VERIFIED, (), tuple(proof))
    alone = Reason("not_measured", "Neither the cards' memory nor a known speed could confirm what the engine says.")
    return Judgement(OffloadState.UNKNOWN, (alone,), tuple(proof))


def slowest_credible(band: SpeedBand | None) -> float | None:
    """Tokens per second of one stream below which it cannot be the planned cards; ``None`` without a band."""
    if band is None or band.low <= 0:
        return None
    return 1 / (1 / (band.low * _SPEED_SHARE) + _STEP_OVERHEAD_S)


def live_speed(band: SpeedBand | None, steps: int, tokens: int, decode_s: float) -> bool | None:
    """Whether traffic of ``steps`` steps with ``tokens`` tokens in all (prompts included) in ``decode_s`` seconds shows
    the band's speed. A step gives each stream one token, so steps per second are at most what one stream would reach
    alone; all tokens per second are at least that. In between nothing is shown: ``None``.
    """
    limit = slowest_credible(band)
    if limit is None or decode_s <= 0 or steps <= 0:
        return None
    if steps / decode_s >= limit:
        return True
    return False if tokens / decode_s < limit else None


def expected_on(plan: FitPlan, placement: LoadPlacement, key: str) -> int | None:
    """Bytes of weights and cache that the engine says it holds on the plan's device ``key``."""
    names = by_plan_devices(plan, dict.fromkeys(placement.buffers, 0))
    if key not in names:
        return None
    cards = sorted((name for name in placement.buffers if name != HOST), key=lambda n: (len(n), n))
    found = placement.buffers[cards[plan.devices.index(key)]]
    return found.weights_bytes + found.kv_bytes


def _planned_weights(plan: FitPlan) -> int:
    return sum(line.weights_bytes for line in plan.memory if line.device in plan.devices)


def _weights_share(plan: FitPlan, placement: LoadPlacement) -> float:
    """Share of the weights planned on cards that lies on cards. A plan with unified memory counts the host's part on
    the device too, which llama.cpp keeps apart: there all that is not the host's is enough to count by layers."""
    found = sum(b.weights_bytes for name, b in placement.buffers.items() if name != HOST)
    planned = _planned_weights(plan)
    if HOST not in {line.device for line in plan.memory} and placement.layers and placement.layers_on_cards is not None:
        return placement.layers_on_cards / placement.layers if found else 0.0
    return found / planned if planned else 1.0


def _fallen_back(plan: FitPlan, placement: LoadPlacement) -> Reason:
    on_cards = sum(b.weights_bytes for name, b in placement.buffers.items() if name != HOST)
    return Reason(
        "weights_on_processor",
        f"The plan puts {_planned_weights(plan) / _MIB:,.0f} MiB of weights on {', '.join(plan.devices)}; "
        f"{on_cards / _MIB:,.0f} MiB are there. The model would run on the processor.",
    )


def _is_fast(plan: FitPlan, evidence: Evidence) -> bool | None:
    limit = slowest_credible(plan.decode_tokens_per_s)
    if evidence.speed is None or limit is None:
        return evidence.fast_enough
    return evidence.speed.decode_tokens_per_s >= limit


def _placement_problems(plan: FitPlan, placement: LoadPlacement, share: float) -> list[Reason]:
    problems: list[Reason] = []
    holding = sum(b.weights_bytes > 0 for name, b in placement.buffers.items() if name != HOST)
    if holding < len(plan.devices):
        message = f"{holding} of the plan's {len(plan.devices)} devices hold weights."
        problems.append(Reason("device_without_weights", message))
    if share < ALL_FROM:
        message = (
            f"Only {share:.0%} of the weights that the plan puts on cards are there; the processor has the others."
        )
        problems.append(Reason("weights_partly_on_processor", message))
    usual = len(plan.devices) + 1
    splits = placement.graph_splits
    whole = plan.host_layers == 0 and not plan.experts_on_host
    if splits is not None and whole and splits > usual + _SPARE_SPLITS:
        message = (
            f"Each step changes {splits - 1} times between card and processor instead of {usual - 1}: the card does "
            f"not "
            "compute some operations of this model."
        )
        problems.append(Reason("operations_on_processor", message))
    return problems


def _memory_told(plan: FitPlan, placement: LoadPlacement, key: str, reading: MemoryReading) -> Reason | str | None:
    """A reason against, the proof in words, or ``None`` where it tells nothing."""
    expected = expected_on(plan, placement, key)
    if expected is None or expected < LEAST_TELLING_BYTES:
        return None
    if reading.before_bytes is None:
        taken, least, word = reading.used_bytes, expected * _USED_SHARE, "in use"
    else:
        taken, least, word = reading.used_bytes - reading.before_bytes, expected * _GROWTH_SHARE, "taken by the load"
    told = f"{max(taken, 0) / _MIB:,.0f} MiB {word} on {key}"
    if taken < least:
        return Reason(
            "memory_not_taken",
            f"The engine says that it holds {expected / _MIB:,.0f} MiB on {key}, but by the driver there are {told}.",
        )
    return told


def _too_slow(band: SpeedBand, speed: Speed | None) -> Reason:
    measured = "It runs slower" if speed is None else f"It writes {speed.decode_tokens_per_s:,.1f} tokens/s"
    return Reason("slow", f"{measured}; {band.low:,.0f} to {band.high:,.0f} were expected on these cards.")


def _said_placement(plan: FitPlan, placement: LoadPlacement) -> str:
    where = ", ".join(plan.devices)
    if placement.layers is None:
        return f"weights on {where}"
    return f"{placement.layers_on_cards} of {placement.layers} layers on {where}"


def _said_speed(speed: Speed | None) -> tuple[str, ...]:
    return () if speed is None else (f"{speed.decode_tokens_per_s:,.1f} tokens/s",)
