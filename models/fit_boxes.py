"""Fits one model over several boxes: one plan over all their devices, for vLLM and vLLM-Ascend. Pure.

The counterpart of ``models.fit_folder`` past one box; ``models.capacity`` reckons in the same way. How a model is
divided follows from which links carry what (vLLM's guide on parallelism): tensor parallel talks in every layer and
stays within a box, where the cards' own links are.

1. a mixture of experts (the 671B): attention is repeated for each part (data parallel), experts lie over all devices;
2. a dense model: each box has some of the layers (pipeline parallel), divided over its cards;
3. boxes without cards: heads are divided over the boxes where their number allows it, else layers.

All boxes have the same chip and give the same number of cards, that of the smallest.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import msgspec

from drivers.types import HardwareSnapshot
from models.errors import CannotCompute, ContextTooLong, MemoryUnknown, NeedsOtherEngine
from models.fit_folder import (
    HALF_NOTE,
    FolderFacts,
    candidates,
    host_line,
    plan_of,
    too_large,
    usual_levels,
)
from models.machine import Group, Machine, Room, read_machine
from models.parallel import ParallelLoad, Split, load_of, place_in_parallel, splits
from models.placement import Shortfall
from models.types import HOST, Catalogue, EngineName, FitPlan, MemoryEstimate, ModelShape

OVER_BOXES = frozenset({EngineName.VLLM, EngineName.VLLM_ASCEND})
"""Engines that the box starts over several boxes. MindIE wants a rank table of each site."""


@dataclass(frozen=True, slots=True)
class OneOfBoxes:
    """A box as far as a plan over several needs it. ``engines`` are those that it has."""

    name: str
    snapshot: HardwareSnapshot
    engines: frozenset[EngineName]


@dataclass(frozen=True, slots=True)
class Layout:
    """``tensor`` x ``data`` x ``pipeline`` parts over ``boxes``, ``per_box`` devices each (0: their processors)."""

    boxes: int
    tensor: int
    data: int = 1
    pipeline: int = 1
    per_box: int = 0

    @property
    def words(self) -> str:
        """In one line, for people."""
        sizes = f"TP{self.tensor}" + (f" DP{self.data}" if self.data > 1 else "")
        sizes += f" PP{self.pipeline}" if self.pipeline > 1 else ""
        what = f"{self.per_box} devices each" if self.per_box else "on their processors"
        return f"{self.boxes} boxes, {what}: {sizes}"


@dataclass(frozen=True, slots=True)
class BoxesPlan:
    """``plan`` as the first box has it: seats and sizes of the whole, devices and memory of that box alone."""

    plan: FitPlan
    layout: Layout
    half: bool


def fit_boxes(
    facts: FolderFacts,
    catalogue: Catalogue,
    boxes: Sequence[OneOfBoxes],
    seats: int | None = None,
    context_tokens: int | None = None,
) -> BoxesPlan:
    """How these boxes, the leader first, serve the model together. Seats and context that are given are kept exactly.

    Raises ``NeedsOtherEngine`` (no engine that all have), ``ContextTooLong``, ``CannotCompute`` (boxes that differ, a
    form that their cards do not compute), ``MemoryUnknown``, ``TooLarge``, ``ValueError`` (fewer than two boxes).
    """
    if len(boxes) < 2:
        raise ValueError("a plan over boxes needs two of them")
    model = facts.model
    engines = frozenset.intersection(*(box.engines for box in boxes)) & OVER_BOXES
    if not engines:
        raise NeedsOtherEngine(model.id, model.format.value)
    variant = None if model.variant is None else catalogue.variant(model.variant)
    shape = facts.shape if variant is None else variant.shape
    if context_tokens is not None and context_tokens > shape.context_length:
        raise ContextTooLong(model.name, context_tokens, shape.context_length)
    load = ParallelLoad(shape, facts.weights_bytes) if variant is None else load_of(variant, facts.weights_bytes)
    levels = usual_levels(shape, seats, context_tokens)
    machines = [read_machine(box.snapshot) for box in boxes]
    if all(not machine.groups for machine in machines):
        layout = _processor_layout(shape, len(boxes))
        if layout is None or EngineName.VLLM not in engines:
            raise CannotCompute(model.name, f"its {shape.layers} layers cannot be divided over {len(boxes)} boxes")
        engine, half = EngineName.VLLM, False
        rooms = [[_host(box, machine)] for box, machine in zip(boxes, machines, strict=True)]
    else:
        engine, layout, half, rooms = _on_cards(facts, load, boxes, machines, engines)
    last = Shortfall("the boxes", load.total_bytes, 0)
    for level in range(len(levels.levels) - 1, -1, -1):
        placed = _place(load, layout, rooms, *levels.levels[level])
        if not isinstance(placed, Shortfall):
            plan = replace(
                plan_of(facts, engine, levels, level, placed),
                devices=tuple(line.device for line in placed) if layout.per_box else (),
                gpu_layers=shape.layers + 1 if layout.per_box else 0,
                tensor_parallel=layout.tensor,
                data_parallel=layout.data,
                notes=(HALF_NOTE,) if half else (),
            )
            return BoxesPlan(plan, layout, half)
        last = placed
    raise too_large(facts, levels, last)


def _processor_layout(shape: ModelShape, boxes: int) -> Layout | None:
    if any(split.tensor == boxes for split in splits(shape, EngineName.VLLM, boxes)):
        return Layout(boxes, boxes)
    return Layout(boxes, 1, pipeline=boxes) if shape.layers >= boxes else None


def _on_cards(
    facts: FolderFacts,
    load: ParallelLoad,
    boxes: Sequence[OneOfBoxes],
    machines: Sequence[Machine],
    engines: Collection[EngineName],
) -> tuple[EngineName, Layout, bool, list[list[Room]]]:
    """The first engine and chip that every box has, and the same number of cards of each."""
    reasons: list[str] = []
    found = [{(engine, group.chip): (group, code) for engine, group, code in
              candidates(facts, machine, engines, reasons)} for machine in machines]  # fmt: skip
    for key, (_, code) in found[0].items():
        if not all(key in other for other in found):
            continue
        groups = [other[key][0] for other in found]
        layout = _card_layout(load.shape, key[0], groups)
        if layout is not None:
            rooms = [_first(group, layout.per_box) for group in groups]
            return key[0], layout, code == "as_f16", rooms
        reasons.append(f"its heads and layers cannot be divided over {len(boxes)} such boxes")
    if all(found):
        reasons.append("the boxes do not have the same cards")
    raise CannotCompute(facts.model.name, "; ".join(dict.fromkeys(reasons)) or "a box has no cards that can be used")


def _card_layout(shape: ModelShape, engine: EngineName, groups: Sequence[Group]) -> Layout | None:
    inside = list(splits(shape, engine, min(len(group.rooms) for group in groups)))
    if not inside:
        return None
    widest, count = inside[-1], len(groups)
    if shape.experts is not None:
        return Layout(count, widest.tensor, data=widest.data * count, per_box=widest.devices)
    return Layout(count, widest.tensor, pipeline=count, per_box=widest.tensor) if shape.layers >= count else None


def _place(
    load: ParallelLoad, layout: Layout, rooms: Sequence[Sequence[Room]], seats: int, context_tokens: int
) -> tuple[MemoryEstimate, ...] | Shortfall:
    """The first box's lines, when every box holds its part."""
    shape = load.shape
    if layout.data > 1:
        split = Split(layout.tensor, layout.data)
        # Numbered through all boxes: the lines of the first box come first.
        numbered = (replace(room, index=number) for number, room in enumerate(room for box in rooms for room in box))
        placed = place_in_parallel(load, split, tuple(numbered), seats, context_tokens)
        return placed if isinstance(placed, Shortfall) else placed[: layout.per_box]
    # A stage's share of the layers, rounded up; the embedding at one end and the output at the other are in it.
    stage = msgspec.structs.replace(shape, layers=-(-shape.layers // layout.pipeline))
    part = ParallelLoad(stage, -(-load.total_bytes // layout.pipeline))
    lines: list[tuple[MemoryEstimate, ...]] = []
    for box in rooms:
        if layout.per_box:
            found = place_in_parallel(part, Split(layout.tensor), tuple(box), seats, context_tokens)
            if isinstance(found, Shortfall):
                return found
            lines.append(found)
            continue
        own = ParallelLoad(part.shape, -(-part.dense_bytes // layout.tensor))
        whole = host_line(own, box[0], seats, context_tokens)
        line = replace(whole, kv_bytes=-(-whole.kv_bytes // min(layout.tensor, shape.kv_heads)))
        if line.total_bytes > line.available_bytes:
            return Shortfall(
                f"the host's memory of each of {layout.boxes} boxes", line.total_bytes, line.available_bytes
            )
        lines.append((line,))
    return lines[0]


def _first(group: Group, count: int) -> list[Room]:
    return sorted(group.rooms, key=lambda room: room.index)[:count]


def _host(box: OneOfBoxes, machine: Machine) -> Room:
    if machine.host is None:
        raise MemoryUnknown(f"{HOST} of {box.name}")
    return machine.host
