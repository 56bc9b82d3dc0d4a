"""What every screen has: the top line, the lines of keys, help, and the way something is asked of the box."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, ClassVar, TypeVar, cast

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.screen import Screen
from textual.widget import Widget
from textual.widgets import Static

from tui.box import BoxView
from tui.client import Problem
from tui.resource import Failed, Loading, Resource, Stale
from tui.views import QUIET, Drawing, engine_word, shorten
from tui.widgets.dialogs import ConfirmDialog, HelpDialog, TypedDialog

if TYPE_CHECKING:
    from tui.app import ConsoleApp

T = TypeVar("T")
Keys = tuple[tuple[str, str, str], ...]
SHOWN_KEYS = {
    "question_mark": "?",
    "ctrl+p": "^p",
    "enter": "Enter",
    "tab": "Tab",
    "slash": "/",
    "delete": "Del",
    "escape": "Esc",
}


class BoxScreen(Screen[None]):
    """A screen on the box. ``KEYS`` are its own: (key, word of the catalogue, action); ``NAME`` its word. Of the
    ``feeds`` it is fed while it is shown; one action runs at a time."""

    NAME: ClassVar[str]
    KEYS: ClassVar[Keys] = ()
    BINDINGS: ClassVar[list[BindingType]] = [Binding("question_mark,f1", "help", show=False)]
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (120, "-wide")]  # noqa: RUF012 - Textual's own declaration
    VERTICAL_BREAKPOINTS = [(0, "-low"), (36, "-high")]  # noqa: RUF012

    def __init__(self) -> None:
        super().__init__()
        self._result = Content("")
        self.busy = False
        self._afterwards: list[Callable[[], None]] = []

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

    @property
    def place(self) -> str:
        """Where the daemon is."""
        return self.box.client.target.shown

    def feeds(self) -> tuple[Resource[object], ...]:
        """What is asked for while the screen is shown, beside what the top line needs."""
        return ()

    def compose(self) -> ComposeResult:
        """Top line, the screen's own panels, what the last action did, lines of keys."""
        yield Static(id="top")
        yield from self.panels()
        yield Static(id="result")
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
        """Ask for what is shown, and draw what came while another screen was."""
        self.paint()
        self._catch_up()
        # An answer that comes before the first layout would be drawn for a window of no size.
        self.call_after_refresh(self._feed)

    def _catch_up(self) -> None:
        while self._afterwards and self.app.screen is self:
            self._afterwards.pop(0)()

    def _feed(self) -> None:
        if self.shown:
            self.workers.cancel_group(self, "feeds")
            for resource in self.feeds():
                self.run_worker(resource.poll, group="feeds")  # type: ignore[arg-type]

    def on_screen_suspend(self) -> None:
        """Ask no more, unless only a dialog lies over this screen."""
        if not self.shown:
            self.workers.cancel_group(self, "feeds")

    @property
    def shown(self) -> bool:
        """Whether this screen is seen, with a dialog over it or not."""
        return self.app.screen_stack[0] is self

    @property
    def can_draw(self) -> bool:
        """Whether its parts are there: a screen that goes has lost them before it is told."""
        return self.is_mounted and bool(self.query("#top"))

    def on_resize(self) -> None:
        """Draw for the new size, once the panels have theirs."""
        self.call_after_refresh(self.paint)

    def on_panel_resized(self) -> None:
        """What is as wide as a panel is drawn anew."""
        self.call_after_refresh(self.paint)

    def paint(self) -> None:
        """Draw everything anew from what is known."""
        if not self.can_draw:
            return
        # Their height is fixed: nothing has to be laid out anew every second.
        self.put("#top", self._top(), layout=False)
        self.put("#keys", self._key_lines(), layout=False)
        self.query_one("#result", Static).display = bool(self._result.plain)
        self.put("#result", self._result)

    def put(self, name: str, content: Content, *, layout: bool = True) -> None:
        """Show a text, if it is another one than before."""
        widget = self.query_one(name, Static)
        if not (isinstance(widget.content, Content) and widget.content.is_same(content)):
            widget.update(content, layout=layout)

    def _top(self) -> Content:
        words, state = self.drawing.words, self.box.readiness.state()
        if isinstance(state, Loading):
            word = Content(words("engine.loading"))
        elif isinstance(state, Failed) or (isinstance(state, Stale) and state.problem is not None):
            word = Content.styled(words("engine.no_answer"), "bold $error")
        else:
            word = engine_word(self.drawing, state.value)
        url = self.box.page_url
        page = words("head.page_unknown") if url is None else words("head.page", url=url)
        time = self.box.clock.now().astimezone(self.console.zone).strftime("%H:%M:%S")
        left = Content.assemble((f"R1 Box {self.drawing.look.dot} {words(f'screen.{self.NAME}')}", "bold"), "  ", page)
        right = Content.assemble(word, f"  {time}")
        room = max(self.size.width - 2, 20)
        left = shorten(left, max(room - right.cell_length - 2, 10), self.drawing.look.more)
        return Content.assemble(left, " " * (room - left.cell_length - right.cell_length), right)

    def own_keys(self) -> Keys:
        """The screen's keys as they are shown; not all work at any moment."""
        return self.KEYS

    def _key_lines(self) -> Content:
        """The screen's own keys, and the screens."""
        common = self._common_keys()
        own = (*common[:1], *self.own_keys(), *common[1:])
        return Content("\n").join([self._key_line(own), self._key_line(self.console.screen_keys())])

    def _common_keys(self) -> Keys:
        """Without the change of languages where Chinese cannot be shown."""
        chinese = self.drawing.look.chinese
        return tuple(one for one in self.console.COMMON_KEYS if chinese or one[1] != "language")

    def _key_line(self, keys: Keys) -> Content:
        parts = []
        for key, word, _ in keys:
            label = self.drawing.words(word if word.startswith("screen.") else f"key.{word}")
            style = "bold reverse" if word == f"screen.{self.NAME}" else ""
            parts.append(Content.assemble((shown_key(key), "bold $primary"), " ", (label, style)))
        room = self.size.width - 2
        gap = "  " if sum(part.cell_length + 2 for part in parts) - 2 <= room else " "
        line = Content("")
        for part in parts:
            longer = part if not line.cell_length else Content(gap).join([line, part])
            if longer.cell_length > room:
                break
            line = longer
        return line

    def action_help(self) -> None:
        """Show the keys."""
        words, keys = self.drawing.words, []
        for key, word, _ in (*self.own_keys(), *self._common_keys(), *self.console.screen_keys()):
            keys.append((shown_key(key), words(f"about.{word.removeprefix('screen.')}")))
        keys += [
            ("Tab", words("key.next_panel")),
            ("Up Down PgUp PgDn", words("key.move")),
            ("Enter", words("key.choose")),
        ]
        self.app.push_screen(HelpDialog(self.drawing, words("help.title"), keys))

    # -- asking something of the box --------------------------------------------------------------------------------

    def act(
        self,
        doing: str,
        ask: Callable[[], Awaitable[T | Problem]],
        done: Callable[[T], str],
        after: Callable[[T], None] = lambda _answer: None,
    ) -> None:
        """Ask, unless something is being asked already; ``doing`` is told meanwhile, ``done`` says what came of it."""
        if self.busy:
            self.tell(quiet(self.drawing.words("action.busy")))
            return

        async def work() -> None:
            self.busy = True
            self.tell(Content.styled(doing, "$warning"))
            try:
                answer = await ask()
            finally:
                self.busy = False
            if isinstance(answer, Problem):
                self.tell(self.not_done(answer))
            else:
                self.tell(Content.styled(done(answer), "$success"))
                # Never over another screen, which the operator went to meanwhile.
                self._afterwards.append(lambda: after(answer))
                self._catch_up()
            for resource in self.feeds():
                resource.wake()

        self.run_worker(work(), group="action")

    def confirm(self, question: str, about: str, then: Callable[[], None]) -> None:
        """Do it after a yes."""
        self.app.push_screen(ConfirmDialog(self.drawing, question, about), lambda yes: then() if yes else None)

    def confirm_typed(self, question: str, about: str, word: str, then: Callable[[], None]) -> None:
        """Do it after ``word`` was typed."""
        dialog = TypedDialog(self.drawing, question, about, word)
        self.app.push_screen(dialog, lambda yes: then() if yes else None)

    def tell(self, result: Content | str) -> None:
        """Say below the panels what came of something."""
        self._result = Content(result) if isinstance(result, str) else result
        self.paint()

    def not_done(self, problem: Problem) -> Content:
        """Why it was not done, and what to do."""
        message, hint = self.drawing.words.problem(problem, self.place)
        told = self.drawing.words("action.not_done", message=message)
        return Content.assemble((told, "$error"), f" {hint}" if hint else "")


def shown_key(key: str) -> str:
    """A key as people name it: ``F2`` for ``f2``."""
    if key[0] == "f" and key[1:].isdecimal():
        return key.upper()
    return SHOWN_KEYS.get(key, key)


def quiet(text: str) -> Content:
    """Text of less weight."""
    return Content.styled(text, QUIET)
