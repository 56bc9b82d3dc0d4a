"""What a real load took, read from the worker's log: the measure against which plans are corrected."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from models.dry_run_log import LogNotUnderstood, read_load_log
from models.errors import ModelError
from models.gguf import read_header


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
