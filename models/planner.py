"""Decides what a machine should run. Pure: values in, values out.

For every variant x quantization of the catalogue, in this order, the first that holds ends it:
1. below the variant's floor of quality: rejected (``quality_floor``);
2. more context than it was trained for: rejected (``context_too_long``);
3. no group of devices computes it on the card: rejected with the gate's code;
4. free memory unknown: rejected (``memory_unknown``), never guessed;
5. no seats x context fits: rejected (``memory``) with needed and available bytes and a counter-offer;
6. otherwise a plan, on the group of devices where most seats x context fit.

Plans are ranked: those that give the wished (or usual) seats x context first; of them those fast enough to be of use (a
model that thinks for thousands of tokens at two a second answers after half an hour); then by variant, then by
quantization, then by seats x context, then by speed. So the best variant that fits comes first and what is left of the
memory raises its quantization. The processor is used only when the machine has no cards, or when the caller allows it:
never in silence.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

from drivers.types import HardwareSnapshot, Vendor
from models.fit import chip_name
from models.gate import ChipClass, Computes, Verdict, flash_attention, judge, kv_types
from models.hub_planner import hub_candidates
from models.machine import CPU_CHIP, Group, Machine, Room, read_machine
from models.memory import UBATCH_TOKENS, variant_weights
from models.offload import Offloaded, offload_notes, place_with_host
from models.placement import Load, Placed, Shortfall, Wish, place_on_devices, place_on_host
from models.ranking import is_slow, nearness, rank
from models.residuals import CatalogueCorrections, Corrections
from models.seating import Seating, check_wish, seating, smaller_wishes
from models.speed import plan_speed
from models.types import (
    Catalogue,
    CounterOffer,
    EngineName,
    FitPlan,
    KvType,
    PlanResult,
    QuantizationBytes,
    Rejection,
    Variant,
)

_UNIFORM = frozenset({"F32", "F16", "BF16", "Q8_0", "Q4_0-pure"})
"""Quantizations that store every layer in the same form."""
_LAYER_ABOVE_MEAN_PERCENT = 16
"""How far the largest layer is taken to lie above the mean where nobody knows it (unsloth's dynamic forms): of the
forms above their floor whose layers are known none is further (671B in IQ3_M: 14.6 %)."""
_SMALL_UBATCH_TOKENS = 128
_ENGINE = EngineName.LLAMA_CPP


@dataclass(frozen=True, slots=True)
class _Candidate:
    variant: Variant
    quantization: str
    size: QuantizationBytes
    load: Load
    seating: Seating
    offload: bool
    corrections: Corrections


@dataclass(frozen=True, slots=True)
class _Asked:
    seats: int | None
    context_tokens: int | None
    offload: bool
    corrections: Corrections


@dataclass(frozen=True, slots=True)
class _Fit:
    level: int
    wish: Wish
    placed: Placed
    offloaded: Offloaded | None = None


def plan(
    catalogue: Catalogue,
    snapshot: HardwareSnapshot,
    seats: int | None = None,
    context_tokens: int | None = None,
    *,
    allow_cpu: bool | None = None,
    usable_vendors: Collection[Vendor] | None = None,
    engines: Collection[EngineName] = (_ENGINE,),
    installed: Collection[EngineName] | None = None,
    offload: bool = False,
    corrections: CatalogueCorrections | None = None,
) -> PlanResult:
    """All plans for ``snapshot``, best first, and a reason for everything else, the nearest first.

    ``seats`` sequences with ``context_tokens`` each are kept exactly when given. ``allow_cpu``: ``None`` plans for the
    processor only on a machine without cards. ``usable_vendors``: those the installed llama.cpp was built for.
    ``offload`` lets llama.cpp keep a part in the host's memory where the cards are too small (``models.offload``).
    ``corrections`` is what loads on this very machine took beside the formulas; it is added, never taken off.
    ``engines`` are planned for; plans for one that is not ``installed`` (``None``: all are) say so and stand behind the
    others. Raises ``ValueError`` for seats or context below one.
    """
    check_wish(seats, context_tokens)
    machine = read_machine(snapshot, usable_vendors)
    all_cards = machine if usable_vendors is None else read_machine(snapshot)
    there = engines if installed is None else installed
    known = corrections or CatalogueCorrections()
    use_cpu = not snapshot.devices if allow_cpu is None else allow_cpu
    ranked: list[tuple[tuple[int, ...], FitPlan]] = []
    rejections: list[tuple[tuple[int, int], Rejection]] = []
    for variant in catalogue.variants:
        outcomes: list[tuple[FitPlan, int] | Rejection] = []
        if _ENGINE in engines:
            for name, size in variant.quantizations.items():
                wish = _Asked(seats, context_tokens, offload, known.of(variant.id, name))
                outcomes.append(_judge_candidate(catalogue, machine, use_cpu, variant, name, size, wish))
        trained = variant.shape.context_length
        levels = None if (context_tokens or 0) > trained else seating(seats, context_tokens, trained)
        outcomes += hub_candidates(catalogue, all_cards, engines, variant, levels, there)
        for outcome in outcomes:
            if isinstance(outcome, Rejection):
                rejections.append((nearness(outcome, variant), outcome))
            else:
                plan_, level = outcome
                ranked.append((rank(catalogue, variant, plan_, level), plan_))
    ranked.sort(key=lambda r: r[0])
    rejections.sort(key=lambda r: (r[0], catalogue.quantization_rank(r[1].quantization)))
    return PlanResult(
        plans=tuple(p for _, p in ranked), rejections=tuple(r for _, r in rejections), notes=machine.notes
    )


def _judge_candidate(
    catalogue: Catalogue,
    machine: Machine,
    use_cpu: bool,
    variant: Variant,
    name: str,
    size: QuantizationBytes,
    asked: _Asked,
) -> tuple[FitPlan, int] | Rejection:
    seats, context_tokens = asked.seats, asked.context_tokens
    if catalogue.quantization_rank(name) > catalogue.quantization_rank(variant.floor):
        return Rejection(
            variant.id, name, _ENGINE, "quality_floor", f"below {variant.floor}, the lowest worth running: "
            f"{variant.floor_reason}",
        )  # fmt: skip
    trained = variant.shape.context_length
    if context_tokens is not None and context_tokens > trained:
        return Rejection(
            variant.id, name, _ENGINE, "context_too_long",
            f"trained for {trained:,} tokens of context, {context_tokens:,} were asked for",
            counter_offer=CounterOffer(seats or 1, trained),
        )  # fmt: skip
    levels = seating(seats, context_tokens, trained)
    candidate = _Candidate(variant, name, size, _load(variant, name, size), levels, asked.offload, asked.corrections)
    verdicts = [(group, judge(group.chip, _ENGINE, variant.architecture, name)) for group in machine.groups]
    able = [group for group, verdict in verdicts if verdict.computes is Computes.ON_CARD]
    if not able and not use_cpu:
        return _gate_rejection(candidate, [v for _, v in verdicts], machine)
    return _fit_best(candidate, able, machine, use_cpu)


def _gate_rejection(candidate: _Candidate, verdicts: list[Verdict], machine: Machine) -> Rejection:
    """The most hopeful verdict speaks; without any there is nothing to compute on."""
    order = (Computes.PARTLY, Computes.NOT)
    verdict = min(verdicts, key=lambda v: order.index(v.computes), default=None)
    if verdict is None:
        reason = "no card can be used" + (f": {machine.notes[0]}" if machine.notes else "")
        return Rejection(candidate.variant.id, candidate.quantization, _ENGINE, "no_devices", reason)
    return Rejection(
        candidate.variant.id, candidate.quantization, _ENGINE, verdict.code, f"{verdict.reason} ({verdict.source})"
    )


def _fit_best(
    candidate: _Candidate, able: list[Group], machine: Machine, use_cpu: bool
) -> tuple[FitPlan, int] | Rejection:
    """The group (or the host) with the highest level; else the smallest shortfall."""
    fits: list[tuple[tuple[int, int, int], FitPlan, int]] = []
    groups = [*able, *_mixed(able)]
    shortfalls: list[tuple[Shortfall, Group | None]] = []
    unknown: list[str] = [] if machine.host is not None else ["the host"]
    for place, group in enumerate([*groups, *([None] if use_cpu else [])]):
        if place >= len(able) and group is not None and any(not plan.reduced for _, plan, _ in fits):
            continue  # cards of one kind are enough: a slower one beside them would hold them up
        if machine.host is None or (group is not None and not group.rooms):
            unknown += group.unknown if group is not None else ()
            continue
        found = _climb(candidate, group, machine.host)
        if isinstance(found, Shortfall):
            shortfalls.append((found, group))
        else:
            # Cards before the processor whatever the level: a processor is slower by an order of magnitude.
            key = (int(group is None), -found.level, place)
            fits.append((key, _to_plan(candidate, group, found), found.level))
    if candidate.offload and machine.host is not None and not any(plan.devices for _, plan, _ in fits):
        for group in able:
            part = _climb_with_host(candidate, group, machine.host) if group.rooms else None
            if part is not None:
                fits.append(((0, -part.level, 0), _to_plan(candidate, group, part), part.level))
    if fits:
        _, best, level = min(fits, key=lambda f: f[0])
        return best, level
    if not shortfalls or machine.host is None:
        where = ", ".join(dict.fromkeys(unknown)) or "the devices"
        reason = f"how much memory is free on {where} is not known; nothing is guessed"
        return Rejection(candidate.variant.id, candidate.quantization, _ENGINE, "memory_unknown", reason)
    shortfall, group = min(shortfalls, key=lambda s: s[0].missing_bytes)
    return _memory_rejection(candidate, shortfall, group, machine.host)


def _mixed(groups: list[Group]) -> list[Group]:
    """NVIDIA cards of several kinds as one group, with the rules of the oldest: llama.cpp spreads layers over any."""
    cards = [group for group in groups if group.chip.chip_class is ChipClass.NVIDIA and group.rooms]
    if len(cards) < 2:
        return []
    oldest = min((group.chip for group in cards), key=lambda chip: chip.compute_capability or (0, 0))
    rooms = tuple(room for group in cards for room in group.rooms if not room.unified)
    return [Group(oldest, rooms)] if len(rooms) > 1 else []


def _climb(candidate: _Candidate, group: Group | None, host: Room) -> _Fit | Shortfall:
    """The highest level that fits, or what the usual (or only) level lacks when not even the lowest does."""
    levels = candidate.seating.levels
    for level in range(len(levels) - 1, -1, -1):
        fit = _try(candidate, group, host, *levels[level], save=level <= candidate.seating.usual)
        if not isinstance(fit, Shortfall):
            return _Fit(level, *fit)
        if level == candidate.seating.usual:
            usual = fit
    return usual


def _climb_with_host(candidate: _Candidate, group: Group, host: Room) -> _Fit | None:
    """The highest level that fits with a part on the host."""
    flash = flash_attention(group.chip)[0]
    for level in range(len(candidate.seating.levels) - 1, -1, -1):
        seats, context_tokens = candidate.seating.levels[level]
        wish = _wish(candidate, group, seats, context_tokens, KvType.F16, flash, UBATCH_TOKENS)
        found = place_with_host(candidate.load, wish, group.rooms, host)
        if isinstance(found, Offloaded):
            return _Fit(level, wish, found.placed, found)
    return None


def _try(
    candidate: _Candidate, group: Group | None, host: Room, seats: int, context_tokens: int, *, save: bool = True
) -> tuple[Wish, Placed] | Shortfall:
    """One level on one group.

    ``save``: before giving up, a cache in Q8_0 is tried on cards that have it (the saving that costs no quality; Q4_0
    does), or else, without flash attention, a smaller micro-batch, because there the scores fill the compute buffer. A
    processor has the smaller one at once: its prompts are not slower for it.
    """
    chip = CPU_CHIP if group is None else group.chip
    forms = []
    for flash in flash_attention(chip):
        if flash or group is not None:
            forms.append((KvType.F16, UBATCH_TOKENS, flash))
        if not flash:
            forms.append((KvType.F16, _SMALL_UBATCH_TOKENS, flash))
        elif save and group is not None and KvType.Q8_0 in kv_types(chip, flash_attention_on=flash):
            forms.append((KvType.Q8_0, UBATCH_TOKENS, flash))
    shortfall: Shortfall | None = None
    for kv_type, ubatch_tokens, flash in forms:
        wish = _wish(candidate, group, seats, context_tokens, kv_type, flash, ubatch_tokens)
        if group is None:
            result = place_on_host(candidate.load, wish, host)
        else:
            result = place_on_devices(candidate.load, wish, group.rooms, host)
        if isinstance(result, Placed):
            return wish, result
        shortfall = result
    assert shortfall is not None
    return shortfall


def _wish(
    candidate: _Candidate,
    group: Group | None,
    seats: int,
    context_tokens: int,
    kv_type: KvType,
    flash: bool,
    ubatch_tokens: int,
) -> Wish:
    """One opening, with what loads of this form on such a chip took beside the formulas."""
    if not candidate.corrections.residuals:
        return Wish(seats, context_tokens, kv_type, flash, ubatch_tokens)
    chip = chip_name(() if group is None else tuple(room.device for room in group.rooms if room.device is not None))
    extra = candidate.corrections.for_opening(chip, seats, context_tokens)
    return Wish(seats, context_tokens, kv_type, flash, ubatch_tokens, extra.device_bytes, extra.host_bytes)


def _memory_rejection(candidate: _Candidate, shortfall: Shortfall, group: Group | None, host: Room) -> Rejection:
    seats, context_tokens = candidate.seating.levels[candidate.seating.usual]
    offer = None
    for fewer_seats, fewer_tokens in smaller_wishes(seats, context_tokens):
        if not isinstance(_try(candidate, group, host, fewer_seats, fewer_tokens), Shortfall):
            offer = CounterOffer(fewer_seats, fewer_tokens)
            break
    gib = 1024**3
    reason = (
        f"{seats} x {context_tokens:,} tokens need {shortfall.needed_bytes / gib:.1f} GiB on {shortfall.where}, "
        f"{max(shortfall.available_bytes, 0) / gib:.1f} GiB are there"
    )
    if offer is not None:
        reason += f"; {offer.seats} x {offer.context_tokens:,} would fit"
    return Rejection(
        candidate.variant.id, candidate.quantization, _ENGINE, "memory", reason,
        needed_bytes=shortfall.needed_bytes, available_bytes=max(shortfall.available_bytes, 0), counter_offer=offer,
    )  # fmt: skip


def _load(variant: Variant, name: str, size: QuantizationBytes) -> Load:
    weights = variant_weights(variant, size)
    mean = -(-weights.repeating_bytes // variant.shape.layers)
    if size.layers:
        layers = tuple(each for count, each in size.layers for _ in range(count))
        return Load(weights, variant.shape, max(mean, *layers), layers=layers)
    uniform = name in _UNIFORM and variant.shape.experts is None
    return Load(weights, variant.shape, mean if uniform else -(-mean * (100 + _LAYER_ABOVE_MEAN_PERCENT) // 100))


def _to_plan(candidate: _Candidate, group: Group | None, fit: _Fit) -> FitPlan:
    variant = candidate.variant
    wish = fit.wish
    speed = plan_speed(candidate.load.weights, variant, wish, fit.placed, fit.offloaded)
    notes: list[str] = []
    if group is None:
        notes.append(
            "Runs on the processor, which is slow for a model that thinks before it answers; its speed is estimated for"
            " usual memory, from a desktop's to a server's."
        )
    host_layers = fit.offloaded.host_layers if fit.offloaded is not None else 0
    experts_on_host = fit.offloaded is not None and fit.offloaded.experts_on_host
    notes += offload_notes(variant.shape.layers, host_layers, experts_on_host=experts_on_host)
    if wish.kv_type is not KvType.F16:
        notes.append(f"The context is kept in {wish.kv_type} to save memory.")
    if not candidate.size.exact:
        notes.append("Its size was published only in rounded gigabytes; one percent was added.")
    if candidate.quantization == "Q4_0-pure":
        notes.append("Not published: it has to be made from the F16 file.")
    found = FitPlan(
        variant=variant.id,
        quantization=candidate.quantization,
        engine=_ENGINE,
        devices=tuple(r.name for r in fit.placed.rooms),
        seats=wish.seats,
        context_tokens=wish.context_tokens,
        kv_type=wish.kv_type,
        flash_attention=wish.flash_attention,
        ubatch_tokens=wish.ubatch_tokens,
        gpu_layers=0 if group is None else variant.shape.layers + 1 - host_layers,
        tensor_split=fit.placed.tensor_split,
        memory=fit.placed.memory,
        file_bytes=candidate.load.weights.file_bytes,
        decode_tokens_per_s=speed,
        reduced=candidate.seating.reduced(fit.level),
        notes=tuple(notes),
        host_layers=host_layers,
        experts_on_host=experts_on_host,
    )
    if speed is None or not is_slow(found):
        return found
    slow = f"Slow: about {speed.low} to {speed.high} tokens per second for one person."
    return replace(found, notes=(slow, *found.notes))
