"""What lies over a screen: the keys, a question, a text, a list to choose from, the QR code."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, TypeVar

from rich.cells import cell_len, set_cell_size
from textual.app import ComposeResult
from textual.await_complete import AwaitComplete
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Button, Input, OptionList, Static
from textual.widgets.option_list import Option

from tui.qr import qr_rows
from tui.views import QUIET, Drawing

Answer = TypeVar("Answer")


class Dialog(ModalScreen[Answer]):
    """Is answered once: a second Enter that was typed before the dialog went must not be a second answer."""

    _is_answered = False

    def dismiss(self, result: Answer | None = None) -> AwaitComplete:
        """Answer, unless that is done."""
        if self._is_answered:
            return AwaitComplete()
        self._is_answered = True
        return super().dismiss(result)


class HelpDialog(Dialog[None]):
    """The keys of the screen below: (key, what it does) each."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,question_mark,f1,q,enter", "dismiss(None)", show=False)]

    def __init__(self, draw: Drawing, title: str, keys: Sequence[tuple[str, str]]) -> None:
        super().__init__()
        self._draw, self._title, self._keys = draw, title, keys

    def compose(self) -> ComposeResult:
        """One line for each key."""
        pad = max(cell_len(key) for key, _ in self._keys) + 2
        lines = [Content.assemble((set_cell_size(key, pad), "bold $primary"), text) for key, text in self._keys]
        with VerticalScroll(classes="dialog") as dialog:
            dialog.border_title = Content(self._title)
            yield Static(
                Content("\n").join([*lines, Content(""), Content.styled(self._draw.words("help.close"), QUIET)])
            )


class TextDialog(Dialog[None]):
    """A text to be read, such as a key that is shown once. Enter, which may come from before, does not close it."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q", "dismiss(None)", show=False)]

    def __init__(self, draw: Drawing, title: str, text: Content) -> None:
        super().__init__()
        self._draw, self._title, self._text = draw, title, text

    def compose(self) -> ComposeResult:
        """The text, and how it is closed."""
        with VerticalScroll(classes="dialog text") as dialog:
            dialog.border_title = Content(self._title)
            yield Static(self._text)
            yield Static(Content.styled(f"\n{self._draw.words('help.close')}", QUIET))


class ConfirmDialog(Dialog[bool]):
    """A question before something is changed. The way out has the focus."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,n", "dismiss(False)", show=False),
        Binding("y", "dismiss(True)", show=False),
        Binding("left,right", "app.focus_next", show=False),
    ]

    def __init__(self, draw: Drawing, question: str, about: str) -> None:
        super().__init__()
        self._draw, self._question, self._about = draw, question, about

    def compose(self) -> ComposeResult:
        """The question, what it is for, two buttons."""
        words = self._draw.words
        with VerticalScroll(classes="dialog") as dialog:
            dialog.border_title = Content(words("confirm.title"))
            dialog.can_focus = False
            yield Static(Content.styled(self._question, "bold"))
            yield Static(Content(self._about))
            with Horizontal(classes="buttons"):
                yield Button(Content(f"[ {words('confirm.no')} ]"), id="no", compact=True)
                yield Button(Content(f"[ {words('confirm.yes')} ]"), id="yes", compact=True)
            yield Static(Content.styled(words("confirm.keys"), QUIET))

    def on_button_pressed(self, event: Button.Pressed) -> None:
        """Answer."""
        event.stop()
        self.dismiss(event.button.id == "yes")


class TypedDialog(Dialog[bool]):
    """A question before something is destroyed: the operator types ``word`` to say yes."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "dismiss(False)", show=False)]

    def __init__(self, draw: Drawing, question: str, about: str, word: str) -> None:
        super().__init__()
        self._draw, self._question, self._about, self._word = draw, question, about, word

    def compose(self) -> ComposeResult:
        """The question, what is lost, the word."""
        words = self._draw.words
        with VerticalScroll(classes="dialog") as dialog:
            dialog.border_title = Content(words("confirm.title"))
            dialog.can_focus = False
            yield Static(Content.styled(self._question, "bold $error"))
            yield Static(Content(self._about))
            yield Static(Content.assemble(words("typed.ask"), " ", (self._word, "bold")))
            yield Input(id="typed", compact=True)
            yield Static(Content.styled(words("typed.keys"), QUIET), id="typed-keys")

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Only the whole word is a yes."""
        event.stop()
        if event.value.strip() == self._word:
            self.dismiss(True)
        else:
            told = self._draw.words("typed.wrong")
            self.query_one("#typed-keys", Static).update(Content.styled(told, "$error"))


class ChoiceDialog(Dialog[int | None]):
    """A list; the answer is the place of what was chosen. ``about`` stands over it."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q", "dismiss(None)", show=False)]

    def __init__(self, draw: Drawing, title: str, choices: Sequence[Content | str], about: str = "") -> None:
        super().__init__()
        self._draw, self._title, self._choices, self._about = draw, title, choices, about

    def compose(self) -> ComposeResult:
        """The list alone has the focus."""
        with VerticalScroll(classes="dialog choice") as dialog:
            dialog.border_title = Content(self._title)
            dialog.can_focus = False
            if self._about:
                yield Static(Content(self._about))
            lines = [one if isinstance(one, Content) else Content(one) for one in self._choices]
            if self._draw.look.plain:
                # Of eight colours none is read on the chosen line's background but its own.
                lines = [one.without_spans for one in lines]
            yield OptionList(*(Option(one) for one in lines), id="choices", markup=False, compact=True)
            yield Static(Content.styled(self._draw.words("choice.keys"), QUIET))

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """Answer."""
        event.stop()
        self.dismiss(event.option_index)


class CodeDialog(Dialog[None]):
    """The chat page's address as a QR code, or why there is none."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,c,q,enter", "dismiss(None)", show=False)]

    def __init__(self, draw: Drawing, url: str | None) -> None:
        super().__init__()
        self._draw, self._url = draw, url

    def compose(self) -> ComposeResult:
        """Dark on light, whatever the theme: cameras want it so."""
        words, look = self._draw.words, self._draw.look
        with VerticalScroll(classes="dialog code") as dialog:
            dialog.border_title = Content(words("code.title"))
            if self._url is None:
                yield Static(words("code.unknown"), markup=False)
                return
            yield Static(Content.styled(self._url, "bold"))
            if not look.blocks:
                yield Static(words("code.no_blocks"), markup=False)
                return
            rows = qr_rows(self._url)
            if len(rows) + 4 > self.app.size.height or len(rows[0]) + 6 > self.app.size.width:
                yield Static(words("code.no_room"), markup=False)
                return
            yield Static(Content("\n".join(rows)), classes="qr")
