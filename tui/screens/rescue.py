"""Break glass: what is wrong with a box whose daemon is down or whose database is damaged, and the ways back.

What it shows and does comes from ``r1box rescue`` as a child process, for there is nobody else to ask.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, TypeVar

from pydantic import BaseModel
from textual.containers import Container
from textual.content import Content
from textual.widget import Widget
from textual.widgets import Input

from appliance.schemas.backups import RESTORE_WORD, BackupItem
from appliance.schemas.rescue import RescueDone, RescueFinding, RescueReport, SupportBundle
from tui.client import Problem
from tui.figures import size
from tui.resource import Resource, known
from tui.screens.base import Keys
from tui.screens.listed import ListScreen
from tui.widgets.details import blocks, facts, heading
from tui.widgets.dialogs import ChoiceDialog, TextDialog
from tui.widgets.forms import Field, FormDialog, Values
from tui.widgets.panel import Panel
from tui.widgets.table import Column, Table

Body = TypeVar("Body", bound=BaseModel)
ACTS = ("restart", "log", "safe_mode", "restore", "rollback", "password", "bundle")
_STYLES = {"error": ("x", "bold $error"), "warning": ("!", "bold $warning"), "info": ("i", "$primary")}


@dataclass(frozen=True, slots=True)
class Act:
    """A way back. ``why_not`` says why it is not possible here; ``helps``: a finding names it."""

    name: str
    why_not: str | None
    helps: bool


class Printed(BaseModel):
    """A command's answer of which only that it came matters."""


