"""A bordered box with a title that says how well its content is known."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, TypeVar

from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.content import Content
from textual.message import Message
from textual.scrollbar import ScrollBarRender
from textual.widgets import Static

from tui.resource import Failed, Loading, Ready, Stale, State
from tui.views import QUIET, Drawing

T = TypeVar("T")


class PlainScrollBar(ScrollBarRender):
    """Whole cells alone: plain terminals have no eighths of a block."""

    VERTICAL_BARS: ClassVar[list[str]] = [" "] * 8
    HORIZONTAL_BARS: ClassVar[list[str]] = [" "] * 8


class Panel(VerticalScroll):
    """Scrolls where its content is longer. ``show`` draws a resource's state; nothing is drawn twice."""

    class Resized(Message):
        """It has another size: what is as wide as the panel is drawn anew."""

    def __init__(self, *, id: str) -> None:  # noqa: A002 - Textual's name
        super().__init__(id=id)
        self._body = Static(expand=True)
        self._drawn: Content | None = None

    def compose(self) -> ComposeResult:
        """The text alone."""
        yield self._body

    def on_resize(self) -> None:
        """Tell the screen."""
        self.post_message(self.Resized())

    def show(
        self, draw: Drawing, state: State[T], view: Callable[[T], Content], *, title: str, place: str | None
    ) -> None:
        """Draw what is known: the value by ``view``, or why there is none. ``place`` names the daemon's address; None
        where the screen says already that nothing answers there."""
        self.plain(draw)
        self.border_title = Content(title)
        self.border_subtitle = subtitle(draw, state)
        for word in ("loading", "stale", "failed"):
            self.set_class(type(state).__name__.lower() == word, f"-{word}")
        if isinstance(state, Ready | Stale):
            self.draw(view(state.value))
        elif isinstance(state, Failed) and place is None:
            self.draw(Content.styled(draw.words("panel.failed.text"), QUIET))
        elif isinstance(state, Failed):
            self.draw(failure(draw, state, place or ""))
        else:
            self.draw(Content.styled(draw.words("panel.loading.text"), QUIET))

    def plain(self, draw: Drawing) -> None:
        """Draw the scroll bar as this terminal can show it."""
        if draw.look.plain:
            self.vertical_scrollbar.renderer = PlainScrollBar  # type: ignore[misc]

    def draw(self, content: Content) -> None:
        """Put the text in, if it changed."""
        if self._drawn is None or not content.is_same(self._drawn):
            self._drawn = content
            # A layout of the whole screen costs more than all drawing: only where the text needs other lines.
            room = self._body.size
            is_as_high = room.width > 0 and content.get_height({}, room.width) == room.height
            self._body.update(content, layout=not is_as_high)


def subtitle(draw: Drawing, state: State[T]) -> Content:
    """How well the content is known, for the lower border; nothing while it is fresh."""
    words = draw.words
    if isinstance(state, Loading):
        return Content(words("panel.loading"))
    if isinstance(state, Failed):
        return Content(words("panel.failed"))
    if isinstance(state, Stale):
        key = "panel.late" if state.problem is None else "panel.stale"
        return Content(words(key, age=words.age(state.age_s)))
    return Content("")


def failure(draw: Drawing, state: Failed, place: str) -> Content:
    """Why nothing is known, and what to do."""
    message, hint = draw.words.problem(state.problem, place)
    parts = [Content.styled(message, "$error"), *([Content(hint)] if hint else [])]
    return Content("\n").join(parts)
