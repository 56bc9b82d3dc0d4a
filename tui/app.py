"""The console's application: its screens, themes and commands, and the tasks that ask the box."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from datetime import tzinfo
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

from textual.app import App, SystemCommand
from textual.binding import Binding, BindingType
from textual.command import CommandPalette
from textual.content import Content
from textual.driver import Driver
from textual.screen import Screen
from textual.theme import Theme

from tui.box import BoxView
from tui.client import BoxClient, Problem
from tui.look import Language, Look
from tui.places import ALL, FRONT, MORE, RESCUE
from tui.resource import POLL_S, Clock, Failed, Resource, Stale, SystemClock, known
from tui.screens.base import BoxScreen, Keys
from tui.strings import Words
from tui.views import QUIET, Drawing
from tui.widgets.dialogs import ChoiceDialog, CodeDialog

if TYPE_CHECKING:
    from appliance.schemas.rescue import RescueReport
    from tui.rescue import RescueTool

DARK = Theme(
    name="r1box-dark", dark=True, primary="#5aa9e6", secondary="#7f8fa6", accent="#5aa9e6", warning="#e5b567",
    error="#ef6b73", success="#7bc275", foreground="#d8dee9", background="#11151a", surface="#171c22", panel="#222a33",
    variables={"border": "#4b5866", "text-muted": "#8b98a9"},
)  # fmt: skip
LIGHT = Theme(
    name="r1box-light", dark=False, primary="#0b63a8", secondary="#56657a", accent="#0b63a8", warning="#8a5a00",
    error="#b3261e", success="#1f6f2b", foreground="#1b2129", background="#fbfbf9", surface="#f2f2ee", panel="#e3e5e4",
    variables={"border": "#8a94a0", "text-muted": "#56606c"},
)  # fmt: skip
# Colours that the kernel's console has exactly, so that nothing is rounded to something unreadable.
EIGHT_DARK = Theme(
    name="r1box-8-dark", dark=True, primary="#00aaaa", secondary="#aaaaaa", accent="#00aaaa", warning="#aa5500",
    error="#aa0000", success="#00aa00", foreground="#aaaaaa", background="#000000", surface="#000000", panel="#000000",
    variables={"border": "#aaaaaa", "text-muted": "#aaaaaa"},
)  # fmt: skip
EIGHT_LIGHT = Theme(
    name="r1box-8-light", dark=False, primary="#0000aa", secondary="#000000", accent="#0000aa", warning="#aa5500",
    error="#aa0000", success="#00aa00", foreground="#000000", background="#aaaaaa", surface="#aaaaaa", panel="#aaaaaa",
    variables={"border": "#000000", "text-muted": "#000000"},
)  # fmt: skip

SETTLED_S = 2.0
"""After this long the first screen is there, and others may be loaded."""
BETWEEN_LOADS_S = 0.1


class ConsoleApp(App[None]):
    """The operator's console on one box; its screens are those of ``tui.places``."""

    TITLE = "R1 Box"
    CSS_PATH = "styles.tcss"
    ENABLE_COMMAND_PALETTE = True
    MODES: ClassVar[dict[str, Callable[[], Screen[None]]]] = dict(ALL)  # type: ignore[assignment]
    DEFAULT_MODE = "dashboard"
    COMMON_KEYS: ClassVar[Keys] = (
        ("question_mark", "help", ""),
        ("ctrl+p", "commands", ""),
        ("q", "quit", ""),
        ("t", "theme", ""),
        ("l", "language", ""),
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        *(Binding(str(place.key), f"go('{place.name}')", show=False) for place in FRONT),
        Binding("9", "more", show=False),
        Binding("0", "rescue", show=False),
        Binding("t", "theme", show=False),
        Binding("l", "language", show=False),
        Binding("q", "quit", show=False),
    ]

    def __init__(
        self,
        client: BoxClient,
        *,
        look: Look,
        language: Language = "en",
        light: bool = False,
        clock: Clock | None = None,
        zone: tzinfo | None = None,
        poll_s: float = POLL_S,
        driver_class: type[Driver] | None = None,
        leads: bool = False,
        rescue: RescueTool | None = None,
    ) -> None:
        """``leads``: begin with the first minutes' list where the box is new. ``rescue`` runs the ways back on the box
        itself; None where the box is elsewhere."""
        super().__init__(driver_class=driver_class)
        self._leads = leads
        self.rescue = rescue
        self._broke_glass = False
        self._poll_s = poll_s
        self.zone = zone
        self.drawing = Drawing(look, Words(language))
        self.box = BoxView(client, clock or SystemClock(), self._changed, every_s=poll_s)
        for theme in (DARK, LIGHT, EIGHT_DARK, EIGHT_LIGHT):
            self.register_theme(theme)
        self.theme = self._theme_name(light)
        self.set_class(look.plain, "-plain")

    def on_mount(self) -> None:
        """Begin to ask, and to show how old the answers are."""
        for resource in (self.box.readiness, self.box.identity):
            self.run_worker(resource.poll, group="polls")  # type: ignore[arg-type]
        self.set_interval(1.0, self._changed)
        self._unloaded = iter(ALL.values())
        self.set_timer(SETTLED_S, self._load_screens)
        if self._leads:
            self.run_worker(self._lead(), group="lead")

    def _load_screens(self) -> None:
        """Load one screen after the other while nothing else is to be done, so that none is late when it is called."""
        for place in self._unloaded:
            place.screen()
            self.set_timer(BETWEEN_LOADS_S, self._load_screens)
            break

    async def _lead(self) -> None:
        """To the first minutes' list, unless the operator went elsewhere meanwhile. At the machine's first start the
        console is there before the daemon."""
        while self.current_mode == self.DEFAULT_MODE:
            await self.box.first_run.ask()
            state = self.box.first_run.state()
            if (told := known(state)) is not None or self.current_mode != self.DEFAULT_MODE:
                break
            if isinstance(state, Failed) and state.problem.message is not None:
                return  # it answers, and not to this key
            await asyncio.sleep(self._poll_s)
        else:
            return
        if told is not None and not told.finished and self.current_mode == self.DEFAULT_MODE:
            if told.language is not None:
                self.speak(told.language)
            self.action_go("first_run")

    def screen_keys(self) -> Keys:
        """(key, word, action) of the screens."""
        front = [(str(place.key), f"screen.{place.name}", "") for place in FRONT]
        rescue = (("0", "screen.rescue", ""),) if self.rescue is not None and self._is_down() else ()
        return (*rescue, *front, ("9", "screen.more", ""))

    @cached_property
    def rescue_report(self) -> Resource[RescueReport]:
        """What is wrong with a box that is down."""
        from appliance.schemas.rescue import RescueReport
        from tui.rescue import LOOK_S

        async def look() -> RescueReport | Problem:
            if self.rescue is None:
                return Problem("rescue_missing", detail="r1box")
            return await self.rescue.run(RescueReport, "rescue", "look", timeout_s=LOOK_S)

        return Resource(look, self.box.clock, every_s=5 * self._poll_s, changed=self._changed)

    def _is_down(self) -> bool:
        """Whether the daemon gives no answer."""
        state = self.box.readiness.state()
        return isinstance(state, Failed) or (isinstance(state, Stale) and state.problem is not None)

    def _changed(self) -> None:
        self._break_glass()
        if self.is_running and self._screen_stack and isinstance(self.screen_stack[0], BoxScreen):
            self.screen_stack[0].paint()

    def _break_glass(self) -> None:
        """A box that is down when the console opens: show what is wrong, once."""
        if self.rescue is None or self._broke_glass or not (self.is_running and self._screen_stack):
            return
        if isinstance(self.box.readiness.state(), Failed):
            self._broke_glass = True
            self.action_rescue()

    def action_rescue(self) -> None:
        """What is wrong with a box that is down, and the ways back."""
        if self.rescue is not None and isinstance(self.screen, BoxScreen):
            self.switch_mode(RESCUE.name)

    def _theme_name(self, light: bool) -> str:
        return f"r1box-{'8-' if self.drawing.look.plain else ''}{'light' if light else 'dark'}"

    def action_go(self, mode: str) -> None:
        """Show another screen; a dialog is answered first."""
        if isinstance(self.screen, BoxScreen):
            self.switch_mode(mode)

    def action_more(self) -> None:
        """Choose one of the screens without a number."""
        if not isinstance(self.screen, BoxScreen):
            return
        words = self.drawing.words
        lines = [
            Content.assemble((words(f"screen.{one.name}"), "bold"), "  ", (words(f"about.{one.name}"), QUIET))
            for one in MORE
        ]

        def then(place: int | None) -> None:
            if place is not None:
                self.switch_mode(MORE[place].name)

        self.push_screen(ChoiceDialog(self.drawing, words("screen.more"), lines), then)

    def action_theme(self) -> None:
        """Light to dark and back."""
        self.theme = self._theme_name(self.current_theme.dark)

    def action_language(self) -> None:
        """English to Chinese and back, where the terminal can show it."""
        self.speak("zh" if self.drawing.words.language == "en" else "en")

    def speak(self, language: Language) -> None:
        """Another language; English where Chinese cannot be shown."""
        shown: Language = language if self.drawing.look.chinese else "en"
        self.drawing = Drawing(self.drawing.look, Words(shown))
        self._changed()

    def action_code(self) -> None:
        """The chat page's QR code."""
        self.push_screen(CodeDialog(self.drawing, self.box.page_url))

    def action_refresh_box(self) -> None:
        """Ask for everything now."""
        self.box.wake()

    def action_command_palette(self) -> None:
        """The commands by name, with the catalogue's words."""
        if isinstance(self.screen, BoxScreen):
            self.push_screen(CommandPalette(placeholder=self.drawing.words("palette.search"), id="--command-palette"))

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        """What the palette lists."""
        words = self.drawing.words
        for mode in self.MODES:
            if mode == RESCUE.name and self.rescue is None:
                continue
            yield SystemCommand(
                words(f"screen.{mode}"), words(f"about.{mode}"), lambda mode=mode: self.switch_mode(mode)
            )
        chinese = [("language", self.action_language)] if self.drawing.look.chinese else []
        commands: list[tuple[str, Callable[[], object]]] = [
            ("refresh", self.action_refresh_box),
            ("code", self.action_code),
            ("theme", self.action_theme),
            *chinese,
            ("quit", self.exit),
        ]
        if isinstance(screen, BoxScreen):
            own = [
                (word, getattr(screen, f"action_{action.removeprefix('screen.')}"))
                for _, word, action in screen.KEYS
                if action.startswith("screen.")
            ]
            commands = [*own, ("help", screen.action_help), *commands]
        for word, command in commands:
            yield SystemCommand(words(f"key.{word}"), words(f"about.{word}"), command)
