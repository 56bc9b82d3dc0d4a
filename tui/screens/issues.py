"""What needs attention, with the buttons that mend it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import ClassVar

from textual.containers import Horizontal
from textual.content import Content
from textual.widget import Widget
from textual.widgets import Button, Static

from appliance.schemas.issues import FixupButton, Issue, IssueList
from tui.resource import Resource
from tui.screens.base import Keys, quiet
from tui.screens.listed import ListScreen
from tui.views import SEVERITY, issue_detail
from tui.widgets.table import Column


class FixButton(Button):
    """Applies one fix-up of one issue."""

    def __init__(self, issue: Issue, fixup: FixupButton) -> None:
        super().__init__(Content(f"[ {fixup.label} ]"), compact=True)
        self.issue, self.fixup = issue, fixup


class IssuesScreen(ListScreen):
    """The list, the chosen issue, its buttons, and what the last action did."""

    NAME = "issues"
    FILTERS = False
    KEYS: ClassVar[Keys] = (("r", "check", "screen.check"), ("f", "fix", "screen.fix"))

    def __init__(self) -> None:
        super().__init__()
        self._buttons: tuple[str, tuple[FixupButton, ...], str] | None = None

    def resource(self) -> Resource[IssueList]:
        """The issues."""
        return self.box.issues

    def rows(self, value: IssueList) -> Sequence[Issue]:
        """The gravest first."""
        return value.issues

    def columns(self) -> tuple[Column, ...]:
        """Mark, message, age."""
        words = self.drawing.words
        return (
            Column("", lambda one: Content.styled(*SEVERITY[one.severity]), 1),
            Column(words("col.message"), lambda one: one.message),
            Column(
                words("col.since"),
                lambda one: words.age((self.box.clock.now() - one.since).total_seconds()),
                9,
                rank=1,
                right=True,
            ),
        )

    def detail(self, row: Issue) -> Content:
        """All that is known of it."""
        return issue_detail(self.drawing, row, self.box.clock.now())

    def empty(self) -> Content:
        """Nothing needs attention."""
        words = self.drawing.words
        return Content("\n").join(
            [Content.styled(words("issues.none"), "$success"), quiet(words("issues.none.detail"))]
        )

    def note(self, value: IssueList | None) -> Content:
        """When it was looked last."""
        if value is None or value.checked_at is None:
            return Content("")
        words = self.drawing.words
        age = (self.box.clock.now() - value.checked_at).total_seconds()
        return quiet(words("issues.checked", age=words.age(age)))

    def panels(self) -> Iterator[Widget]:
        """Buttons under the detail."""
        yield from super().panels()
        yield Horizontal(id="fixups", classes="buttons")

    def paint(self) -> None:
        """List, detail and buttons."""
        super().paint()
        if not self.can_draw:
            return
        issue = self.chosen
        wanted = None if issue is None else (issue.id, issue.fixups, self.drawing.words.language)
        if wanted == self._buttons:
            return
        self._buttons = wanted
        row = self.query_one("#fixups", Horizontal)
        row.remove_children()
        if issue is None:
            return
        if issue.fixups:
            row.mount_all([FixButton(issue, one) for one in issue.fixups])
        else:
            row.mount(Static(quiet(self.drawing.words("issues.no_fixup"))))

    def on_table_chosen(self) -> None:
        """Enter on an issue goes to its buttons."""
        self.action_fix()

    def action_fix(self) -> None:
        """Go to the first button."""
        buttons = self.query(FixButton)
        if buttons:
            buttons.first().focus()

    def action_check(self) -> None:
        """Have the box look now."""
        words = self.drawing.words
        self.act(words("issues.checking"), self.box.check, lambda _: words("issues.looked"))

    def on_button_pressed(self, event: Button.Pressed) -> None:
        """Ask, then do it."""
        button, words = event.button, self.drawing.words
        if not isinstance(button, FixButton):
            return
        issue, fixup = button.issue, button.fixup

        def then() -> None:
            self.table.focus()
            self.act(
                words("issues.running", label=fixup.label),
                lambda: self.box.fix(issue.id, fixup.name),
                lambda answer: words("issues.done", message=answer.message),
            )

        self.confirm(fixup.label, words("confirm.issue", message=issue.message), then)
