"""Reads a file of a bundle by its chunks, wherever its parts lie: one folder, several sticks, or two copies of one."""

from __future__ import annotations

import bisect
import contextlib
import hashlib
import os
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from models.bundle.errors import BundleUnreadable
from models.bundle.folder import BundleFolder, OpenBundle
from models.bundle.lanes import read_fully
from models.bundle.manifest import BundleFile, BundlePart

_NOT_THOSE = "they are not those of the manifest"
_MOST_ERRORS = 3
"""So many failed reads in a row mean that the stick is gone, not that a place on it is bad."""


@dataclass(frozen=True, slots=True)
class _Copy:
    folder: BundleFolder
    descriptor: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class BadRange:
    """Bytes ``start`` to ``end`` of a part that are not what they should be, and why."""

    part: BundlePart
    start: int
    end: int
    why: str = _NOT_THOSE

    @property
    def size_bytes(self) -> int:
        return self.end - self.start

    def __str__(self) -> str:
        where = f"{self.part.path} (stick {self.part.stick})"
        if self.start == self.end:
            return f"{where}: {self.why}"
        return f"{where} bytes {self.start:,} to {self.end:,}: {self.why}"


def span(file: BundleFile, number: int) -> tuple[int, int]:
    """``(offset, length)`` of a chunk in the file."""
    offset = number * file.chunk_bytes
    return offset, min(file.chunk_bytes, file.size_bytes - offset)


class FileReader:
    """One file of a bundle, opened wherever one of its parts is at hand. A context manager."""

    def __init__(self, bundle: OpenBundle, file: BundleFile) -> None:
        """Raises ``BundleEntryRefused`` or ``BundleUnreadable``."""
        self.file = file
        self._starts = [0]
        for part in file.parts:
            self._starts.append(self._starts[-1] + part.size_bytes)
        self._errors = 0
        self._stack = contextlib.ExitStack()
        self._copies: list[list[_Copy]] = []
        try:
            for part in file.parts:
                self._copies.append([c for f in bundle.folders if (c := self._open(f, part)) is not None])
        except BaseException:
            self._stack.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    @property
    def missing_parts(self) -> list[BundlePart]:
        """Parts that no folder at hand has."""
        return [part for part, copies in zip(self.file.parts, self._copies, strict=True) if not copies]

    @property
    def too_long(self) -> list[BadRange]:
        """Parts that lie there longer than the manifest says, a bad range each."""
        found = []
        for part, copies in zip(self.file.parts, self._copies, strict=True):
            longest = max((c.size_bytes for c in copies), default=0)
            if copies and all(c.size_bytes > part.size_bytes for c in copies):
                found.append(BadRange(part, part.size_bytes, longest, "they should not be there"))
        return found

    def part_of(self, number: int) -> BundlePart:
        """The part in which a chunk lies."""
        return self.file.parts[self._place(number)]

    def is_at_hand(self, number: int) -> bool:
        """Whether the chunk's part lies in one of the folders."""
        return bool(self._copies[self._place(number)])

    def read(self, number: int, buffer: memoryview) -> memoryview | None:
        """The chunk's bytes, unchecked, from the first copy that gives them; ``None`` when none does.

        Raises ``BundleUnreadable`` when the stick is gone.
        """
        place = self._place(number)
        for copy in self._copies[place]:
            view = self._read_from(copy, place, number, buffer)
            if view is not None:
                return view
        return None

    def read_right(self, number: int, buffer: memoryview) -> memoryview | None:
        """As ``read``, from the first copy whose bytes have the chunk's sha256, read anew from the medium."""
        place = self._place(number)
        offset, length = span(self.file, number)
        for copy in self._copies[place]:
            with contextlib.suppress(OSError):
                os.posix_fadvise(copy.descriptor, offset - self._starts[place], length, os.POSIX_FADV_DONTNEED)
            view = self._read_from(copy, place, number, buffer)
            if view is not None and hashlib.sha256(view).hexdigest() == self.file.chunks[number]:
                return view
        return None

    def bad_ranges(self, numbers: list[int]) -> list[BadRange]:
        """The runs of these chunks, as bytes of their parts."""
        found: list[BadRange] = []
        for number in sorted(numbers):
            place = self._place(number)
            offset, length = span(self.file, number)
            part, start = self.file.parts[place], offset - self._starts[place]
            end = start + length
            longest = max((c.size_bytes for c in self._copies[place]), default=0)
            why = "the file ends before them" if longest <= start else _NOT_THOSE
            last = found[-1] if found else None
            if last is not None and last.part is part and last.end == start and last.why == why:
                found[-1] = BadRange(part, last.start, end, why)
            else:
                found.append(BadRange(part, start, end, why))
        return found

    def _place(self, number: int) -> int:
        return bisect.bisect_right(self._starts, number * self.file.chunk_bytes, hi=len(self.file.parts)) - 1

    def _open(self, folder: BundleFolder, part: BundlePart) -> _Copy | None:
        descriptor = folder.open(part)
        if descriptor is None:
            return None
        self._stack.callback(os.close, descriptor)
        with contextlib.suppress(OSError):
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_SEQUENTIAL)
        return _Copy(folder, descriptor, os.fstat(descriptor).st_size)

    def _read_from(self, copy: _Copy, place: int, number: int, buffer: memoryview) -> memoryview | None:
        offset, length = span(self.file, number)
        view = buffer[:length]
        try:
            read = read_fully(copy.descriptor, view, offset - self._starts[place])
        except OSError as error:
            self._errors += 1
            if self._errors >= _MOST_ERRORS or not copy.folder.is_there():
                path = self.file.parts[place].path
                problem = f"{path}: {(error.strerror or str(error)).lower()}; was the stick pulled out?"
                raise BundleUnreadable(copy.folder.path, problem) from error
            return None
        self._errors = 0
        return view if read == length else None
