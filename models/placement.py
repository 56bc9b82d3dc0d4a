"""Places a model's layers, cache and buffers on a set of memories, or says how much is missing. Pure arithmetic.

1. One device: everything but the token embedding, exactly.
2. Several devices, most room first, as few as are enough: each holds whole layers with their part of the cache, its own
   compute buffer and its reserve; the output lies on the last. Layers are counted at the size of the largest one.
3. No device: all of it in the host's memory.

A device that shares the host's memory also carries the host's part.
"""

from __future__ import annotations

from dataclasses import dataclass

from drivers.types import Vendor
from models.machine import Room
from models.memory import CACHE_SLOTS, Weights, compute_bytes, host_compute_bytes, host_output_bytes, kv_bytes
from models.types import HOST, KvType, MemoryEstimate, ModelShape


@dataclass(frozen=True, slots=True)
class Load:
    """What is to be placed. ``largest_layer_bytes`` is at least ``repeating_bytes / layers``.

    ``expert_bytes`` are those of the routed experts, and ``dense_layer_bytes`` the largest layer without them, where a
    header tells.
    """

    weights: Weights
    shape: ModelShape
    largest_layer_bytes: int
    expert_bytes: int | None = None
    dense_layer_bytes: int | None = None


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
        return self.seats + CACHE_SLOTS


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


def _layer_cost(load: Load, sizes: _Sizes) -> int:
    return load.largest_layer_bytes + -(-sizes.kv // load.shape.layers)


def _spread(load: Load, sizes: _Sizes, rooms: tuple[Room, ...]) -> Placed | None:
    """Whole layers on each of ``rooms``, in proportion to what they can take; ``None`` when they cannot take all."""
    layer = _layer_cost(load, sizes)
    output_layers = -(-load.weights.cards_output_bytes // layer)
    takes = {r.name: max(0, (r.usable_bytes - sizes.compute) // layer) for r in rooms}
    if min(takes.values()) == 0 or sum(takes.values()) < load.shape.layers + output_layers:
        return None
    ordered = sorted(rooms, key=lambda r: r.index)
    if takes[ordered[-1].name] <= output_layers:
        ordered = sorted(rooms, key=lambda r: (takes[r.name], r.index))
    last = ordered[-1].name
    if takes[last] <= output_layers:
        return None
    takes[last] -= output_layers
    layers = _share(load.shape.layers, [takes[r.name] for r in ordered])
    memory = tuple(
        MemoryEstimate(
            device=room.name,
            weights_bytes=-(-load.weights.repeating_bytes * count // load.shape.layers)
            + (load.weights.cards_output_bytes if room.name == last else 0),
            kv_bytes=-(-sizes.kv * count // load.shape.layers),
            compute_bytes=sizes.compute,
            reserve_bytes=room.reserve_bytes,
            available_bytes=room.available_bytes,
        )
        for room, count in zip(ordered, layers, strict=True)
    )
    return Placed(tuple(ordered), (*layers[:-1], layers[-1] + 1), memory)


def _share(layers: int, takes: list[int]) -> list[int]:
    """``layers`` in proportion to ``takes`` and never above them (their sum is at least ``layers``)."""
    total = sum(takes)
    shares = [layers * take // total for take in takes]
    while (left := layers - sum(shares)) > 0:
        slack = sorted(range(len(takes)), key=lambda i: shares[i] - takes[i])
        for i in slack[:left]:
            shares[i] += shares[i] < takes[i]
    return shares


def _shortfall_together(load: Load, sizes: _Sizes, rooms: tuple[Room, ...]) -> Shortfall:
    """Several devices: the sum of what each must hold. Where that sum would do but no split into whole layers does, one
    layer more is said to be missing."""
    fixed = sum(r.reserve_bytes + sizes.compute for r in rooms)
    needed = load.largest_layer_bytes * load.shape.layers + load.weights.cards_output_bytes + sizes.kv + fixed
    available = sum(r.available_bytes for r in rooms)
    if needed <= available:
        needed = available + _layer_cost(load, sizes)
    return Shortfall(f"{len(rooms)} devices together", needed, available)
