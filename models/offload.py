"""Places part of a model in the host's memory, when the operator asks for it. Pure, over ``models.placement``.

A mixture of experts keeps attention, dense layers, shared experts, cache and output on the cards and its routed experts
in the host's memory (llama.cpp: ``--cpu-moe``): a token reads 8 of 256 of those. A dense model keeps as many whole
layers on the cards as fit and the others, with their part of the cache, on the host (``--n-gpu-layers``). Both are
slow, which is why they are never chosen unasked: what lies on the host is read at the speed of its memory.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import msgspec

from models.machine import Room
from models.memory import kv_bytes
from models.placement import Load, Placed, Shortfall, Wish, place_on_devices
from models.types import HOST, MemoryEstimate, ModelShape

_LARGEST_DENSE_LAYER_PERCENT = 150
"""The first three layers of the 671B have a dense feed-forward of 396 million weights where the others have attention
and one shared expert: by so much the largest may lie above the mean."""


@dataclass(frozen=True, slots=True)
class Offloaded:
    """``placed`` with the host's line; ``on_cards`` is the part of the load that lies on the cards, ``host_layers`` how
    many layers do not, ``host_read_bytes`` what one token reads of the host's memory."""

    placed: Placed
    on_cards: Load
    host_layers: int
    experts_on_host: bool
    host_read_bytes: int


def place_with_host(load: Load, wish: Wish, rooms: tuple[Room, ...], host: Room) -> Offloaded | Shortfall:
    """Experts to the host for a mixture, layers to the host for others. ``rooms`` has at least one device.

    A device with unified memory gains nothing: what it lacks the host lacks too, so that is a ``Shortfall``.
    """
    if any(room.unified for room in rooms):
        unplaced = place_on_devices(load, wish, rooms, host)
        return unplaced if isinstance(unplaced, Shortfall) else Offloaded(unplaced, load, 0, False, 0)
    if load.shape.experts is not None:
        return _experts_to_host(load, wish, rooms, host)
    return _layers_to_host(load, wish, rooms, host)


def expert_bytes(load: Load) -> int:
    """Bytes of the routed experts: from what one token reads (dense part + used / all of the experts), or where that is
    not known from the number of their weights. 0 for a model without experts."""
    shape, weights = load.shape, load.weights
    if shape.experts is None or shape.experts_used is None:
        return 0
    if weights.bytes_per_token is not None:
        spared = weights.on_cards_bytes - weights.bytes_per_token
        return spared * shape.experts // (shape.experts - shape.experts_used)
    # 653.9 of 671.0 billion weights of R1 are routed experts.
    return weights.on_cards_bytes * 974 // 1000


def _experts_to_host(load: Load, wish: Wish, rooms: tuple[Room, ...], host: Room) -> Offloaded | Shortfall:
    experts = min(expert_bytes(load), load.weights.repeating_bytes)
    dense_bytes = load.weights.repeating_bytes - experts
    weights = replace(
        load.weights,
        repeating_bytes=dense_bytes,
        embedding_bytes=load.weights.embedding_bytes + experts,
        bytes_per_token=None,
    )
    layer = -(-dense_bytes * _LARGEST_DENSE_LAYER_PERCENT // (100 * load.shape.layers))
    on_cards = Load(weights, load.shape, layer)
    placed = place_on_devices(on_cards, wish, rooms, host)
    if isinstance(placed, Shortfall):
        return placed
    used, count = load.shape.experts_used or 0, load.shape.experts or 1
    return Offloaded(placed, on_cards, 0, experts_on_host=True, host_read_bytes=experts * used // count)


def _layers_to_host(load: Load, wish: Wish, rooms: tuple[Room, ...], host: Room) -> Offloaded | Shortfall:
    """The most layers on the cards, found by halving: fewer layers always fit where more did."""
    layers = load.shape.layers
    low, high = 0, layers - 1
    best: Offloaded | None = None
    shortfall: Shortfall | None = None
    while low < high or best is None:
        middle = (low + high + 1) // 2
        if middle == 0:
            break
        tried = _with_layers(load, wish, rooms, host, middle)
        if isinstance(tried, Offloaded):
            best, low = tried, middle
        else:
            shortfall, high = tried, middle - 1
    if best is not None:
        return best
    return shortfall or Shortfall(HOST, load.weights.total_bytes, host.available_bytes)


def _with_layers(load: Load, wish: Wish, rooms: tuple[Room, ...], host: Room, kept: int) -> Offloaded | Shortfall:
    layers = load.shape.layers
    moved_bytes = -(-load.weights.repeating_bytes * (layers - kept) // layers)
    shape: ModelShape = msgspec.structs.replace(load.shape, layers=kept)
    weights = replace(
        load.weights,
        repeating_bytes=load.weights.repeating_bytes - moved_bytes,
        embedding_bytes=load.weights.embedding_bytes + moved_bytes,
    )
    on_cards = Load(weights, shape, load.largest_layer_bytes)
    cache = kv_bytes(load.shape, wish.tokens, wish.kv_type) - kv_bytes(shape, wish.tokens, wish.kv_type)
    without_cache = replace(host, available_bytes=host.available_bytes - cache)
    placed = place_on_devices(on_cards, wish, rooms, without_cache)
    if isinstance(placed, Shortfall):
        return placed
    memory = tuple(_with_cache(line, cache) if line.device == HOST else line for line in placed.memory)
    return Offloaded(replace(placed, memory=memory), on_cards, layers - kept, False, host_read_bytes=moved_bytes)


def _with_cache(line: MemoryEstimate, cache: int) -> MemoryEstimate:
    return replace(line, kv_bytes=line.kv_bytes + cache, available_bytes=line.available_bytes + cache)
