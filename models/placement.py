"""Places a model's layers, cache and buffers on a set of memories, or says how much is missing. Pure arithmetic.

1. One device: everything but the token embedding, exactly.
2. Several devices, most room first, as few as are enough: each holds whole layers with their part of the cache, its own
   compute buffer and its reserve; the output lies on the last. All are filled to the same share of their room. Layers
   whose sizes are not known are counted at the size of the largest one.
3. No device: all of it in the host's memory.

A device that shares the host's memory also carries the host's part.
"""

from __future__ import annotations

import bisect
from dataclasses import dataclass
from itertools import accumulate

from drivers.types import Vendor
from models.machine import Room
from models.memory import (
    CACHE_SLOTS,
    SPARE_SEQUENCES,
    Weights,
    compute_bytes,
    host_compute_bytes,
    host_output_bytes,
    kv_bytes,
)
from models.types import HOST, KvType, MemoryEstimate, ModelShape


@dataclass(frozen=True, slots=True)
class Load:
    """What is to be placed. ``largest_layer_bytes`` is at least ``repeating_bytes / layers``.

    ``layers`` are the sizes of all layers in their order, where they are known. ``expert_bytes`` are those of the
    routed experts, and ``dense_layer_bytes`` the largest layer without them, where a header tells.
    """

    weights: Weights
    shape: ModelShape
    largest_layer_bytes: int
    expert_bytes: int | None = None
    dense_layer_bytes: int | None = None
    layers: tuple[int, ...] = ()

    @property
    def packed_layers(self) -> tuple[int, ...]:
        """Sizes at which the layers are packed."""
        return self.layers or (self.largest_layer_bytes,) * self.shape.layers


@dataclass(frozen=True, slots=True)
class Wish:
    """How it is to be opened. ``device_extra_bytes`` and ``host_extra_bytes`` are added to the compute buffers: what
    real loads took beside the formulas (``models.residuals``)."""

    seats: int
    context_tokens: int
    kv_type: KvType
    flash_attention: bool
    ubatch_tokens: int
    device_extra_bytes: int = 0
    host_extra_bytes: int = 0

    @property
    def tokens(self) -> int:
        return self.seats * self.context_tokens

    @property
    def sequences(self) -> int:
        """llama.cpp's n_seq_max, and as many rows of logits."""
        return self.seats + CACHE_SLOTS + SPARE_SEQUENCES


@dataclass(frozen=True, slots=True)
class Placed:
    """``rooms`` in the order of the layers, empty on the host; ``tensor_split`` counts layers, the output as one
    more."""

    rooms: tuple[Room, ...]
    tensor_split: tuple[int, ...]
    memory: tuple[MemoryEstimate, ...]


@dataclass(frozen=True, slots=True)
class Shortfall:
    """What is missing where. ``where`` is a device, ``host`` or ``N devices together``."""

    where: str
    needed_bytes: int
    available_bytes: int

    @property
    def missing_bytes(self) -> int:
        return self.needed_bytes - self.available_bytes


@dataclass(frozen=True, slots=True)
class _Sizes:
    kv: int
    compute: int
    host_compute: int


def _sizes(load: Load, wish: Wish, *, on_card: bool = True, pipeline: bool = False) -> _Sizes:
    compute = compute_bytes(
        load.shape,
        wish.tokens,
        flash_attention=wish.flash_attention,
        kv_type=wish.kv_type,
        ubatch_tokens=wish.ubatch_tokens,
        outputs=wish.sequences,
        sequences=wish.sequences,
        on_card=on_card,
        pipeline=pipeline,
    )
    host_compute = host_output_bytes(load.shape, wish.sequences)
    if on_card:
        host_compute += host_compute_bytes(
            load.shape,
            wish.tokens,
            flash_attention=wish.flash_attention,
            kv_type=wish.kv_type,
            ubatch_tokens=wish.ubatch_tokens,
            sequences=wish.sequences,
            pipeline=pipeline,
        )
    if on_card:
        compute += wish.device_extra_bytes
    kv = kv_bytes(load.shape, wish.tokens, wish.kv_type)
    return _Sizes(kv, compute, host_compute + wish.host_extra_bytes)


def _host_line(load: Load, sizes: _Sizes, host: Room) -> MemoryEstimate:
    """What the host holds beside the cards: the token embedding, inputs and logits."""
    return MemoryEstimate(
        HOST, load.weights.embedding_bytes, 0, sizes.host_compute, host.reserve_bytes, host.available_bytes
    )


def place_on_host(load: Load, wish: Wish, host: Room) -> Placed | Shortfall:
    """All of the model in the host's memory."""
    sizes = _sizes(load, wish, on_card=False)
    line = MemoryEstimate(
        device=HOST,
        weights_bytes=load.weights.total_bytes,
        kv_bytes=sizes.kv,
        compute_bytes=sizes.compute + sizes.host_compute,
        reserve_bytes=host.reserve_bytes,
        available_bytes=host.available_bytes,
    )
    if line.total_bytes > line.available_bytes:
        return Shortfall(HOST, line.total_bytes, line.available_bytes)
    return Placed(rooms=(), tensor_split=(), memory=(line,))


