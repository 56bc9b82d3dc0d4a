"""Plans for vLLM, vLLM-Ascend and MindIE: which published form, on how many devices, with how many seats.

The sibling of ``models.planner``'s rule list for engines that split every layer over devices. For each variant x form x
engine, the first that holds ends it: below the variant's floor of quality; more context than it was trained for; no
group of devices computes it; no number of devices and no seats x context fit; otherwise a plan: the most seats x
context, on the fewest devices that give them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from models.cards import parallel_band
from models.catalogue import kv_elements_per_token
from models.gate import Computes, Verdict
from models.hub_forms import form_bytes, judge_form
from models.machine import Group, Machine, Room
from models.memory import KV_BYTES_PER_ELEMENT
from models.parallel import ParallelLoad, Split, load_of, place_in_parallel, splits
from models.placement import Shortfall
from models.seating import Seating, smaller_wishes
from models.types import (
    Catalogue,
    CounterOffer,
    EngineName,
    FitPlan,
    HubForm,
    KvType,
    MemoryEstimate,
    Rejection,
    Variant,
)

_GIB = 1024**3
_UBATCH_TOKENS = 8192


@dataclass(frozen=True, slots=True)
class _Candidate:
    variant: Variant
    form: HubForm
    engine: EngineName
    load: ParallelLoad
    seating: Seating


@dataclass(frozen=True, slots=True)
class _Fit:
    level: int
    group: Group
    split: Split
    memory: tuple[MemoryEstimate, ...]


def hub_candidates(
    catalogue: Catalogue,
    machine: Machine,
    engines: Collection[EngineName],
    variant: Variant,
    seating: Seating | None,
    installed: Collection[EngineName],
) -> Iterator[tuple[FitPlan, int] | Rejection]:
    """A plan with its level, or a rejection, for each form and engine. ``seating`` is ``None`` when the wish is longer
    than the variant was trained for: the caller has said so already, nothing is yielded.

    An engine for which the machine has no chip at all (vLLM-Ascend on NVIDIA) is passed over in silence.
    """
    if seating is None:
        return
    for form in variant.hub_forms:
        for engine in form.engines:
            if engine not in engines:
                continue
            verdicts = [judge_form(group.chip, engine, variant.architecture, form.form) for group in machine.groups]
            if all(verdict.code == "engine_not_for_chip" for verdict in verdicts) or not _meant_for(engine, machine):
                continue
            if catalogue.quantization_rank(form.form) > catalogue.quantization_rank(variant.floor):
                reason = f"below {variant.floor}, the lowest worth running: {variant.floor_reason}"
                yield Rejection(variant.id, form.form, engine, "quality_floor", reason)
                continue
            candidate = _Candidate(variant, form, engine, load_of(variant, form_bytes(variant, form)), seating)
            able = [(g, v) for g, v in zip(machine.groups, verdicts, strict=True) if v.computes is Computes.ON_CARD]
            if not able:
                verdict = verdicts[0]
                yield Rejection(variant.id, form.form, engine, verdict.code, f"{verdict.reason} ({verdict.source})")
                continue
            yield _fit_best(candidate, able, engine in installed)


def _meant_for(engine: EngineName, machine: Machine) -> bool:
    """Whether the engine is made for one of the vendors here: nobody asks why MindIE does not run on NVIDIA."""
    vendors = {room.device.vendor for group in machine.groups for room in group.rooms if room.device is not None}
    return ("nvidia" if engine is EngineName.VLLM else "ascend") in vendors


def _fit_best(
    candidate: _Candidate, able: list[tuple[Group, Verdict]], installed: bool
) -> tuple[FitPlan, int] | Rejection:
    shortfall: tuple[Shortfall, Group] | None = None
    for level in range(len(candidate.seating.levels) - 1, -1, -1):
        for group, verdict in able:
            found = _place(candidate, group, *candidate.seating.levels[level])
            if not isinstance(found, Shortfall):
                return _to_plan(candidate, _Fit(level, group, *found), verdict, installed), level
            if level == candidate.seating.usual and (
                shortfall is None or found.missing_bytes < shortfall[0].missing_bytes
            ):
                shortfall = (found, group)
    assert shortfall is not None  # the usual level is one of the levels, and able has a group
    return _memory_rejection(candidate, *shortfall)


def _place(
    candidate: _Candidate, group: Group, seats: int, context_tokens: int
) -> tuple[Split, tuple[MemoryEstimate, ...]] | Shortfall:
    """The fewest devices that hold it, or what the most devices lack."""
    last = Shortfall("the devices", candidate.load.total_bytes, 0)
    for split in splits(candidate.variant.shape, candidate.engine, len(group.rooms)):
        placed = place_in_parallel(candidate.load, split, group.rooms, seats, context_tokens)
        if not isinstance(placed, Shortfall):
            return split, placed
        last = placed
    return last


def _memory_rejection(candidate: _Candidate, shortfall: Shortfall, group: Group) -> Rejection:
    seats, context_tokens = candidate.seating.levels[candidate.seating.usual]
    offer = None
    for fewer_seats, fewer_tokens in smaller_wishes(seats, context_tokens):
        if not isinstance(_place(candidate, group, fewer_seats, fewer_tokens), Shortfall):
            offer = CounterOffer(fewer_seats, fewer_tokens)
            break
    available = max(shortfall.available_bytes, 0)
    reason = (
        f"{seats} x {context_tokens:,} tokens need {shortfall.needed_bytes / _GIB:.1f} GiB on {shortfall.where}, "
        f"{available / _GIB:.1f} GiB are there"
    )
    if offer is not None:
        reason += f"; {offer.seats} x {offer.context_tokens:,} would fit"
    elif candidate.variant.shape.experts is not None:
        boxes = _boxes_needed(candidate, group)
        if boxes is not None:
            reason += f"; {boxes} such boxes together would hold it"
    return Rejection(
        candidate.variant.id, candidate.form.form, candidate.engine, "memory", reason,
        needed_bytes=shortfall.needed_bytes, available_bytes=available, counter_offer=offer,
    )  # fmt: skip


def _boxes_needed(candidate: _Candidate, group: Group) -> int | None:
    """How many boxes like this one would hold it with the usual seats: 2 or 4, else nobody would build it."""
    seats, context_tokens = candidate.seating.levels[candidate.seating.usual]
    for boxes in (2, 4):
        rooms = tuple(
            Room(f"{room.name}@{box}", room.available_bytes, room.reserve_bytes, room.device, room.index + box * 1024)
            for box in range(boxes)
            for room in group.rooms
        )
        if not isinstance(_place(candidate, Group(group.chip, rooms), seats, context_tokens), Shortfall):
            return boxes
    return None


def _to_plan(candidate: _Candidate, fit: _Fit, verdict: Verdict, installed: bool) -> FitPlan:
    variant, form = candidate.variant, candidate.form
    seats, context_tokens = candidate.seating.levels[fit.level]
    chosen = {line.device for line in fit.memory}
    devices = tuple(room.device for room in fit.group.rooms if room.device is not None and room.name in chosen)
    weights_bytes = candidate.load.total_bytes
    read_bytes = candidate.load.dense_bytes
    if variant.shape.experts and variant.shape.experts_used:
        read_bytes += candidate.load.expert_bytes * variant.shape.experts_used // variant.shape.experts
    per_token = float(kv_elements_per_token(variant.shape) * KV_BYTES_PER_ELEMENT[KvType.F16])
    notes: list[str] = []
    if not installed:
        notes.append(f"{candidate.engine} is not installed on this box.")
    if verdict.code != "on_card":
        notes.append(verdict.reason[0].upper() + verdict.reason[1:] + ".")
    if form.experimental:
        notes.append(f"{candidate.engine}'s own document calls this experimental.")
    if form.repository is None and form.modelscope is None:
        notes.append("Not published: it has to be made.")
    return FitPlan(
        variant=variant.id,
        quantization=form.form,
        engine=candidate.engine,
        devices=tuple(line.device for line in fit.memory),
        seats=seats,
        context_tokens=context_tokens,
        kv_type=KvType.F16,
        flash_attention=True,
        ubatch_tokens=_UBATCH_TOKENS,
        gpu_layers=variant.shape.layers + 1,
        tensor_split=(),
        memory=fit.memory,
        file_bytes=weights_bytes,
        decode_tokens_per_s=parallel_band(devices, read_bytes, per_token, experts=variant.shape.experts is not None),
        reduced=candidate.seating.reduced(fit.level),
        notes=tuple(notes),
        tensor_parallel=fit.split.tensor,
        data_parallel=fit.split.data,
        repository=form.repository or form.modelscope,
        installed=installed,
    )
