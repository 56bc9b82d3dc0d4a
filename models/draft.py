"""Whether a small model of the same family fits beside a large one, to guess what that says next. Pure.

The large model's plan is made first and not changed for it: a draft model takes what is left on one device, or in the
host's memory when the large one is there. It opens as many seats of the same context, as its own cache has to hold what
every running chat says.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from models.dry_run import Opening
from models.gguf_header import GgufHeader
from models.memory import (
    SPARE_SEQUENCES,
    compute_bytes,
    header_weights,
    host_compute_bytes,
    host_output_bytes,
    kv_bytes,
)
from models.types import HOST, FitPlan, KvType

DRAFT_BATCH_TOKENS = 256
"""Tokens that a draft model computes at once, beside one for each seat (``runner.draft``)."""

SMALLER_BY = 3.0
"""A draft model has at most a third of the large one's bytes: each of its guesses is a pass through all of it."""


@dataclass(frozen=True, slots=True)
class DraftPlace:
    """Where a draft model goes: ``device`` is the place in the plan's ``devices``, None for the host's memory. The
    bytes are what it takes there; ``host_bytes`` of the host's memory come to what is on a card of its own."""

    device: int | None
    needed_bytes: int
    host_bytes: int = 0


DRAFTS = {
    "R1-Distill-Qwen-7B": "R1-Distill-Qwen-1.5B",
    "R1-Distill-Qwen-14B": "R1-Distill-Qwen-1.5B",
    "R1-Distill-Qwen-32B": "R1-Distill-Qwen-1.5B",
    "R1-Distill-Llama-70B": "R1-Distill-Llama-8B",
}
"""Which variant guesses for which: the smallest one with the same vocabulary. The runner compares the vocabularies."""


def place_draft(plan: FitPlan, header: GgufHeader, *, smaller_by: float = SMALLER_BY) -> DraftPlace | None:
    """Where the draft model of ``header`` fits beside the model of ``plan``; None when it does not, or is not smaller
    by that much.

    Raises ``NotAChatModel`` or ``CorruptHeader`` (dimensions missing or absurd).
    """
    shape = header.shape()
    weights = header_weights(header)
    if header.tensor_bytes * smaller_by > plan.file_bytes or shape.context_length < plan.context_tokens:
        return None
    tokens, micro = plan.total_context_tokens, DRAFT_BATCH_TOKENS + plan.seats
    on_card = bool(plan.devices)
    cache = kv_bytes(shape, tokens, KvType.F16)
    compute = compute_bytes(
        shape,
        tokens,
        flash_attention=plan.flash_attention,
        ubatch_tokens=micro,
        outputs=plan.seats,
        sequences=plan.seats,
        on_card=on_card,
    )
    logits = host_output_bytes(shape, plan.seats)
    lines = {line.device: line for line in plan.memory}
    spare = {name: line.available_bytes - line.total_bytes for name, line in lines.items()}
    if not on_card:
        needed = weights.total_bytes + cache + compute + logits
        return DraftPlace(None, needed) if needed <= spare.get(HOST, 0) else None
    host = weights.embedding_bytes + logits
    host += host_compute_bytes(
        shape, tokens, flash_attention=plan.flash_attention, ubatch_tokens=micro, sequences=plan.seats
    )
    if HOST in spare and host > spare[HOST]:
        return None
    needed = weights.on_cards_bytes + cache + compute + (0 if HOST in spare else host)
    roomy = max((name for name in plan.devices if name in spare), key=lambda name: spare[name], default=None)
    if roomy is None or needed > spare[roomy]:
        return None
    return DraftPlace(plan.devices.index(roomy), needed, host if HOST in spare else 0)


def with_draft(plan: FitPlan, model_id: str, place: DraftPlace) -> FitPlan:
    """The plan with what its draft model takes, so that whoever looks at it counts that too."""
    where = HOST if place.device is None else plan.devices[place.device]
    taken = {HOST: place.host_bytes}
    taken[where] = taken.get(where, 0) + place.needed_bytes
    memory = tuple(replace(line, draft_bytes=taken.get(line.device, 0)) for line in plan.memory)
    return replace(plan, draft=model_id, memory=memory)


def draft_opening(plan: FitPlan) -> Opening:
    """How the draft model of a plan is opened (``runner.draft``), for a dry run: a sequence and a row of logits for
    each seat, none to spare, and steps of one micro-batch."""
    tokens = DRAFT_BATCH_TOKENS + plan.seats
    return Opening(
        plan.seats,
        plan.context_tokens,
        KvType.F16,
        plan.flash_attention,
        ubatch_tokens=tokens,
        batch_tokens=tokens,
        cache_slots=-SPARE_SEQUENCES,
    )
