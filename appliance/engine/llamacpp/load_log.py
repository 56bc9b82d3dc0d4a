"""What a real load took and where it went, read from the worker's log."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from appliance.engine.base import BufferBytes, LoadPlacement
from models.dry_run_log import ContextLog, LogNotUnderstood, ModelLog, place_of, read_load_log
from models.errors import ModelError
from models.gguf import read_header

_OFFLOADED = re.compile(r"load_tensors: offloaded (\d+)/(\d+) layers to GPU")
_SPLITS = re.compile(r"(?:sched_reserve|llama_context): graph\S*:? .*?splits = (\d+)")
"""Prints as ``graph: nodes = 142, splits = 3, ...``; a pipeline's line tells two figures, of which the first counts."""


def measured_bytes(model_path: Path, lines: Iterable[str]) -> dict[str, int] | None:
    """Bytes of all buffers by llama.cpp's device (``CUDA0``, ..., ``host``), without the driver's own memory.

    ``None`` when the log does not tell: a split model, another version of llama.cpp, lines that were pushed out. Blocks
    for as long as reading the file's header takes.
    """
    try:
        sums = read_load_log(read_header(model_path), lines)
    except (LogNotUnderstood, ModelError):
        return None
    return {device: sum(parts.values()) for device, parts in sums.items()}


def read_placement(lines: Iterable[str]) -> LoadPlacement | None:
    """Where weights, cache and compute buffers went; ``None`` when no line names a weights buffer.

    llama.cpp says "offloaded N/N layers" of layers that it meant for a card even where single tensors could not go
    there, so the buffers are read beside it.
    """
    model, context = ModelLog(), ContextLog()
    on_cards: int | None = None
    layers: int | None = None
    splits: int | None = None
    for line in lines:
        model.take(line)
        context.take(line)
        if found := _OFFLOADED.search(line):
            on_cards, layers = int(found[1]), int(found[2])
        elif found := _SPLITS.search(line):
            splits = int(found[1])
    if not any(model.buffers.values()):
        return None
    weights, cache, compute = (_by_place(part) for part in (model.buffers, context.cache, context.compute))
    places = sorted({*weights, *cache, *compute})
    return LoadPlacement(
        buffers={p: BufferBytes(weights.get(p, 0), cache.get(p, 0), compute.get(p, 0)) for p in places},
        layers_on_cards=on_cards,
        layers=layers,
        graph_splits=splits,
    )


def _by_place(sizes: Mapping[str, int]) -> dict[str, int]:
    found: dict[str, int] = {}
    for name, size in sizes.items():
        place = place_of(name)
        found[place] = found.get(place, 0) + size
    return found
