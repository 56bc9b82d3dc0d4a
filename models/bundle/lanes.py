"""Reads, hashes and writes at the same time: a file in chunks through three stages, each in a thread of its own.

While chunk 3 is read, chunk 2 is worked on (hashed and written) and chunk 1 goes into the sha256 of the whole file. A
chunk reaches the last stage only when the second has found it right. Three buffers of one chunk each are all the memory
this takes.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self

_BLOCK_BYTES = 4 * 1024 * 1024


class Lane:
    """A thread that does one thing at a time; ``wait`` gives its result or raises what it raised."""

    def __init__(self, name: str) -> None:
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)
        self._pending: Future[Any] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(wait=True)

    @property
    def is_busy(self) -> bool:
        return self._pending is not None and not self._pending.done()

    def wait(self) -> Any:
        pending, self._pending = self._pending, None
        return None if pending is None else pending.result()

    def submit(self, function: Callable[..., object], *args: object) -> None:
        self.wait()
        self._pending = self._pool.submit(function, *args)


class Digest:
    """sha256 of a whole file whose chunks come in order, with gaps that are read from the file itself."""

    def __init__(self, chunk_bytes: int, size_bytes: int, read: Callable[[int, int], bytes] | None = None) -> None:
        """``read(offset, length)`` gives bytes that did not come; without it only an unbroken row can be finished."""
        self._hash = hashlib.sha256()
        self._chunk_bytes = chunk_bytes
        self._size = size_bytes
        self._read = read
        self._done = 0
        self._broken = False

    def feed(self, number: int, data: memoryview) -> None:
        """The next chunk. Those before it that did not come are read, provided that none of them was ``skip``ped."""
        if self._broken:
            return
        self._catch_up(number * self._chunk_bytes)
        self._hash.update(data)
        self._done += len(data)

    def skip(self) -> None:
        """A chunk is wrong for now: what comes after it waits until ``finish``."""
        self._broken = True

    def finish(self) -> str:
        """The digest; what has not come yet is read."""
        self._catch_up(self._size)
        return self._hash.hexdigest()

    def _catch_up(self, end: int) -> None:
        while self._done < end:
            if self._read is None:
                raise ValueError("chunks came out of order and cannot be read again")
            block = self._read(self._done, min(_BLOCK_BYTES, end - self._done))
            if not block:
                raise ValueError("the file ends early")
            self._hash.update(block)
            self._done += len(block)


def flow(
    numbers: Iterable[int],
    buffer_bytes: int,
    read: Callable[[int, memoryview], memoryview | None],
    work: Callable[[int, memoryview], bool],
    digest: Digest | None,
    done: Callable[[int], None],
) -> list[int]:
    """Sends the chunks of ``numbers`` (ascending) through the stages; returns those that failed.

    ``read(number, buffer)`` fills a buffer and returns what it filled, ``None`` when it could not; ``work`` says
    whether the chunk is right; ``done`` is called in this thread for every right one. What they raise ends the flow.
    ``buffer_bytes`` is the length of the longest chunk.
    """
    failed: list[int] = []
    buffers = [memoryview(bytearray(buffer_bytes)) for _ in range(3)]
    with Lane("bundle-work") as worker, Lane("bundle-digest") as hasher:
        waiting: tuple[int, memoryview] | None = None

        def fail(number: int) -> None:
            failed.append(number)
            hasher.wait()
            if digest is not None:
                digest.skip()

        def settle() -> None:
            if waiting is None:
                return
            number, view = waiting
            if not worker.wait():
                fail(number)
                return
            if digest is not None:
                hasher.submit(digest.feed, number, view)
            done(number)

        for place, number in enumerate(numbers):
            view = read(number, buffers[place % 3])
            settle()
            waiting = None
            if view is None:
                fail(number)
                continue
            worker.submit(work, number, view)
            waiting = (number, view)
        settle()
        hasher.wait()
    return sorted(failed)


def read_fully(descriptor: int, buffer: memoryview, offset: int) -> int:
    """Fills ``buffer`` from ``offset`` unless the file ends; returns the bytes read. Raises ``OSError``."""
    filled = 0
    while filled < len(buffer) and (read := os.preadv(descriptor, [buffer[filled:]], offset + filled)):
        filled += read
    return filled
