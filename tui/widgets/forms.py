"""A form over a screen: lines to type into, choices to turn through."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.content import Content
from textual.widget import Widget
from textual.widgets import Button, Input, Static

from tui.views import QUIET, Drawing
from tui.widgets.dialogs import Dialog

Values = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Field:
    """One line. With ``choices`` ((value, what is shown) each) it is turned through, otherwise typed; ``secret`` is not
    shown."""

    name: str
    label: str
    value: str = ""
    hint: str = ""
    choices: tuple[tuple[str, str], ...] = ()
    secret: bool = False


class Choice(Static, can_focus=True):
    """One of some values; left, right and space turn it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left", "turn(-1)", show=False),
        Binding("right,space", "turn(1)", show=False),
        Binding("enter", "screen.next", show=False),
    ]

    def __init__(self, field: Field) -> None:
        super().__init__(id=f"field-{field.name}")
        self._choices = field.choices
        values = [value for value, _ in field.choices]
        self._place = values.index(field.value) if field.value in values else 0

    @property
    def value(self) -> str:
        """What is chosen."""
        return self._choices[self._place][0]

    def on_mount(self) -> None:
        """Show the first."""
        self.update(self._shown())

    def action_turn(self, by: int) -> None:
        """The next one, or the one before."""
        self._place = (self._place + by) % len(self._choices)
        self.update(self._shown())

    def on_click(self) -> None:
        """A click turns too."""
        self.action_turn(1)

    def _shown(self) -> Content:
        return Content(f"< {self._choices[self._place][1]} >")


class FormDialog(Dialog[Values | None]):
    """``check`` gives the reason why the values cannot be used, or None. The answer is None when it is left."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss(None)", show=False),
        Binding("down", "app.focus_next", show=False),
        Binding("up", "app.focus_previous", show=False),
    ]

    def __init__(
        self,
        draw: Drawing,
        title: str,
        fields: Sequence[Field],
        *,
        about: str = "",
        check: Callable[[Values], str | None] = lambda _values: None,
    ) -> None:
        super().__init__()
        self._draw, self._title, self._fields, self._about, self._check = draw, title, fields, about, check

    def compose(self) -> ComposeResult:
        """A line for each field, then the buttons."""
        words = self._draw.words
        with VerticalScroll(classes="dialog form") as dialog:
            dialog.border_title = Content(self._title)
            dialog.can_focus = False
            if self._about:
                yield Static(Content(self._about), classes="about")
            for field in self._fields:
                with Horizontal(classes="field"):
                    yield Static(Content.styled(field.label, QUIET), classes="label")
                    if field.choices:
                        yield Choice(field)
                    else:
                        yield Input(
                            field.value,
                            placeholder=field.hint,
                            password=field.secret,
                            id=f"field-{field.name}",
                            compact=True,
                            select_on_focus=False,
                        )
            yield Static(id="form-problem")
            with Horizontal(classes="buttons"):
                yield Button(Content(f"[ {words('form.ok')} ]"), id="ok", compact=True)
                yield Button(Content(f"[ {words('form.cancel')} ]"), id="cancel", compact=True)
            yield Static(Content.styled(words("form.keys"), QUIET))

    def on_mount(self) -> None:
        """Begin with the first field."""
        self._widgets()[0].focus()

    def _widgets(self) -> list[Widget]:
        return [self.query_one(f"#field-{field.name}") for field in self._fields]

    def values(self) -> dict[str, str]:
        """What stands in the fields now."""
        found = {}
        for field, widget in zip(self._fields, self._widgets(), strict=True):
            assert isinstance(widget, Choice | Input)
            found[field.name] = widget.value if field.secret else widget.value.strip()
        return found

    def action_next(self) -> None:
        """On to the next field; from the last one the form is given."""
        widgets = self._widgets()
        if self.focused is widgets[-1]:
            self._give()
        else:
            self.focus_next()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Enter in a line."""
        event.stop()
        self.action_next()

    def on_button_pressed(self, event: Button.Pressed) -> None:
        """Give it, or leave it."""
        event.stop()
        if event.button.id == "ok":
            self._give()
        else:
            self.dismiss(None)

    def _give(self) -> None:
        values = self.values()
        problem = self._check(values)
        if problem is None:
            self.dismiss(values)
        else:
            self.query_one("#form-problem", Static).update(Content.styled(problem, "$error"))
