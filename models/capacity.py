"""How many people a number of equal boxes serves: the planner's arithmetic from one box to sixteen. Pure.

``python -m models.capacity`` prints docs/capacity.md; a test compares the two.

A *group* is the devices that hold the model once. For a dense model it lies within a box, for the 671B it may be of
several; every box of a number that a group does not fill is left over. Of all groups that the heads allow, the one that
gives the number of boxes the most seats is taken, the fewest devices where several do.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from drivers.types import Device, Health, Vendor
from models.cards import parallel_band
from models.catalogue import kv_elements_per_token, load_catalogue
from models.gate import Computes, classify
from models.hub_forms import form_bytes, judge_form
from models.machine import DEVICE_RESERVE_BYTES, Room
from models.memory import KV_BYTES_PER_ELEMENT
from models.parallel import MAX_DEVICES, ParallelLoad, Split, load_of, place_in_parallel, splits
from models.placement import Shortfall
from models.types import Catalogue, EngineName, HubForm, KvType, SpeedBand, Variant

BOXES = (1, 2, 3, 4, 6, 8, 12, 16)
CONTEXT_TOKENS = 32_768
VARIANTS = ("R1-0528-671B", "R1-Distill-Llama-70B")
_GIB = 1024**3
_MOST_SEATS = 4096


@dataclass(frozen=True, slots=True)
class BoxKind:
    """A box as it is sold: ``devices`` of ``total_gib`` each, of which ``free_gib`` are free on an idle machine."""

    title: str
    vendor: Vendor
    chip: str
    devices: int
    total_gib: float
    free_gib: float
    compute_capability: str | None = None


KINDS = (
    BoxKind("Atlas 800I A2, 8 x 910B3 64 GB", Vendor.ASCEND, "910B3", 8, 64, 61),
    BoxKind("Atlas 800 A3, 16 x 910C die 64 GB", Vendor.ASCEND, "910C", 16, 64, 61),
    BoxKind("8 x H20 96 GB", Vendor.NVIDIA, "NVIDIA H20", 8, 95.6, 93.7, "9.0"),
    BoxKind("8 x H20 141 GB", Vendor.NVIDIA, "NVIDIA H20", 8, 141, 138.2, "9.0"),
    BoxKind("8 x L20 48 GB", Vendor.NVIDIA, "NVIDIA L20", 8, 44.5, 43.6, "8.9"),
)


@dataclass(frozen=True, slots=True)
class Capacity:
    """``seats`` of ``CONTEXT_TOKENS`` over all ``boxes``, in ``groups`` of ``split``. ``speed`` is one stream's."""

    boxes: int
    form: str
    engine: EngineName
    split: Split
    groups: int
    seats: int
    weights_bytes: int
    cache_bytes: int
    speed: SpeedBand | None

    def boxes_of_group(self, kind: BoxKind) -> int:
        return -(-self.split.devices // kind.devices)


def capacity(catalogue: Catalogue, kind: BoxKind, variant: Variant, boxes: int) -> Capacity | None:
    """The best that so many boxes give with the best form that they compute; ``None`` when it does not fit."""
    for form, engine in _forms(catalogue, kind, variant):
        best: Capacity | None = None
        load = load_of(variant, form_bytes(variant, form))
        for split in _splits(kind, variant, engine, boxes):
            found = _with_split(kind, variant, form, engine, load, split, boxes)
            if found is not None and (best is None or found.seats > best.seats):
                best = found
        if best is not None:
            return best
    return None


def _forms(catalogue: Catalogue, kind: BoxKind, variant: Variant) -> Iterator[tuple[HubForm, EngineName]]:
    """Published forms that the kind computes, the best quality first."""
    device = _device(kind, 0)
    chip = classify(device)
    wanted = (EngineName.VLLM,) if kind.vendor is Vendor.NVIDIA else (EngineName.VLLM_ASCEND,)
    ranked = sorted(variant.hub_forms, key=lambda form: catalogue.quantization_rank(form.form))
    for form in ranked:
        for engine in form.engines:
            if engine not in wanted:
                continue
            if judge_form(chip, engine, variant.architecture, form.form).computes is Computes.ON_CARD:
                yield form, engine


def _splits(kind: BoxKind, variant: Variant, engine: EngineName, boxes: int) -> Iterator[Split]:
    """Groups within one box; for a mixture over several whole boxes too, whose tensor-parallel parts stay in a box."""
    yield from splits(variant.shape, engine, kind.devices)
    if variant.shape.experts is None:
        return
    inside = list(splits(variant.shape, engine, kind.devices))[-1]
    span = 2
    while span <= boxes and span * kind.devices <= MAX_DEVICES:
        yield Split(inside.tensor, inside.data * span)
        span *= 2


def _with_split(
    kind: BoxKind, variant: Variant, form: HubForm, engine: EngineName, load: ParallelLoad, split: Split, boxes: int
) -> Capacity | None:
    rooms = tuple(_room(kind, index) for index in range(split.devices))
    seats = _most_seats(load, split, rooms)
    if seats == 0:
        return None
    per_box = kind.devices // split.devices
    groups = boxes * per_box if per_box else boxes // (split.devices // kind.devices)
    if groups == 0:
        return None
    placed = place_in_parallel(load, split, rooms, seats, CONTEXT_TOKENS)
    assert not isinstance(placed, Shortfall)
    read_bytes = load.dense_bytes
    if variant.shape.experts and variant.shape.experts_used:
        read_bytes += load.expert_bytes * variant.shape.experts_used // variant.shape.experts
    per_token = float(kv_elements_per_token(variant.shape) * KV_BYTES_PER_ELEMENT[KvType.F16])
    # One stream is computed by one tensor-parallel part: the data-parallel others do not make it faster.
    devices = tuple(room.device for room in rooms[: split.tensor] if room.device is not None)
    return Capacity(
        boxes=boxes,
        form=form.form,
        engine=engine,
        split=split,
        groups=groups,
        seats=groups * seats,
        weights_bytes=placed[0].weights_bytes,
        cache_bytes=placed[0].kv_bytes,
        speed=parallel_band(devices, read_bytes, per_token, experts=variant.shape.experts is not None),
    )


def _most_seats(load: ParallelLoad, split: Split, rooms: tuple[Room, ...]) -> int:
    """The most seats that fit, found by halves; the same number for each data-parallel part."""
    low, high = 0, _MOST_SEATS
    while low < high:
        middle = (low + high + 1) // 2
        placed = place_in_parallel(load, split, rooms, middle * split.data, CONTEXT_TOKENS)
        if isinstance(placed, Shortfall):
            high = middle - 1
        else:
            low = middle
    return low * split.data


def _device(kind: BoxKind, index: int) -> Device:
    return Device(
        kind.vendor,
        index,
        kind.chip,
        chip=kind.chip if kind.vendor is Vendor.ASCEND else None,
        memory_total_bytes=int(kind.total_gib * _GIB),
        memory_free_bytes=int(kind.free_gib * _GIB),
        compute_capability=kind.compute_capability,
        health=Health.OK,
    )


def _room(kind: BoxKind, index: int) -> Room:
    device = _device(kind, index)
    return Room(device.key, int(kind.free_gib * _GIB), DEVICE_RESERVE_BYTES, device, index)


# -- the page ---------------------------------------------------------------------------------------------------------


def page() -> str:
    """docs/capacity.md."""
    catalogue = load_catalogue()
    parts = [_HEAD]
    for variant_id in VARIANTS:
        variant = catalogue.variant(variant_id)
        assert variant is not None
        parts.append(f"\n## {variant_id}\n")
        parts += [_table(catalogue, kind, variant) for kind in KINDS]
    return "".join(parts)


def _table(catalogue: Catalogue, kind: BoxKind, variant: Variant) -> str:
    rows = [(boxes, capacity(catalogue, kind, variant, boxes)) for boxes in BOXES]
    if all(found is None for _, found in rows):
        return f"\n### {kind.title}\n\nDoes not fit in any number of boxes.\n"
    lines = [
        f"\n### {kind.title}\n",
        "| boxes | form, engine | groups | each | seats | weights / cache per device | one stream, tokens/s |",
        "|---:|---|---:|---|---:|---|---|",
    ]
    for boxes, found in rows:
        if found is None:
            lines.append(f"| {boxes} | does not fit | | | | | |")
            continue
        span = found.boxes_of_group(kind)
        where = f"{span} boxes" if span > 1 else f"{found.split.devices} devices"
        layout = f"{where}: TP{found.split.tensor}" + (f" DP{found.split.data}" if found.split.data > 1 else "")
        speed = "-" if found.speed is None else f"{found.speed.low:g} to {found.speed.high:g}"
        memory = f"{found.weights_bytes / _GIB:.1f} / {found.cache_bytes / _GIB:.1f} GiB"
        form = f"{found.form}, {found.engine}"
        lines.append(f"| {boxes} | {form} | {found.groups} | {layout} | {found.seats:,} | {memory} | {speed} |")
    return "\n".join(lines) + "\n"


_HEAD = f"""# Capacity

How many seats of {CONTEXT_TOKENS:,} tokens one to sixteen equal boxes give, as the planner reckons. Written by
`python -m models.capacity`; a test compares this page with it. Nothing here was measured on a card.

What is assumed:

- **Memory.** An engine takes 90 % of a device, or what is free on an idle machine less 0.5 GiB. Of that go the weights,
  2 GiB of work and the activations of 8,192 tokens in flight; the rest is the cache, in 16 bits. No speculation (MTP).
- **A seat** holds {CONTEXT_TOKENS:,} tokens at the same time as all others: the worst case. People who write short
  chats fit several times as many; the queue takes the others.
- **A group** is the devices that hold the model once: tensor parallel (TP) divides every layer, data parallel (DP)
  repeats attention and cache, experts are spread over all devices of the group. vLLM-Ascend wants 32, 64 or 128 heads
  on each device of the 671B. A dense model is never spread over boxes; the 671B is, in groups of whole boxes, at most
  64 devices, whose tensor-parallel parts stay within a box. Boxes that a group does not fill are left over. The form is
  the best published one that the cards compute.
- **Speed** is what one stream of {4096:,} tokens can expect of the memory's bandwidth of one tensor-parallel part, in
  the band that reports of such engines lie in; many streams at once are slower each. Links between boxes are not
  reckoned.
- Several groups stand behind one address through a load balancer, or `r1box` boxes of their own. One group over several
  boxes is a cluster ([cluster.md](cluster.md)), whose plan is reckoned in the same way from what the boxes have free.
"""

if __name__ == "__main__":
    print(page(), end="")
