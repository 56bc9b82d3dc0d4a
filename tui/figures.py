"""Sizes, times and bars as an operator reads them."""

from __future__ import annotations

from datetime import datetime

from textual.content import Content

from tui.strings import Words
from tui.views import QUIET, Drawing

_UNITS = ((2**40, "TiB"), (2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"))


def size(size_bytes: float | None) -> str | None:
    """``43.2 GiB``; None when it is not known."""
    if size_bytes is None:
        return None
    for unit_bytes, unit in _UNITS:
        if size_bytes >= unit_bytes:
            return f"{size_bytes / unit_bytes:.1f} {unit}"
    return f"{size_bytes:.0f} B"


def per_second(bytes_per_s: float | None) -> str | None:
    """``98.1 MiB/s``."""
    told = size(bytes_per_s)
    return None if told is None else f"{told}/s"


def count(number: int | None) -> str | None:
    """``16,384``."""
    return None if number is None else f"{number:,}"


def context(tokens: int | None) -> str | None:
    """``16k``; what is no multiple of 1,024 in full."""
    if tokens is None:
        return None
    return f"{tokens // 1024}k" if tokens % 1024 == 0 else f"{tokens:,}"


def short_age(words: Words, seconds: float) -> str:
    """``12 s``, ``3 min``, ``5 h``, ``4 days``."""
    return words.age(seconds)


def since(words: Words, at: datetime | None, now: datetime) -> str | None:
    """How long ago."""
    return None if at is None else words("age.ago", age=words.age((now - at).total_seconds()))


def bar(draw: Drawing, fraction: float | None, cells: int, style: str = "$primary") -> Content:
    """Filled and empty cells; all empty when it is not known."""
    filled = 0 if not fraction else max(min(round(fraction * cells), cells), 1)
    empty, full = draw.look.bar[0], draw.look.bar[1]
    return Content.assemble((full * filled, style), (empty * (cells - filled), QUIET))
