"""Backups: those of the box and those on sticks; make, restore, remove; the passphrase; the factory reset."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, ClassVar
from urllib.parse import quote

from textual.content import Content

from appliance.schemas.backups import (
    RESET_WORD,
    RESTORE_WORD,
    Asked,
    BackupItem,
    BackupList,
    BackupOrder,
    PassphraseOrder,
    ResetOrderBody,
    RestoreOrder,
)
from appliance.schemas.jobs import Job
from tui.figures import since, size
from tui.resource import Resource, known
from tui.screens.base import Keys, quiet
from tui.screens.jobs import ENDED, job_line, job_name
from tui.screens.listed import ListScreen
from tui.widgets.details import blocks, facts
from tui.widgets.dialogs import ChoiceDialog
from tui.widgets.forms import Field, FormDialog, Values
from tui.widgets.table import Column

KINDS = ("backup", "restore", "factory_reset")
PATH = "/api/admin/backups"


class BackupScreen(ListScreen):
    """The newest first, the box's own before those on sticks. What is asked for is a job; the lower border has it."""

    NAME = "backup"
    KEYS: ClassVar[Keys] = (
        ("n", "backup_now", "screen.now"),
        ("o", "backup_stick", "screen.stick"),
        ("e", "restore", "screen.restore"),
        ("w", "passphrase", "screen.passphrase"),
        ("delete", "remove_backup", "screen.remove"),
        ("z", "factory_reset", "screen.reset"),
    )

    @staticmethod
    def key(row: BackupItem) -> object:
        """By its path."""
        return row.path

    def resource(self) -> Resource[BackupList]:
        """The backups."""
        return self.box.backups

    def feeds(self) -> tuple[Resource[object], ...]:
        """With the jobs."""
        return (self.box.backups, self.box.jobs)  # type: ignore[return-value]

    def rows(self, value: BackupList) -> Sequence[BackupItem]:
        """The box's own, then the sticks'."""
        return (*value.backups, *value.on_sticks)

    def columns(self) -> tuple[Column, ...]:
        """When, what, where, how large."""
        words, now = self.drawing.words, self.box.clock.now
        return (
            Column(words("col.when"), lambda one: since(words, _moment(one), now()) or "-", 13),
            Column(words("backup.label"), self._label, 10),
            Column(words("backup.where"), self._where, share=2, least=12),
            Column(words("backup.host"), lambda one: one.host or "-", share=1, rank=1),
            Column(words("backup.version"), lambda one: one.version or "-", 9, rank=2),
            Column(words("col.size"), lambda one: size(one.size_bytes) or "-", 10, right=True),
        )

    def note(self, value: BackupList | None) -> Content:
        """The job that goes on, else what waits."""
        words, jobs = self.drawing.words, known(self.box.jobs.state())
        ours = [] if jobs is None else [job for job in jobs.jobs if job.kind in KINDS]
        going = [job for job in ours if job.state not in ENDED]
        if going:
            return job_line(self.drawing, going[-1])
        if value is not None and value.waiting:
            return Content.styled(words("backup.waiting"), "$warning")
        if ours and ours[0].state == "failed":
            return job_line(self.drawing, ours[0])
        return super().note(value)

    def detail(self, row: BackupItem) -> Content:
        """All that a backup says of itself, and of the folder."""
        words, now = self.drawing.words, self.box.clock.now()
        problem = None if row.problem is None else Content.styled(row.problem, "$error")
        head = facts(
            [
                (words("col.when"), since(words, _moment(row), now)),
                (words("backup.label"), self._label(row)),
                (words("backup.host"), row.host),
                (words("backup.version"), row.version),
                (words("col.size"), size(row.size_bytes)),
                (words("backup.file"), row.path),
            ]
        )
        return blocks(head, problem, quiet(words("backup.unchecked")), self._folder())

    def empty(self) -> Content:
        """Why there are none, and what is known of the folder."""
        return blocks(super().empty(), self._folder())

    def _folder(self) -> Content:
        words, value = self.drawing.words, known(self.box.backups.state())
        if value is None:
            return Content("")
        nights = words("backup.nights", n=value.keep) if value.has_passphrase else words("backup.no_nights")
        rows: list[tuple[str, Content | str | None]] = [
            (words("backup.folder"), value.folder),
            ("", None if value.problem is None else Content.styled(value.problem, "$error")),
            (words("backup.free"), size(value.free_bytes)),
            (words("backup.every_night"), Content.styled(nights, "" if value.has_passphrase else "$warning")),
        ]
        last = value.last_restore
        if last is not None:
            now = self.box.clock.now()
            when = since(words, _parsed(last.restored_at), now) or last.restored_at
            rows.append((words("backup.restored"), f"{when}: {last.backup}"))
            if last.settings_left_out:
                rows.append((words("backup.left_out"), ", ".join(last.settings_left_out)))
            if last.models:
                rows.append((words("backup.models"), ", ".join(last.models)))
        return facts(rows)

    def _label(self, one: BackupItem) -> Content:
        words = self.drawing.words
        if one.problem is not None:
            return Content.styled(words("backup.none_such"), "$error")
        return Content(words.state("backup.label", one.label or "-"))

    def _where(self, one: BackupItem) -> str:
        value = known(self.box.backups.state())
        folder = "" if value is None else value.folder
        return self.drawing.words("backup.own") if one.path == f"{folder}/{one.name}" else one.path

    # -- what an operator does --------------------------------------------------------------------------------------

    def action_now(self) -> None:
        """One into the box's folder."""
        self._make(None)

    def action_stick(self) -> None:
        """One onto a stick that is chosen."""
        words, value = self.drawing.words, known(self.box.backups.state())
        folders = () if value is None else value.folders
        if not folders:
            self.tell(Content.styled(words("models.sticks.none"), "$warning"))
            return

        def then(place: int | None) -> None:
            if place is not None:
                self._make(folders[place])

        dialog = ChoiceDialog(self.drawing, words("backup.stick.title"), folders, words("backup.stick.about"))
        self.app.push_screen(dialog, then)

    def _make(self, to: str | None) -> None:
        words, value = self.drawing.words, known(self.box.backups.state())
        if value is None:
            return
        place = words("backup.own") if to is None else to
        if value.has_passphrase:
            question, about = words("backup.now.ask", place=place), words("backup.now.about")
            self.confirm(question, about, lambda: self._ask_for("", BackupOrder(to=to)))
            return
        self._ask_passphrase(
            words("backup.now.title", place=place),
            words("backup.now.passphrase"),
            lambda passphrase: self._ask_for("", BackupOrder(to=to, passphrase=passphrase)),
        )

    def action_restore(self) -> None:
        """Go back to the one under the cursor, after its passphrase and the word were typed."""
        one, words, value = self.chosen, self.drawing.words, known(self.box.backups.state())
        if one is None or value is None:
            return
        if one.problem is not None:
            self.tell(Content.styled(one.problem, "$error"))
            return
        hint = words("backup.passphrase.own") if value.has_passphrase else ""
        fields = (
            Field("passphrase", words("backup.passphrase"), "", hint, secret=True),
            Field("word", words("backup.type", word=RESTORE_WORD)),
        )

        def check(values: Values) -> str | None:
            if not values["passphrase"] and not value.has_passphrase:
                return words("backup.passphrase.missing")
            return None if values["word"] == RESTORE_WORD else words("backup.type", word=RESTORE_WORD)

        def then(values: Values | None) -> None:
            if values is not None:
                order = RestoreOrder(path=one.path, passphrase=values["passphrase"] or None, confirm=RESTORE_WORD)
                if one in value.backups:
                    order = order.model_copy(update={"path": None, "name": one.name})
                self._ask_for("/restore", order, "backup.restores")

        title = words("backup.restore.title", name=one.name)
        about = words("backup.restore.about", when=one.created_at or "?", host=one.host or "?")
        self.app.push_screen(FormDialog(self.drawing, title, fields, about=about, check=check), then)

    def action_passphrase(self) -> None:
        """Set the passphrase of all backups from now on."""
        words = self.drawing.words

        def then(passphrase: str) -> None:
            self.act(
                words("backup.setting"),
                lambda: self.box.client.send(
                    "PUT", f"{PATH}/passphrase", Asked, PassphraseOrder(passphrase=passphrase)
                ),
                lambda _: words("backup.set"),
            )

        self._ask_passphrase(words("backup.passphrase.title"), words("backup.passphrase.about"), then)

    def action_remove(self) -> None:
        """Delete one of the box's folder, after a word was typed."""
        one, words, value = self.chosen, self.drawing.words, known(self.box.backups.state())
        if one is None or value is None:
            return
        if one not in value.backups:
            self.tell(quiet(words("backup.remove.stick")))
            return

        def then() -> None:
            self.act(
                words("backup.removing"),
                lambda: self.box.client.send("DELETE", f"{PATH}/{quote(one.name, safe='')}", Asked),
                lambda _: words("backup.removed", name=one.name),
            )

        word = words("backup.remove.word")
        self.confirm_typed(words("backup.remove.ask", name=one.name), words("backup.remove.about"), word, then)

    def action_reset(self) -> None:
        """Make the box as new, after the word was typed."""
        words = self.drawing.words
        choices = (("keep", words("backup.keep")), ("remove", words("backup.remove")))
        fields = (
            Field("models", words("screen.models"), "keep", choices=choices),
            Field("backups", words("backup.of_box"), "keep", choices=choices),
            Field("word", words("backup.type", word=RESET_WORD)),
        )

        def check(values: Values) -> str | None:
            return None if values["word"] == RESET_WORD else words("backup.type", word=RESET_WORD)

        def then(values: Values | None) -> None:
            if values is not None:
                order = ResetOrderBody(
                    confirm=RESET_WORD,
                    remove_models=values["models"] == "remove",
                    keep_backups=values["backups"] == "keep",
                )
                self._submit("/api/admin/factory-reset", order, "backup.resets")

        title, about = words("backup.reset.title"), words("backup.reset.about")
        self.app.push_screen(FormDialog(self.drawing, title, fields, about=about, check=check), then)

    def _ask_passphrase(self, title: str, about: str, then: Callable[[str], None]) -> None:
        words = self.drawing.words
        fields = (
            Field("passphrase", words("backup.passphrase"), "", words("backup.passphrase.hint"), secret=True),
            Field("again", words("users.again"), secret=True),
        )

        def check(values: Values) -> str | None:
            if values["passphrase"] != values["again"]:
                return words("users.password.differ")
            return None if len(values["passphrase"].strip()) >= 10 else words("backup.passphrase.hint")

        def given(values: Values | None) -> None:
            if values is not None:
                then(values["passphrase"])

        self.app.push_screen(FormDialog(self.drawing, title, fields, about=about, check=check), given)

    def _ask_for(self, path: str, order: BackupOrder | RestoreOrder, word: str = "backup.begun") -> None:
        self._submit(f"{PATH}{path}", order, word)

    def _submit(self, path: str, order: Any, word: str) -> None:
        words = self.drawing.words

        def done(job: Job) -> str:
            return words(word, job=job_name(words, job))

        self.act(words("jobs.submitting"), lambda: self.box.client.send("POST", path, Job, order), done)


def _moment(one: BackupItem) -> datetime | None:
    return None if one.created_at is None else _parsed(one.created_at)


def _parsed(text: str) -> datetime | None:
    """A moment of a file's own words; None for what is none."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found if found.tzinfo is not None else None