class RescueScreen(ListScreen):
    """What is wrong stands over the ways back, or beside them where there is room."""

    NAME = "rescue"
    FILTERS = False
    KEYS: ClassVar[Keys] = (
        ("enter", "do_act", "screen.do"),
        ("r", "look_again", "screen.look"),
        ("v", "last_log", "screen.log"),
    )

    @staticmethod
    def key(row: Act) -> object:
        """By its name."""
        return row.name

    def resource(self) -> Resource[RescueReport]:
        """What ``r1box rescue look`` finds."""
        return self.console.rescue_report

    def panels(self) -> Iterator[Widget]:
        """What is wrong first."""
        with Container(classes="listed"):
            yield Panel(id="detail")
            yield Table(id="table")
        yield Input(id="filter", compact=True)

    def rows(self, value: RescueReport) -> Sequence[Act]:
        """Those that help first, those that are not possible last."""
        # As the findings name them: what mends the gravest comes first.
        named = list(dict.fromkeys(act for finding in value.findings for act in finding.acts))
        acts = [Act(name, value.why_not.get(name), name in named) for name in ACTS]
        return sorted(
            acts, key=lambda one: (one.why_not is not None, named.index(one.name) if one.helps else len(ACTS))
        )

    def columns(self) -> tuple[Column, ...]:
        """What, and why not."""
        words = self.drawing.words
        return (
            Column("", lambda one: Content.styled("*", "bold $primary") if one.helps and not one.why_not else " ", 1),
            Column(words("rescue.act"), self._act, 38),
            Column("", lambda one: Content.styled(one.why_not or "", "$text-muted"), share=3, least=10),
        )

    def _act(self, one: Act) -> Content:
        return Content.styled(self.drawing.words(f"rescue.{one.name}"), "" if one.why_not is None else "$text-muted")

    def list_title(self, value: RescueReport | None, count: int) -> str:
        """The ways back."""
        del value, count
        return self.drawing.words("rescue.title")

    def detail_title(self, row: Act | None) -> str:
        """What is wrong."""
        return self.drawing.words("rescue.detail")

    def detail(self, row: Act) -> Content:
        """The findings, the state of things, the end of the log."""
        del row
        value = known(self.resource().state())
        if value is None:
            return Content("")
        words = self.drawing.words
        found = [self._finding(one) for one in value.findings]
        if not found:
            found = [Content.styled(words("rescue.well"), "$success")]
        log = None
        if value.log and value.daemon != "answers":
            lines = [Content.styled(_plain(line), "$text-muted") for line in value.log[-12:]]
            log = Content("\n").join([heading(words("rescue.log.title", where=value.log_from or "?")), *lines])
        return blocks(Content("\n").join(found), self._state(value), log)

    def _finding(self, one: RescueFinding) -> Content:
        mark, style = _STYLES[one.severity]
        hint = ("", "") if not one.hint else (f"\n  {one.hint}", "")
        return Content.assemble((f"{mark} ", style), (one.message, "bold"), hint)

    def _state(self, value: RescueReport) -> Content:
        words, unit = self.drawing.words, value.unit
        service = unit.problem or " ".join(part for part in (unit.active, unit.sub and f"({unit.sub})") if part)
        disks = [
            (words("rescue.disk", what=one.what), f"{size(one.free_bytes)} / {size(one.total_bytes)}")
            for one in value.disks
        ]
        return facts(
            [
                (words("rescue.daemon"), words(f"rescue.daemon.{value.daemon}")),
                (unit.name, service),
                (words("rescue.database"), value.database or words("rescue.whole")),
                *disks,
                (words("rescue.folder"), value.state_dir),
            ]
        )

    # -- what an operator does --------------------------------------------------------------------------------------

    def on_table_chosen(self) -> None:
        """Enter on a way back."""
        self.action_do()

    def action_do(self) -> None:
        """Do what is under the cursor, after a question."""
        one = self.chosen
        if one is None:
            return
        if one.why_not is not None:
            self.tell(Content.styled(self.drawing.words("rescue.why_not", reason=one.why_not), "$warning"))
            return
        getattr(self, f"_do_{one.name}")()

    def action_look(self) -> None:
        """Look again."""
        self.resource().wake()

    def action_log(self) -> None:
        """The last lines of the log."""
        self._do_log()

    def _do_restart(self) -> None:
        self._plain_act("restart", ("rescue", "restart"))

    def _do_safe_mode(self) -> None:
        self._plain_act("safe_mode", ("rescue", "restart", "--safe"))

    def _do_rollback(self) -> None:
        words = self.drawing.words
        self.confirm_typed(
            words("rescue.rollback.ask"),
            words("rescue.rollback.about"),
            words("rescue.rollback.word"),
            lambda: self._run("rollback", RescueDone, "rescue", "rollback", "--confirm", "rollback"),
        )

    def _plain_act(self, name: str, arguments: tuple[str, ...]) -> None:
        words = self.drawing.words
        question, about = words(f"rescue.{name}.ask"), words(f"rescue.{name}.about")
        self.confirm(question, about, lambda: self._run(name, RescueDone, *arguments))

    def _do_log(self) -> None:
        value, words = known(self.resource().state()), self.drawing.words
        if value is None:
            return
        lines = [Content(_plain(line)) for line in value.log] or [Content(words("rescue.log.none"))]
        title = words("rescue.log.title", where=value.log_from or "?")
        self.app.push_screen(TextDialog(self.drawing, title, Content("\n").join(lines)))

    def _do_restore(self) -> None:
        value, words = known(self.resource().state()), self.drawing.words
        usable = [] if value is None else [one for one in value.backups if one.problem is None]
        lines = [
            Content.assemble(
                (one.name, "bold"),
                f"  {one.created_at or '?'}  {one.host or '?'}  {size(one.size_bytes)}",
                (f"\n  {one.path}", "$text-muted"),
            )
            for one in usable
        ]

        def then(place: int | None) -> None:
            if place is not None and value is not None:
                self._ask_restore(usable[place], has_passphrase=value.has_passphrase)

        self.app.push_screen(ChoiceDialog(self.drawing, words("rescue.restore"), lines), then)

    def _ask_restore(self, one: BackupItem, *, has_passphrase: bool) -> None:
        words = self.drawing.words
        hint = words("backup.passphrase.own") if has_passphrase else ""
        fields = (
            Field("passphrase", words("backup.passphrase"), "", hint, secret=True),
            Field("word", words("backup.type", word=RESTORE_WORD)),
        )

        def check(values: Values) -> str | None:
            if not values["passphrase"] and not has_passphrase:
                return words("backup.passphrase.missing")
            return None if values["word"] == RESTORE_WORD else words("backup.type", word=RESTORE_WORD)

        def then(values: Values | None) -> None:
            if values is None:
                return
            typed = ("--passphrase-stdin",) if values["passphrase"] else ()
            arguments = ("backup", "restore", one.path, "--confirm", RESTORE_WORD, *typed)
            self._run("restore", Printed, *arguments, given=f"{values['passphrase']}\n")

        title = words("backup.restore.title", name=one.name)
        about = words("rescue.restore.about", when=one.created_at or "?", host=one.host or "?")
        self.app.push_screen(FormDialog(self.drawing, title, fields, about=about, check=check), then)

    def _do_password(self) -> None:
        value, words = known(self.resource().state()), self.drawing.words
        names = () if value is None else value.users
        if not names:
            self.tell(Content.styled(words("rescue.password.nobody"), "$warning"))
            return
        fields = (
            Field("name", words("users.name"), names[0], choices=tuple((name, name) for name in names)),
            Field("password", words("users.first_password"), "", words("users.password.hint"), secret=True),
            Field("again", words("users.again"), secret=True),
        )

        def check(values: Values) -> str | None:
            if values["password"] != values["again"]:
                return words("users.password.differ")
            return None if values["password"] else words("users.password.missing")

        def then(values: Values | None) -> None:
            if values is not None:
                arguments = ("rescue", "password", values["name"], "--password-stdin")
                self._run("password", RescueDone, *arguments, given=f"{values['password']}\n")

        dialog = FormDialog(
            self.drawing, words("rescue.password"), fields, about=words("rescue.password.about"), check=check
        )
        self.app.push_screen(dialog, then)

    def _do_bundle(self) -> None:
        value, words = known(self.resource().state()), self.drawing.words
        folders = [] if value is None else [*value.folders, value.state_dir]

        def then(place: int | None) -> None:
            if place is not None:
                self._run("bundle", SupportBundle, "rescue", "bundle", "--to", folders[place], after=self._show_bundle)

        self.app.push_screen(
            ChoiceDialog(self.drawing, words("rescue.bundle"), folders, words("rescue.bundle.about")), then
        )

    def _show_bundle(self, made: SupportBundle) -> None:
        words = self.drawing.words
        lines = [
            Content.styled(made.path, "bold"),
            Content(words("rescue.bundle.blotted", n=made.redacted)),
            Content(""),
            facts([(one.name, f"{size(one.size_bytes)}  {one.about}") for one in made.files]),
        ]
        self.app.push_screen(TextDialog(self.drawing, words("rescue.bundle.title"), Content("\n").join(lines)))

    def _run(
        self,
        name: str,
        kind: type[Body],
        *arguments: str,
        given: str | None = None,
        after: Callable[[Body], None] = lambda _answer: None,
    ) -> None:
        words, tool = self.drawing.words, self.console.rescue

        async def ask() -> Body | Problem:
            if tool is None:
                return Problem("rescue_missing", detail="r1box")
            return await tool.run(kind, *arguments, given=given)

        self.act(words(f"rescue.{name}.doing"), ask, lambda _: words(f"rescue.{name}.done"), after)


def _plain(text: str) -> str:
    """A line of a log must not move the cursor."""
    return "".join(char if char.isprintable() else " " for char in text)
