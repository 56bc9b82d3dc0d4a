"""sha256 of large files, with progress."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path

Progress = Callable[[int, int], None]
"""Called with (bytes done, bytes in all)."""

Buffer = bytes | bytearray | memoryview
"""Bytes to hash or write."""

BLOCK_BYTES = 4 * 1024 * 1024


def ignore_progress(_done_bytes: int, _total_bytes: int) -> None:
    """Progress nobody wants to see."""


def sha256_of(path: Path, progress: Progress = ignore_progress) -> str:
    """Hex digest of the whole file. Raises ``OSError``."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
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


def damaged_ranges(path: Path, chunk_bytes: int, chunks: Sequence[str]) -> list[tuple[int, int]]:
    """``(start, end)`` in bytes of the runs of chunks whose sha256 is another one; what is cut off counts. Raises
    ``OSError``."""
    ranges: list[tuple[int, int]] = []
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        for number, expected in enumerate(chunks):
            start = number * chunk_bytes
            digest = hashlib.sha256()
            end = start
            while end < start + chunk_bytes:
                block = os.pread(descriptor, min(BLOCK_BYTES, start + chunk_bytes - end), end)
                if not block:
                    break
                digest.update(block)
                end += len(block)
            if digest.hexdigest() == expected:
                continue
            if ranges and ranges[-1][1] == start:
                ranges[-1] = (ranges[-1][0], start + chunk_bytes)
            else:
                ranges.append((start, start + chunk_bytes))
    finally:
        os.close(descriptor)
    return ranges
