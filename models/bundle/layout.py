"""Divides a model's files over sticks. Pure: sizes in, parts out.

Files are laid one after the other; where a stick is full, or a file is longer than its file system takes, the file is
cut at the last whole chunk. FAT32 takes files of at most 4 GiB - 1 byte.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from models.bundle.errors import BundleTargetTooSmall
from models.bundle.manifest import MAX_STICKS, BundlePart

FAT32_MAX_FILE_BYTES = 2**32 - 1
SMALL_FILES = frozenset({"vfat", "msdos", "fat"})
"""File systems with that limit, as the kernel names them."""

_CLUSTER_BYTES = 64 * 1024
"""What a file may waste at its end on FAT and exFAT."""


@dataclass(frozen=True, slots=True)
class StickSpace:
    """Room on one stick: ``capacity_bytes`` in all (``None``: enough) and the longest file it takes."""

    capacity_bytes: int | None = None
    max_file_bytes: int | None = None


def stick_space(capacity_bytes: int | None, filesystem: str | None, *, fat32: bool = False) -> StickSpace:
    """The room of a stick with a file system as the kernel names it (``vfat``, ``exfat``, ``ext4``)."""
    limited = fat32 or (filesystem or "").lower() in SMALL_FILES
    return StickSpace(capacity_bytes, FAT32_MAX_FILE_BYTES if limited else None)


def lay_out(
    files: Sequence[tuple[str, int]],
    chunk_bytes: int,
    sticks: Sequence[StickSpace],
    overhead_bytes: int,
    *,
    repeat_last: bool = False,
) -> tuple[tuple[BundlePart, ...], ...]:
    """The parts of each of ``files`` (name, bytes). ``overhead_bytes`` of every stick are for the manifest.

    ``repeat_last``: as many more sticks like the last one as are needed. Raises ``BundleTargetTooSmall``.
    """
    total = sum(size for _, size in files)
    spaces = _Spaces(list(sticks), overhead_bytes, repeat_last)
    divided = []
    for name, size in files:
        sizes: list[tuple[int, int]] = []
        left = size
        while left or not sizes:
            take = spaces.take(left, chunk_bytes)
            if take is None:
                raise BundleTargetTooSmall(total + overhead_bytes, spaces.room_bytes, len(sticks))
            sizes.append((spaces.number, take))
            left -= take
        names = [name] if len(sizes) == 1 else [f"{name}.part-{n:03d}" for n in range(1, len(sizes) + 1)]
        divided.append(tuple(BundlePart(p, s, number) for p, (number, s) in zip(names, sizes, strict=True)))
    return tuple(divided)


class _Spaces:
    """The sticks while they are being filled; ``number`` is the one that the last part went to, from 1."""

    def __init__(self, sticks: list[StickSpace], overhead_bytes: int, repeat_last: bool) -> None:
        self._sticks = sticks
        self._overhead = overhead_bytes
        self._repeat = repeat_last
        self._used = overhead_bytes
        self.number = 1

    @property
    def room_bytes(self) -> int:
        return sum(max((s.capacity_bytes or 0) - self._overhead, 0) for s in self._sticks)

    def take(self, wanted: int, chunk_bytes: int) -> int | None:
        """Bytes of the next part, ``None`` when no stick has room for a chunk."""
        while True:
            stick = self._sticks[self.number - 1]
            take = wanted
            if stick.max_file_bytes is not None and take > stick.max_file_bytes:
                take = stick.max_file_bytes // chunk_bytes * chunk_bytes
            free = None
            if stick.capacity_bytes is not None:
                free = max(stick.capacity_bytes - self._used - _CLUSTER_BYTES, 0)
            if free is not None and take > free:
                take = free // chunk_bytes * chunk_bytes
            if take > 0 or (wanted == 0 and free != 0):
                self._used += -(-take // _CLUSTER_BYTES) * _CLUSTER_BYTES
                return take
            if not self._next():
                return None

    def _next(self) -> bool:
        fresh = self._used == self._overhead  # an empty stick that has no room for a chunk: another one has not either
        if self.number == len(self._sticks):
            if not self._repeat or fresh or self.number == MAX_STICKS:
                return False
            self._sticks.append(self._sticks[-1])
        self.number += 1
        self._used = self._overhead
        return True
