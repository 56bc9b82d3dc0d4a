"""What every screen has: the top line, the line of keys, help."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar, cast

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.screen import Screen
from textual.widget import Widget
from textual.widgets import Static

from tui.box import BoxView
from tui.resource import Failed, Loading, Stale
from tui.views import QUIET, Drawing, engine_word
from tui.widgets.dialogs import HelpDialog

if TYPE_CHECKING:
    from tui.app import ConsoleApp

_SHOWN_KEYS = {"question_mark": "?", "ctrl+p": "^p", "enter": "Enter", "tab": "Tab"}


class BoxScreen(Screen[None]):
    """A screen on the box. ``KEYS`` are its own: (key, word of the catalogue, action); ``NAME`` its word."""

    NAME: ClassVar[str]
    KEYS: ClassVar[tuple[tuple[str, str, str], ...]] = ()
    BINDINGS: ClassVar[list[BindingType]] = [Binding("question_mark,f1", "help", show=False)]
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (120, "-wide")]  # noqa: RUF012 - Textual's own declaration
    VERTICAL_BREAKPOINTS = [(0, "-low"), (36, "-high")]  # noqa: RUF012

    @property
    def console(self) -> ConsoleApp:
        """The application."""

        return cast("ConsoleApp", self.app)

    @property
    def drawing(self) -> Drawing:
        """How to write."""
        return self.console.drawing

    @property
    def box(self) -> BoxView:
        """What is known of the box."""
        return self.console.box

    def compose(self) -> ComposeResult:
        """Top line, the screen's own panels, line of keys."""
        yield Static(id="top")
        yield from self.panels()
        yield Static(id="keys")

    def panels(self) -> Iterator[Widget]:
        """The screen's own."""
        raise NotImplementedError

    def on_mount(self) -> None:
        """Give the screen's own keys their actions."""
        for key, _, action in self.KEYS:
            self._bindings.bind(key, action, show=False)
        self.paint()

    def on_screen_resume(self) -> None:
        """Draw what came while another screen was shown."""
        self.paint()

    def on_resize(self) -> None:
        """Draw for the new size, once the panels have theirs."""
        self.call_after_refresh(self.paint)

    def paint(self) -> None:
        """Draw everything anew from what is known."""
        if not self.is_mounted:
            return
        self.query_one("#top", Static).update(self._top())
        self.query_one("#keys", Static).update(self._key_line())

    def _top(self) -> Content:
        words, state = self.drawing.words, self.box.readiness.state()
        if isinstance(state, Loading):
            word = Content(words("engine.loading"))
        elif isinstance(state, Failed) or (isinstance(state, Stale) and state.problem is not None):
            word = Content.styled(words("engine.no_answer"), "bold $error")
        else:
            word = engine_word(self.drawing, state.value)
        url = self.box.client.target.page_url
        page = words("head.page_unknown") if url is None else words("head.page", url=url)
        time = self.box.clock.now().astimezone(self.console.zone).strftime("%H:%M:%S")
        left = Content.assemble((f"R1 Box {self.drawing.look.dot} {words(f'screen.{self.NAME}')}", "bold"), "  ", page)
        right = Content.assemble(word, f"  {time}")
        room = max(self.size.width - 2, 20)
        left = left.truncate(max(room - right.cell_length - 2, 10), ellipsis=True)
        return Content.assemble(left, " " * (room - left.cell_length - right.cell_length), right)

    def _key_line(self) -> Content:
        parts = []
        for key, word, _ in (*self.console.screen_keys(), *self.KEYS, *self.console.COMMON_KEYS):
            label = self.drawing.words(word if word.startswith("screen.") else f"key.{word}")
            style = "bold reverse" if word == f"screen.{self.NAME}" else ""
            parts.append(Content.assemble((_SHOWN_KEYS.get(key, key), "bold $primary"), " ", (label, style)))
        room, line = self.size.width - 2, Content("")
        for part in parts:
            longer = part if not line.cell_length else Content("  ").join([line, part])
            if longer.cell_length > room:
                break
            line = longer
        return line

    def action_help(self) -> None:
        """Show the keys."""
        words, keys = self.drawing.words, []
        for key, word, _ in (*self.console.screen_keys(), *self.KEYS, *self.console.COMMON_KEYS):
            keys.append((_SHOWN_KEYS.get(key, key), words(f"about.{word.removeprefix('screen.')}")))
        keys += [
            ("Tab", words("key.next_panel")),
            ("Up Down PgUp PgDn", words("key.move")),
            ("Enter", words("key.choose")),
        ]
        self.app.push_screen(HelpDialog(self.drawing, words("help.title"), keys))


def quiet(text: str) -> Content:
    """Text of less weight."""
    return Content.styled(text, QUIET)
