"""Names and values below each other, as a panel's text."""

from __future__ import annotations

from collections.abc import Iterable

from rich.cells import cell_len, set_cell_size
from textual.content import Content

from tui.views import QUIET

Row = tuple[str, Content | str | None]


def facts(rows: Iterable[Row]) -> Content:
    """A line for each (name, value) whose value is known; the values stand below each other."""
    known = [(name, value) for name, value in rows if value is not None and str(value) != ""]
    pad = max((cell_len(name) for name, _ in known), default=0) + 2
    lines = [Content.assemble((set_cell_size(name, pad), QUIET), value) for name, value in known]
    return Content("\n").join(lines)


def blocks(*parts: Content | None) -> Content:
    """Parts with an empty line between them; what is empty is left out."""
    return Content("\n\n").join([part for part in parts if part is not None and part.plain])


def heading(text: str) -> Content:
    """The name of a block."""
    return Content.styled(text, "bold")


def bullets(mark: str, style: str, texts: Iterable[str]) -> Content:
    """A line for each text."""
    return Content("\n").join([Content.assemble((f"{mark} ", style), text) for text in texts])
