"""The bounded, forward-only reader under ``models.gguf``: no step leaves the file or the limits of ``gguf_format``."""

from __future__ import annotations

import os
import time
from array import array
from collections.abc import Callable
from pathlib import Path

from models import gguf_format as fmt
from models.errors import CorruptHeader, GgufTruncated, ImportSourceUnreadable
from models.gguf_header import Scalar

_WINDOW_BYTES = 1024 * 1024
_U32 = fmt.NUMBER_FORMATS[4]
_U64 = fmt.NUMBER_FORMATS[10]


class Cursor:
    """Reads forward through the header by bounded windows; every step is checked against the file and the limits."""

    def __init__(self, descriptor: int, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self.path = path
        self.file_bytes = os.fstat(descriptor).st_size
        self.position = 0
        self.kept_bytes = 0
        self._descriptor = descriptor
        self._clock = clock
        self._deadline = clock() + fmt.READ_TIME_LIMIT_S
        self._window = b""
        self._window_start = 0

    def take(self, size: int, field: str) -> bytes:
        """The next ``size`` bytes."""
        self._reach(size, field)
        start = self.position - self._window_start
        if start < 0 or start + size > len(self._window):
            self._load(max(size, _WINDOW_BYTES))
            start = 0
            if len(self._window) < size:
                raise GgufTruncated(self.path, self.position + size, self._window_start + len(self._window), field)
        self.position += size
        return self._window[start : start + size]

    def u32(self, field: str) -> int:
        return int(_U32.unpack(self.take(4, field))[0])

    def u64(self, field: str) -> int:
        return int(_U64.unpack(self.take(8, field))[0])

    def count(self, field: str, maximum: int) -> int:
        """An unsigned 64-bit count that may not exceed ``maximum``."""
        offset = self.position
        value = self.u64(field)
        if value > maximum:
            raise CorruptHeader(self.path, field, f"{value:,} is more than the {maximum:,} that are allowed", offset)
        return value

    def text(self, field: str, maximum: int) -> str:
        """A string with its length in front; bytes that are no UTF-8 become replacement characters."""
        size = self.count(f"length of {field}", maximum)
        raw = self.take(size, field)
        self._keep(size, field)
        return raw.decode("utf-8", errors="replace")

    def number(self, value_type: int, field: str) -> int | float | bool:
        layout = fmt.NUMBER_FORMATS[value_type]
        value: int | float = layout.unpack(self.take(layout.size, field))[0]
        return bool(value) if value_type == fmt.BOOL else value

    def values(self, element_type: int, count: int, field: str) -> tuple[Scalar, ...]:
        """``count`` values in a row. The caller has bounded ``count``."""
        if element_type == fmt.STRING:
            return tuple(self.text(field, fmt.MAX_STRING_BYTES) for _ in range(count))
        layout = fmt.NUMBER_FORMATS[element_type]
        self._keep(count * layout.size, field)
        raw = self.take(count * layout.size, field)
        numbers = tuple(value for (value,) in layout.iter_unpack(raw))
        return tuple(bool(n) for n in numbers) if element_type == fmt.BOOL else numbers

    def skip(self, size: int, field: str) -> None:
        self._reach(size, field)
        self.position += size

    def skip_strings(self, count: int, field: str, offsets: array[int] | None) -> None:
        """Walks over ``count`` strings and notes where each begins when ``offsets`` is given.

        The inner loop runs 280,000 times for an R1 header, hence its local names.
        """
        unpack = _U64.unpack_from
        maximum = fmt.MAX_STRING_BYTES
        remaining = count
        while remaining:
            self._reach(8, field)
            if not self._window_start <= self.position <= self._window_start + len(self._window) - 8:
                self._load(_WINDOW_BYTES)
                if len(self._window) < 8:
                    raise GgufTruncated(self.path, self.position + 8, self._window_start + len(self._window), field)
            window = self._window
            base = self._window_start
            at = self.position - base
            last = len(window) - 8
            while remaining and at <= last:
                (length,) = unpack(window, at)
                if length > maximum:
                    raise CorruptHeader(self.path, field, f"a string of {length:,} bytes", base + at)
                if offsets is not None:
                    offsets.append(base + at)
                at += 8 + length
                remaining -= 1
            self.position = base + at
        self._reach(0, field)

    def _reach(self, size: int, field: str) -> None:
        end = self.position + size
        if end > self.file_bytes:
            raise GgufTruncated(self.path, end, self.file_bytes, field)
        if end > fmt.MAX_HEADER_BYTES:
            raise CorruptHeader(self.path, field, f"the header exceeds {fmt.MAX_HEADER_BYTES:,} bytes", self.position)

    def _keep(self, size: int, field: str) -> None:
        self.kept_bytes += size
        if self.kept_bytes > fmt.MAX_KEPT_BYTES:
            raise CorruptHeader(self.path, field, f"the entries exceed {fmt.MAX_KEPT_BYTES:,} bytes", self.position)

    def check_time(self, field: str) -> None:
        """Called once per window and per entry, so that a slow medium or a hostile header cannot hold us up."""
        if self._clock() > self._deadline:
            raise CorruptHeader(self.path, field, f"reading took over {fmt.READ_TIME_LIMIT_S:.0f} s", self.position)

    def _load(self, size: int) -> None:
        self.check_time("header")
        try:
            self._window = os.pread(self._descriptor, size, self.position)
        except OSError as error:
            raise ImportSourceUnreadable(self.path, str(error), "Check the medium the file lies on.") from error
        self._window_start = self.position
