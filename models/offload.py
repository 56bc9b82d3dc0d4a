"""Places part of a model in the host's memory, when the operator asks for it. Pure, over ``models.placement``.

A mixture of experts keeps attention, dense layers, shared experts, cache and output on the cards and its routed experts
in the host's memory (llama.cpp: ``--cpu-moe``): a token reads 8 of 256 of those. A dense model keeps as many whole
layers on the cards as fit and the others, with their part of the cache, on the host (``--n-gpu-layers``). Both are
slow, which is why they are never chosen unasked: what lies on the host is read at the speed of its memory.

Prompts: llama.cpp copies weights from the host to the first card and computes there when 32 tokens and more go through
them (``op_offload``). That pays for layers, and the card needs room for the copy. For experts it is switched off: of
those a prompt reads all, hundreds of gigabytes over the bus for every 512 tokens, where the copy of a matrix takes
1.5 to 7.6 GiB of the card (dry run of the 671B).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import msgspec

from models.machine import Room
from models.memory import kv_bytes, mask_bytes
from models.placement import Load, Placed, Shortfall, Wish, place_on_devices
from models.types import HOST, MemoryEstimate, ModelShape

_F32_BYTES = 4
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


def offload_notes(layers: int, host_layers: int, *, experts_on_host: bool) -> tuple[str, ...]:
    """What a plan says of its part on the host; nothing when there is none."""
    if not host_layers and not experts_on_host:
        return ()
    part = "Its experts lie" if experts_on_host else f"{host_layers} of {layers} layers lie"
    return (f"{part} in the host's memory, as asked for: slower than cards that hold all of it.",)


def expert_bytes(load: Load) -> int:
    """Bytes of the routed experts: from what one token reads (dense part + used / all of the experts), or where that is
    not known from the number of their weights. 0 for a model without experts."""
    shape, weights = load.shape, load.weights
    if load.expert_bytes is not None:
        return load.expert_bytes
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
    mean_layer = -(-dense_bytes // load.shape.layers)
    layer = load.dense_layer_bytes or -(-mean_layer * _LARGEST_DENSE_LAYER_PERCENT // 100)
    on_cards = Load(weights, load.shape, max(layer, mean_layer))
    used, count = load.shape.experts_used or 0, load.shape.experts or 1
    # What the processor keeps of the experts' work: two rows of the embedding for each expert used are above it.
    rows = 2 * used * wish.ubatch_tokens * load.shape.embedding_length * _F32_BYTES
    with_rows = replace(wish, host_extra_bytes=wish.host_extra_bytes + rows)
    placed = place_on_devices(on_cards, with_rows, rooms, host)
    if isinstance(placed, Shortfall):
        return placed
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
    # The last layers are the cards' (llama.cpp: n_gpu_layers counts from the end).
    moved = load.layers[: layers - kept]
    moved_bytes = sum(moved) if moved else -(-load.weights.repeating_bytes * (layers - kept) // layers)
    shape: ModelShape = msgspec.structs.replace(load.shape, layers=kept)
    weights = replace(
        load.weights,
        repeating_bytes=load.weights.repeating_bytes - moved_bytes,
        embedding_bytes=load.weights.embedding_bytes + moved_bytes,
    )
    on_cards = Load(weights, shape, load.largest_layer_bytes, layers=load.layers[layers - kept :])
    cache = kv_bytes(load.shape, wish.tokens, wish.kv_type) - kv_bytes(shape, wish.tokens, wish.kv_type)
    without_cache = replace(host, available_bytes=host.available_bytes - cache)
    with_copy = replace(wish, device_extra_bytes=wish.device_extra_bytes + _copied_bytes(load, wish))
    placed = place_on_devices(on_cards, with_copy, rooms, without_cache)
    if isinstance(placed, Shortfall):
        return placed
    memory = tuple(_with_cache(line, cache) if line.device == HOST else line for line in placed.memory)
    return Offloaded(replace(placed, memory=memory), on_cards, layers - kept, False, host_read_bytes=moved_bytes)


def _copied_bytes(load: Load, wish: Wish) -> int:
    """Room on a card for what llama.cpp copies there while a prompt goes through the host's layers: the largest matrix
    of a layer (in a mixture such as Q4_K_M up to 4/3 of its mean form), and with flash attention the mask twice."""
    shape = load.shape
    matrix = shape.feed_forward_length * shape.embedding_length
    attention = shape.embedding_length * (
        2 * shape.heads * shape.key_length + shape.kv_heads * (shape.key_length + shape.value_length)
    )
    largest = -(-load.largest_layer_bytes * matrix * 4 // ((3 * matrix + attention) * 3))
    masks = 2 * mask_bytes(wish.ubatch_tokens, wish.tokens, flash_attention=True) if wish.flash_attention else 0
    return largest + masks


def _with_cache(line: MemoryEstimate, cache: int) -> MemoryEstimate:
    return replace(line, kv_bytes=line.kv_bytes + cache, available_bytes=line.available_bytes + cache)
