"""Places a model on equal devices that work on every layer together: tensor, data and expert parallel. Pure.

How vLLM and its kin use memory: they take a share of each device at the start (``gpu_memory_utilization``, 0.9), load
the weights, measure one forward pass and give what is left to the cache. So per device

    budget  = min(0.9 x total, free - 0.5 GiB)
    weights = dense part / tensor parallel + experts / all devices
    cache   = cache of the device's share of the seats, its heads divided by tensor parallel (MLA: not divided)
    work    = 2 GiB + the largest activation of 8,192 tokens in flight

The work is a rule of thumb (gpustack reckons 2 GiB, kvplan 0.8 to 1.5 GiB), the rest is arithmetic. Which numbers of
devices are allowed: heads divide by tensor parallel, and so do the key-value heads or the reverse; vLLM-Ascend wants
32, 64 or 128 heads left on each device for the 671B (its FAQ), so that one runs there with data parallel beside.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from models.machine import Room
from models.memory import kv_bytes
from models.placement import Shortfall
from models.types import EngineName, KvType, MemoryEstimate, ModelShape, Variant

UTILIZATION_PERCENT = 90
_KEPT_FREE_BYTES = 512 * 1024**2
_WORK_BYTES = 2 * 1024**3
_TOKENS_IN_FLIGHT = 8192
_ACTIVATION_BYTES = 2
_ASCEND_HEADS_LEFT = frozenset({32, 64, 128})
MAX_DEVICES = 64


@dataclass(frozen=True, slots=True)
class Split:
    """``tensor`` x ``data`` devices; the experts of a mixture are spread over all of them."""

    tensor: int
    data: int = 1

    @property
    def devices(self) -> int:
        return self.tensor * self.data


@dataclass(frozen=True, slots=True)
class ParallelLoad:
    """What is to be placed: ``dense_bytes`` is divided by tensor parallel, ``expert_bytes`` by all devices."""

    shape: ModelShape
    dense_bytes: int
    expert_bytes: int = 0

    @property
    def total_bytes(self) -> int:
        return self.dense_bytes + self.expert_bytes


def load_of(variant: Variant, weights_bytes: int) -> ParallelLoad:
    """Divides the weights of a mixture into experts and the rest, by the number of their parameters."""
    shape = variant.shape
    if shape.experts is None:
        return ParallelLoad(shape, weights_bytes)
    read = variant.quantizations.get("Q8_0")
    # bytes_per_token = dense + used / all of the experts; solved for the experts' share of the Q8_0 file.
    if read is None or read.bytes_per_token is None or shape.experts_used is None:
        return ParallelLoad(shape, weights_bytes)
    on_cards = read.tensor_bytes - read.token_embd_bytes
    experts = (on_cards - read.bytes_per_token) * shape.experts // (shape.experts - shape.experts_used)
    share_bytes = weights_bytes * experts // read.tensor_bytes
    return ParallelLoad(shape, weights_bytes - share_bytes, share_bytes)


def splits(shape: ModelShape, engine: EngineName, available: int) -> Iterator[Split]:
    """Allowed splits on up to ``available`` devices, fewest devices first: powers of two."""
    count = 1
    while count <= min(available, MAX_DEVICES):
        split = _split(shape, engine, count)
        if split is not None:
            yield split
        count *= 2


def _split(shape: ModelShape, engine: EngineName, count: int) -> Split | None:
    if shape.kv_lora_rank is not None and engine is not EngineName.VLLM:
        tensor = next((t for t in (count, 4, 2, 1) if count % t == 0 and shape.heads // t in _ASCEND_HEADS_LEFT), None)
        return None if tensor is None else Split(tensor, count // tensor)
    if shape.heads % count:
        return None
    divides = shape.kv_lora_rank is not None or shape.kv_heads % count == 0 or count % shape.kv_heads == 0
    return Split(count) if divides else None


def budget_bytes(room: Room) -> int:
    """What the engine may take of a device."""
    total = room.device.memory_total_bytes if room.device is not None else None
    free = room.available_bytes - _KEPT_FREE_BYTES
    if room.unified:
        return room.usable_bytes - _KEPT_FREE_BYTES
    return free if total is None else min(free, total * UTILIZATION_PERCENT // 100)


def place_in_parallel(
    load: ParallelLoad, split: Split, rooms: tuple[Room, ...], seats: int, context_tokens: int
) -> tuple[MemoryEstimate, ...] | Shortfall:
    """A line for each of the first ``split.devices`` rooms, most room first, or what the smallest of them lacks."""
    chosen = sorted(sorted(rooms, key=lambda r: (-budget_bytes(r), r.index))[: split.devices], key=lambda r: r.index)
    weights = -(-load.dense_bytes // split.tensor) + -(-load.expert_bytes // split.devices)
    own_seats = -(-seats // split.data)
    cache = kv_bytes(load.shape, own_seats * context_tokens, KvType.F16)
    if load.shape.kv_lora_rank is None:
        cache = -(-cache // min(split.tensor, load.shape.kv_heads))
    work = _WORK_BYTES + _activation_bytes(load.shape, split)
    lines = tuple(
        MemoryEstimate(
            device=room.name,
            weights_bytes=weights,
            kv_bytes=cache,
            compute_bytes=work,
            reserve_bytes=room.available_bytes - budget_bytes(room),
            available_bytes=room.available_bytes,
        )
        for room in chosen
    )
    worst = max(lines, key=lambda line: line.total_bytes - line.available_bytes)
    if worst.total_bytes > worst.available_bytes:
        where = worst.device if len(lines) == 1 else f"each of {len(lines)} devices"
        return Shortfall(where, worst.total_bytes, worst.available_bytes)
    return lines


def _activation_bytes(shape: ModelShape, split: Split) -> int:
    width = 4 * shape.embedding_length + 2 * -(-shape.feed_forward_length // split.tensor)
    return _TOKENS_IN_FLIGHT * width * _ACTIVATION_BYTES
