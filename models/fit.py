"""Fits a file that is there onto the machine that is there. Pure: works on the header and a snapshot.

1. The cards that compute every matrix of the file (by the tensor types it holds, not by its label), most memory first.
2. When they have too little memory: the same cards with a part of the file in the host's memory, if the caller allows
that.
3. Otherwise the processor, if the caller allows it: the plan says so in ``notes``.
4. Otherwise a typed error with needed and available bytes.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import replace
from itertools import product

from drivers.types import Device, HardwareSnapshot, Vendor
from models.cards import decode_band
from models.catalogue import kv_elements_per_token
from models.errors import CannotCompute, ContextTooLong, MemoryUnknown, TooLarge
from models.gate import Computes, flash_attention, judge_types
from models.gguf_header import GgufHeader
from models.machine import CPU_CHIP, Group, Machine, read_machine
from models.memory import KV_BYTES_PER_ELEMENT, UBATCH_TOKENS, header_weights
from models.offload import Offloaded, offload_notes, place_with_host
from models.placement import Load, Placed, Shortfall, Wish, place_on_devices, place_on_host
from models.residuals import Corrections
from models.seating import Seating, seating, small_model_seating
from models.speed import with_host
from models.types import EXPERT_TENSORS, HOST, EngineName, FitPlan, KvType, ModelShape, SpeedBand

_EXPERT = re.compile(EXPERT_TENSORS)

_LONG_CONTEXT_TOKENS = 32_768
"""From here on a model gets the seats of R1; one trained on less is a demo or test model."""


def fit_installed(
    header: GgufHeader,
    snapshot: HardwareSnapshot,
    seats: int | None = None,
    context_tokens: int | None = None,
    *,
    allow_cpu: bool = True,
    usable_vendors: Collection[Vendor] | None = None,
    corrections: Corrections | None = None,
    offload: bool = False,
) -> FitPlan:
    """How to open the file of ``header`` on the machine of ``snapshot``: all layers on cards, or none; with
    ``offload`` the experts or some layers on the host when the cards are too small (``models.offload``).

    Seats and context that are given are kept exactly; otherwise the largest usual ones that fit are chosen, never more
    context than the model was trained for. ``usable_vendors`` are those the engine was built for (``None``: all).
    ``corrections`` is what loads of this very file took beside the formulas; it is added.

    Raises ``ContextTooLong``, ``CannotCompute``, ``MemoryUnknown``, ``TooLarge`` (with both byte counts),
    ``NotAChatModel`` or ``CorruptHeader`` (dimensions missing or absurd), ``ValueError`` (seats or context below one).
    """
    shape = header.shape()
    if context_tokens is not None and context_tokens > shape.context_length:
        raise ContextTooLong(header.name, context_tokens, shape.context_length)
    if seats is None and context_tokens is None and shape.context_length < _LONG_CONTEXT_TOKENS:
        levels = small_model_seating(shape.context_length)
    else:
        levels = seating(seats, context_tokens, shape.context_length)
    machine = read_machine(snapshot, usable_vendors)
    if machine.host is None:
        raise MemoryUnknown(HOST)
    load = load_of(header, shape)
    known = corrections or Corrections()
    reasons: list[str] = list(machine.notes)
    shortfalls: list[Shortfall] = []
    able: list[Group] = []
    for group in machine.groups:
        verdict = judge_types(group.chip, header.architecture, header.matrix_types)
        if verdict.computes is not Computes.ON_CARD:
            reasons.append(f"{verdict.reason} ({verdict.source})")
            continue
        if not group.rooms:
            continue
        result = _climb(header, load, levels, group, machine, known)
        if isinstance(result, FitPlan):
            return result
        shortfalls.append(result)
        able.append(group)
    for group in able if offload else ():
        part = _climb(header, load, levels, group, machine, known, offload=True)
        if isinstance(part, FitPlan):
            return part
    if not allow_cpu and (machine.groups or snapshot.devices):
        _refuse(header, levels, machine, shortfalls, reasons)
    result = _climb(header, load, levels, None, machine, known)
    if isinstance(result, Shortfall):
        raise _too_large(header, levels, min([result, *shortfalls], key=lambda s: s.missing_bytes))
    notes = [f"{s.where}: {_gib(s.needed_bytes)} needed, {_gib(max(s.available_bytes, 0))} there" for s in shortfalls]
    return _on_processor(result, bool(snapshot.devices), reasons + notes)


def largest_layer_bytes(header: GgufHeader, layers: int) -> int:
    """Bytes of the largest repeating layer; at least the mean, so that all layers always fit in ``layers`` times
    this."""
    mean = -(-header_weights(header).repeating_bytes // layers)
    return max(mean, max(_layer_bytes(header, experts=True).values(), default=0))


def _layer_bytes(header: GgufHeader, *, experts: bool) -> dict[str, int]:
    """Bytes of each repeating layer, with or without its routed experts."""
    sizes: dict[str, int] = {}
    for tensor in header.tensors:
        prefix, _, rest = tensor.name.partition(".")
        if prefix == "blk" and (experts or not _EXPERT.search(tensor.name)):
            number = rest.partition(".")[0]
            sizes[number] = sizes.get(number, 0) + tensor.size_bytes
    return sizes


def load_of(header: GgufHeader, shape: ModelShape) -> Load:
    """What of a file is to be placed."""
    largest = largest_layer_bytes(header, shape.layers)
    sizes = _layer_bytes(header, experts=True)
    numbers = [str(number) for number in range(shape.layers)]
    layers = tuple(sizes[number] for number in numbers) if set(numbers) == set(sizes) else ()
    if shape.experts is None:
        return Load(header_weights(header), shape, largest, layers=layers)
    experts = sum(tensor.size_bytes for tensor in header.tensors if _EXPERT.search(tensor.name))
    dense = max(_layer_bytes(header, experts=False).values(), default=0)
    return Load(header_weights(header), shape, largest, experts, dense, layers)


def chip_name(devices: tuple[Device, ...]) -> str:
    """The chip as measurements name it: that of the first device; ``cpu`` without devices."""
    return (devices[0].chip or devices[0].name) if devices else "cpu"


def _climb(
    header: GgufHeader,
    load: Load,
    levels: Seating,
    group: Group | None,
    machine: Machine,
    corrections: Corrections,
    *,
    offload: bool = False,
) -> FitPlan | Shortfall:
    """The highest level that fits, else what the lowest lacks; with ``offload`` with a part on the host."""
    assert machine.host is not None
    chip = CPU_CHIP if group is None else group.chip
    name = chip_name(() if group is None else tuple(r.device for r in group.rooms if r.device is not None))
    choices = flash_attention(chip, legacy_mla=header.is_legacy_mla)
    placed: Placed | Shortfall | Offloaded | None = None
    for level, flash in product(range(len(levels.levels) - 1, -1, -1), choices):
        seats, context_tokens = levels.levels[level]
        ubatch_tokens = UBATCH_TOKENS if flash else UBATCH_TOKENS // 4
        extra = corrections.for_opening(name, seats, context_tokens)
        wish = Wish(seats, context_tokens, KvType.F16, flash, ubatch_tokens, extra.device_bytes, extra.host_bytes)
        if group is None:
            placed = place_on_host(load, wish, machine.host)
        elif offload:
            placed = place_with_host(load, wish, group.rooms, machine.host)
        else:
            placed = place_on_devices(load, wish, group.rooms, machine.host)
        if not isinstance(placed, Shortfall):
            return _to_plan(header, load, wish, placed, reduced=levels.reduced(level))
    assert isinstance(placed, Shortfall)
    return placed


def _to_plan(header: GgufHeader, load: Load, wish: Wish, found: Placed | Offloaded, *, reduced: bool) -> FitPlan:
    part = found if isinstance(found, Offloaded) else None
    placed = part.placed if part is not None else found
    assert isinstance(placed, Placed)
    host_layers = part.host_layers if part is not None else 0
    experts_on_host = part is not None and part.experts_on_host
    return FitPlan(
        variant=header.name,
        quantization=header.quantization,
        engine=EngineName.LLAMA_CPP,
        devices=tuple(r.name for r in placed.rooms),
        seats=wish.seats,
        context_tokens=wish.context_tokens,
        kv_type=wish.kv_type,
        flash_attention=wish.flash_attention,
        ubatch_tokens=wish.ubatch_tokens,
        gpu_layers=load.shape.layers + 1 - host_layers if placed.rooms else 0,
        tensor_split=placed.tensor_split,
        memory=placed.memory,
        file_bytes=header.file_bytes,
        decode_tokens_per_s=_speed(load, wish, placed, part),
        reduced=reduced,
        notes=offload_notes(load.shape.layers, host_layers, experts_on_host=experts_on_host),
        host_layers=host_layers,
        experts_on_host=experts_on_host,
    )


def _speed(load: Load, wish: Wish, placed: Placed, part: Offloaded | None) -> SpeedBand | None:
    """Only for dense models on known cards: what a mixture reads per token is not in the header."""
    if not placed.rooms or load.shape.experts is not None:
        return None
    devices = tuple(r.device for r in placed.rooms if r.device is not None)
    layers = sum(placed.tensor_split)
    per_token = kv_elements_per_token(load.shape) * KV_BYTES_PER_ELEMENT[wish.kv_type]
    weights = load.weights if part is None else part.on_cards.weights
    on_cards = decode_band(devices, weights, tuple(c / layers for c in placed.tensor_split), float(per_token))
    return on_cards if part is None else with_host(on_cards, part.host_read_bytes)


def _on_processor(plan: FitPlan, has_cards: bool, reasons: list[str]) -> FitPlan:
    if not has_cards:
        return plan
    why = "; ".join(reasons) or "no card can be used"
    return replace(plan, notes=(f"Runs on the processor although the machine has cards: {why}.",))


def _refuse(
    header: GgufHeader, levels: Seating, machine: Machine, shortfalls: list[Shortfall], reasons: list[str]
) -> None:
    if shortfalls:
        raise _too_large(header, levels, min(shortfalls, key=lambda s: s.missing_bytes))
    unknown = [name for group in machine.groups for name in group.unknown]
    if unknown and all(not g.rooms for g in machine.groups):
        raise MemoryUnknown(", ".join(unknown))
    raise CannotCompute(header.name, "; ".join(reasons) or "no card can be used")


def _too_large(header: GgufHeader, levels: Seating, shortfall: Shortfall) -> TooLarge:
    seats, context_tokens = levels.levels[0]
    return TooLarge(
        f"{header.name} {header.quantization}",
        shortfall.needed_bytes,
        max(shortfall.available_bytes, 0),
        shortfall.where,
        seats,
        context_tokens,
    )


def _gib(size_bytes: int) -> str:
    return f"{size_bytes / 1024**3:.1f} GiB"