def place_on_devices(load: Load, wish: Wish, rooms: tuple[Room, ...], host: Room) -> Placed | Shortfall:
    """All layers on ``rooms`` (at least one), the token embedding on ``host``."""
    sizes = _sizes(load, wish)
    ranked = sorted(rooms, key=lambda r: (-r.usable_bytes, r.index))
    unified = ranked[0].unified
    host_line = _host_line(load, sizes, host)
    if not unified and host_line.total_bytes > host_line.available_bytes:
        return Shortfall(HOST, host_line.total_bytes, host_line.available_bytes)
    best = ranked[0]
    alone = MemoryEstimate(
        device=best.name,
        weights_bytes=load.weights.on_cards_bytes + (load.weights.embedding_bytes if unified else 0),
        kv_bytes=sizes.kv,
        compute_bytes=sizes.compute + (sizes.host_compute if unified else 0),
        reserve_bytes=best.reserve_bytes,
        available_bytes=best.available_bytes,
    )
    if alone.total_bytes <= alone.available_bytes:
        return Placed((best,), (load.shape.layers + 1,), (alone,) if unified else (alone, host_line))
    if len(ranked) == 1 or unified:
        return Shortfall(best.name, alone.total_bytes, alone.available_bytes)
    sizes = _sizes(load, wish, pipeline=_is_asynchronous(best))
    host_line = _host_line(load, sizes, host)
    if host_line.total_bytes > host_line.available_bytes:
        return Shortfall(HOST, host_line.total_bytes, host_line.available_bytes)
    for count in range(2, len(ranked) + 1):
        placed = _spread(load, sizes, tuple(ranked[:count]))
        if placed is not None:
            return Placed(placed.rooms, placed.tensor_split, (*placed.memory, host_line))
    return _shortfall_together(load, sizes, rooms)


def _is_asynchronous(room: Room) -> bool:
    """Whether several such cards work as a pipeline: llama.cpp's CUDA backend says so of itself, CANN's does not."""
    return room.device is not None and room.device.vendor == Vendor.NVIDIA


def _spread(load: Load, sizes: _Sizes, rooms: tuple[Room, ...]) -> Placed | None:
    """Whole layers on each of ``rooms`` in the order of their numbers; where that does not do, from the smallest to the
    largest. ``None`` when they cannot take all."""
    by_number = sorted(rooms, key=lambda r: r.index)
    by_room = sorted(rooms, key=lambda r: (r.usable_bytes, r.index))
    ends = _ends(load, sizes)
    if ends[-1] > sum(room.usable_bytes - sizes.compute for room in rooms):
        return None
    for ordered in (by_number, by_room):
        layers = _pack(ends, [room.usable_bytes - sizes.compute for room in ordered])
        if layers is not None:
            return _placed(load, sizes, tuple(ordered), layers)
    return None


def _ends(load: Load, sizes: _Sizes) -> list[int]:
    """Bytes of the first 1, 2, ... layers with their part of the cache, and at the end those of all with the output."""
    cache = -(-sizes.kv // load.shape.layers)
    ends = list(accumulate(size + cache for size in load.packed_layers))
    return [*ends, ends[-1] + _outside_layers(load)]


def _outside_layers(load: Load) -> int:
    """The output, and vectors that belong to no layer."""
    rest = load.weights.repeating_bytes - sum(load.layers) if load.layers else 0
    return load.weights.cards_output_bytes + max(0, rest)


_SHARES = 64


def _pack(ends: list[int], capacities: list[int]) -> list[int] | None:
    """How many layers go on each device: every device filled to the same share of its capacity, the smallest share
    (of ``_SHARES``) that holds all; ``None`` when one would stay empty or not even all of it is enough."""
    low, high = 0, _SHARES
    best: list[int] | None = None
    while low < high or best is None:
        share = (low + high) // 2 if best is not None else high
        found = _fill(ends, [capacity * share // _SHARES for capacity in capacities])
        if found is not None:
            best, high = found, share
        elif best is None:
            return None
        else:
            low = share + 1
    return best if min(best) > 0 else None


def _fill(ends: list[int], capacities: list[int]) -> list[int] | None:
    """Layers on each device, one device filled after the other; the output, the last of ``ends``, needs a layer before
    it. ``None`` when something is left."""
    counts: list[int] = []
    done, before = 0, 0
    for capacity in capacities:
        end = bisect.bisect_right(ends, before + capacity, done)
        counts.append(end - done)
        done, before = end, ends[end - 1] if end else 0
    if done < len(ends):
        return None
    counts[-1] -= 1
    return counts


def _placed(load: Load, sizes: _Sizes, rooms: tuple[Room, ...], layers: list[int]) -> Placed:
    memory: list[MemoryEstimate] = []
    first = 0
    for number, (room, count) in enumerate(zip(rooms, layers, strict=True)):
        if load.layers:
            weights = sum(load.layers[first : first + count])
        else:
            weights = -(-load.weights.repeating_bytes * count // load.shape.layers)
        memory.append(
            MemoryEstimate(
                device=room.name,
                weights_bytes=weights + (_outside_layers(load) if number == len(rooms) - 1 else 0),
                kv_bytes=-(-sizes.kv * count // load.shape.layers),
                compute_bytes=sizes.compute,
                reserve_bytes=room.reserve_bytes,
                available_bytes=room.available_bytes,
            )
        )
        first += count
    return Placed(rooms, (*layers[:-1], layers[-1] + 1), tuple(memory))


def _shortfall_together(load: Load, sizes: _Sizes, rooms: tuple[Room, ...]) -> Shortfall:
    """Several devices: the sum of what each must hold. Where that sum would do but no split into whole layers does, one
    layer more is said to be missing."""
    fixed = sum(r.reserve_bytes + sizes.compute for r in rooms)
    needed = sum(load.packed_layers) + _outside_layers(load) + sizes.kv + fixed
    available = sum(r.available_bytes for r in rooms)
    if needed <= available:
        needed = available + load.largest_layer_bytes + -(-sizes.kv // load.shape.layers)
    return Shortfall(f"{len(rooms)} devices together", needed, available)
