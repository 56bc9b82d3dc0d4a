"""What needs attention, with the buttons that mend it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.widget import Widget
from textual.widgets import Button, OptionList, Static
from textual.widgets.option_list import Option

from appliance.schemas.issues import FixupButton, Issue, IssueList
from tui.client import Problem
from tui.resource import Failed, Loading, known
from tui.screens.base import BoxScreen, quiet
from tui.views import issue_detail, issue_line
from tui.widgets.dialogs import ConfirmDialog
from tui.widgets.panel import Panel, failure, subtitle


class FixButton(Button):
    """Applies one fix-up of one issue."""

    def __init__(self, issue: Issue, fixup: FixupButton) -> None:
        super().__init__(Content(f"[ {fixup.label} ]"), compact=True)
        self.issue, self.fixup = issue, fixup


class IssuesScreen(BoxScreen):
    """The list, the chosen issue, its buttons, and what the last action did. One action at a time."""

    NAME = "issues"
    KEYS: ClassVar[tuple[tuple[str, str, str], ...]] = (("r", "check", "screen.check"), ("f", "fix", "screen.fix"))

    def __init__(self) -> None:
        super().__init__()
        self._listed: IssueList | None = None
        self._buttons: tuple[str, tuple[FixupButton, ...], str] | None = None
        self._result = Content("")
        self._busy = False

    def panels(self) -> Iterator[Widget]:
        """List and detail; beside or below each other, as there is room."""
        with Horizontal(id="issues-body"):
            yield OptionList(id="list", markup=False)
            with Vertical(id="right"):
                yield Panel(id="detail")
                yield Horizontal(id="fixups", classes="buttons")
        yield Static(id="result")

    def on_mount(self) -> None:
        """The list has the focus."""
        super().on_mount()
        self.query_one("#list", OptionList).focus()

    def paint(self) -> None:
        """Draw list, detail and result."""
        super().paint()
        if not self.is_mounted:
            return
        state, words = self.box.issues.state(), self.drawing.words
        shown = self.query_one("#list", OptionList)
        found = known(state)
        shown.border_title = Content(words("issues.title", n="?" if found is None else len(found.issues)))
        shown.border_subtitle = subtitle(self.drawing, state)
        if found is not None and not subtitle(self.drawing, state).plain and found.checked_at is not None:
            age = (self.box.clock.now() - found.checked_at).total_seconds()
            shown.border_subtitle = Content(words("issues.checked", age=words.age(age)))
        if found is not None and found != self._listed:
            self._fill(shown, found)
        detail = self.query_one("#detail", Panel)
        detail.border_title = Content(words("issues.detail"))
        issue = self._chosen()
        if issue is not None:
            detail.draw(issue_detail(self.drawing, issue, self.box.clock.now()))
        elif isinstance(state, Failed):
            detail.draw(failure(self.drawing, state, self.box.client.target.shown))
        elif isinstance(state, Loading):
            detail.draw(quiet(words("panel.loading.text")))
        else:
            detail.draw(Content("\n").join([Content(words("issues.none")), quiet(words("issues.none.detail"))]))
        self._show_buttons(issue)
        self.query_one("#result", Static).update(self._result)

    def _fill(self, shown: OptionList, found: IssueList) -> None:
        """Put the issues in; the chosen one stays chosen while it is there."""
        before = self._chosen()
        same = self._listed is not None and self._listed.issues == found.issues
        self._listed = found
        if same:
            return
        shown.clear_options()
        shown.add_options(Option(issue_line(one), id=str(place)) for place, one in enumerate(found.issues))
        ids = [one.id for one in found.issues]
        if ids:
            shown.highlighted = ids.index(before.id) if before is not None and before.id in ids else 0

    def _chosen(self) -> Issue | None:
        place = self.query_one("#list", OptionList).highlighted
        if self._listed is None or place is None or place >= len(self._listed.issues):
            return None
        return self._listed.issues[place]

    def _show_buttons(self, issue: Issue | None) -> None:
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

    def on_option_list_option_highlighted(self) -> None:
        """Another issue is looked at."""
        self.paint()

    def on_option_list_option_selected(self) -> None:
        """Enter on an issue goes to its buttons."""
        self.action_fix()

    def action_fix(self) -> None:
        """Go to the first button."""
        buttons = self.query(FixButton)
        if buttons:
            buttons.first().focus()

    def action_check(self) -> None:
        """Have the box look now."""
        if not self._busy:
            self.run_worker(self._check(), group="action")

    def on_button_pressed(self, event: Button.Pressed) -> None:
        """Ask, then do it."""
        button = event.button
        if not isinstance(button, FixButton) or self._busy:
            return

        def answered(yes: bool | None) -> None:
            if yes and not self._busy:
                self.run_worker(self._apply(button.issue, button.fixup), group="action")

        self.app.push_screen(ConfirmDialog(self.drawing, button.fixup.label, button.issue.message), answered)

    async def _check(self) -> None:
        self._tell(quiet(self.drawing.words("issues.checking")), busy=True)
        problem = await self.box.check()
        self._tell(Content("") if problem is None else self._not_done(problem), busy=False)

    async def _apply(self, issue: Issue, fixup: FixupButton) -> None:
        words = self.drawing.words
        self._tell(Content.styled(words("issues.running", label=fixup.label), "$warning"), busy=True)
        answer = await self.box.fix(issue.id, fixup.name)
        if isinstance(answer, Problem):
            self._tell(self._not_done(answer), busy=False)
        else:
            self._tell(Content.styled(words("issues.done", message=answer.message), "$success"), busy=False)
        self.query_one("#list", OptionList).focus()

    def _not_done(self, problem: Problem) -> Content:
        message, hint = self.drawing.words.problem(problem, self.box.client.target.shown)
        told = self.drawing.words("issues.not_done", message=message)
        return Content.assemble((told, "$error"), f" {hint}" if hint else "")

    def _tell(self, result: Content, *, busy: bool) -> None:
        self._result, self._busy = result, busy
        self.paint()
