"""What this terminal can show: characters, colours, language. Decided once at the start, from the environment."""

from __future__ import annotations

import codecs
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Language = Literal["en", "zh"]
_PLAIN_TERMINALS = ("linux", "dumb", "unknown", "ansi", "vt", "cons", "screen.linux", "tmux.linux")
"""The kernel's console and serial lines (``vt100``, ``vt220``): 8 colours or none, small character sets."""


@dataclass(frozen=True, slots=True)
class Look:
    """``plain``: borders and marks of ASCII alone. ``blocks``: half blocks can be drawn, which a QR code needs (the
    kernel's console has them in its built-in font). ``chinese``: the terminal can show Chinese."""

    plain: bool = False
    blocks: bool = True
    chinese: bool = True

    @property
    def bar(self) -> str:
        """The empty and the filled cell of a bar."""
        return ".#" if self.plain else "░█"

    @property
    def plot(self) -> str:
        """Fillings of a plot's cell, the least first."""
        return ".:#" if self.plain else "▁▂▃▄▅▆▇█"

    @property
    def dot(self) -> str:
        """Parts words on one line."""
        return "-" if self.plain else "·"

    @property
    def more(self) -> str:
        """Ends a text that had no room."""
        return "~" if self.plain else "…"

    @property
    def dash(self) -> str:
        """Stands for what is not known."""
        return "-"


def look_of(environ: Mapping[str, str], encoding: str) -> Look:
    """``encoding`` is that of the output, as Python names it."""
    try:
        wide = codecs.lookup(encoding).name.startswith("utf")
    except LookupError:
        wide = False
    term = environ.get("TERM", "")
    plain = not wide or term == "" or term.startswith(_PLAIN_TERMINALS)
    # vt100 and its kin are mostly somebody's terminal program on a serial line; only the kernel's console is known.
    return Look(plain=plain, blocks=wide and (not plain or term.endswith("linux")), chinese=wide and not plain)


def language_of(environ: Mapping[str, str], look: Look, wish: str | None = None) -> Language:
    """``wish``, else the locale's language; English where Chinese cannot be shown."""
    named = wish or environ.get("LC_ALL") or environ.get("LC_MESSAGES") or environ.get("LANG") or ""
    return "zh" if named.lower().startswith("zh") and look.chinese else "en"
