"""sha256 of large files, with progress."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

Progress = Callable[[int, int], None]
"""Called with (bytes done, bytes in all)."""

BLOCK_BYTES = 4 * 1024 * 1024


def ignore_progress(_done_bytes: int, _total_bytes: int) -> None:
    """Progress nobody wants to see."""


def sha256_of(path: Path, progress: Progress = ignore_progress) -> str:
    """Hex digest of the whole file. Raises ``OSError``."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return sha256_of_descriptor(descriptor, progress)
    finally:
        os.close(descriptor)


def sha256_of_descriptor(descriptor: int, progress: Progress = ignore_progress) -> str:
    """As ``sha256_of``, from the start of an open file; its position is not moved. Raises ``OSError``."""
    total = os.fstat(descriptor).st_size
    digest = hashlib.sha256()
    buffer = memoryview(bytearray(BLOCK_BYTES))
    done = 0
    while read := os.preadv(descriptor, [buffer], done):
        digest.update(buffer[:read])
        done += read
        progress(done, total)
    return digest.hexdigest()
