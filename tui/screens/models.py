"""The models of the box: what is installed, loaded and served, and how they come and go."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal, cast
from urllib.parse import quote

from textual.content import Content

from appliance.schemas.jobs import PullWish, RequantizeWish, VerifyWish
from appliance.schemas.models import LoadRequest, ModelEntries, ModelEntry
from appliance.schemas.offload import Offload
from appliance.schemas.operators import StickItem, StickList
from tui.client import Nothing, Problem
from tui.figures import context, count, since, size
from tui.resource import Resource, known
from tui.screens.base import Keys
from tui.screens.jobs import ENDED, job_line
from tui.screens.model_jobs import ModelJobsScreen
from tui.widgets.details import blocks, bullets, facts
from tui.widgets.dialogs import ChoiceDialog
from tui.widgets.forms import Field, FormDialog, Values
from tui.widgets.table import Column
from tui.widgets.together import together

STYLES = {"ready": "$success", "failed": "bold $error", "starting": "$warning", "installed": "$text-muted"}
_OFFLOAD = {"VERIFIED": "$success", "DEGRADED": "bold $warning", "CPU": "bold $warning"}


class ModelsScreen(ModelJobsScreen):
    """The store's models with the state of their engines. What takes minutes is a job or shows its progress here."""

    NAME = "models"
    KEYS: ClassVar[Keys] = (
        ("a", "activate", "screen.activate"),
        ("p", "pull", "screen.pull"),
        ("i", "import", "screen.import_stick"),
        ("n", "plans", "app.go('plans')"),
        ("v", "verify", "screen.verify"),
        ("o", "load", "screen.load"),
        ("u", "unload", "screen.unload"),
        ("w", "requantize", "screen.requantize"),
        ("delete", "remove", "screen.remove"),
    )

    def resource(self) -> Resource[ModelEntries]:
        """The models."""
        return self.box.models

    def feeds(self) -> tuple[Resource[object], ...]:
        """With verdicts, jobs, and the boxes that serve one together."""
        return (self.box.models, self.box.offload, self.box.jobs, self.box.cluster)  # type: ignore[return-value]

    def rows(self, value: ModelEntries) -> Sequence[ModelEntry]:
        """The default first, then those that are loaded."""
        return sorted(value.models, key=lambda one: (not one.default, one.state == "installed", one.id))

    def columns(self) -> tuple[Column, ...]:
        """What it is, whether it serves."""
        words = self.drawing.words
        return (
            Column("", lambda one: Content.styled("*", "bold $primary") if one.default else " ", 1),
            Column(words("col.model"), lambda one: one.name, share=2, least=24),
            Column(words("col.form"), lambda one: one.quantization, 9),
            Column(words("col.size"), lambda one: size(one.size_bytes) or "-", 10, right=True, rank=1),
            Column(words("col.state"), self._state, 14),
            Column(words("col.seats"), _seats, 9, rank=2),
            Column(words("col.offload"), self._offload, 9, rank=4),
            Column(words("col.requests"), _requests, 8, right=True, rank=3),
        )

    def note(self, value: ModelEntries | None) -> Content:
        """The job that goes on, if one does."""
        jobs = known(self.box.jobs.state())
        going = [] if jobs is None else [job for job in jobs.jobs if job.state not in ENDED]
        if not going:
            return super().note(value)
        return job_line(self.drawing, going[-1])

    def _state(self, one: ModelEntry) -> Content:
        words = self.drawing.words
        text = words.state("model.state", one.state)
        if one.state == "starting" and one.load_fraction is not None:
            text = f"{text} {one.load_fraction:.0%}"
        return Content.styled(text, STYLES.get(one.state, "$warning"))

    def _offload(self, one: ModelEntry) -> Content:
        word = one.offload
        return Content.styled(
            "" if word is None else self.drawing.words.state("offload", word), _OFFLOAD.get(word or "", "")
        )

    def detail(self, row: ModelEntry) -> Content:
        """All that is known of a model, the proof of its offload too."""
        words, now = self.drawing.words, self.box.clock.now()
        verdicts = known(self.box.offload.state())
        verdict = None if verdicts is None else next((one for one in verdicts.models if one.model == row.id), None)
        marks = [words(f"models.{word}") for word in ("default", "pinned") if getattr(row, word)]
        head = facts(
            [
                (words("col.model"), Content.styled(f"{row.name} {row.quantization}", "bold")),
                ("", ", ".join(marks)),
                (words("col.state"), self._state(row)),
                (words("col.size"), size(row.size_bytes)),
                (words("col.seats"), _seats(row)),
                (words("models.places"), ", ".join(row.devices) or (words("model.processor") if row.seats else None)),
                (words("models.planned"), size(row.planned_bytes)),
                (words("col.engine"), " ".join(word for word in (row.engine, row.engine_build) if word) or None),
                (words("col.requests"), words("models.requests", running=row.running, waiting=row.waiting)),
                (words("models.restarts"), count(row.restarts) if row.restarts else None),
                (words("models.used"), since(words, row.used_at, now)),
                ("id", row.id),
            ]
        )
        error = None if row.error is None else Content.styled(row.error, "$error")
        why = None if row.why_engine is None else Content.styled(row.why_engine, "$text-muted")
        boxes = together(words, known(self.box.cluster.state()), row.id)
        return blocks(head, error, why, boxes, None if verdict is None else self._proof(verdict))

    def _proof(self, verdict: Offload) -> Content:
        words = self.drawing.words
        speeds = [
            (words("models.decode"), _rate(verdict.decode_tokens_per_s)),
            (words("models.prefill"), _rate(verdict.prefill_tokens_per_s)),
            (
                words("models.expected"),
                None
                if verdict.expected_tokens_per_s is None
                else "{:.0f}-{:.0f} tok/s".format(*verdict.expected_tokens_per_s),
            ),
        ]
        word = Content.styled(words.state("offload", verdict.state), _OFFLOAD.get(verdict.state, ""))
        lines = [Content.assemble((words("models.offload"), "bold"), " ", word), facts(speeds)]
        if verdict.reasons:
            lines.append(bullets("!", "$warning", [one.message for one in verdict.reasons]))
        if verdict.proof:
            lines.append(bullets("-", "$text-muted", verdict.proof))
        return Content("\n").join([line for line in lines if line.plain])

    # -- what an operator does --------------------------------------------------------------------------------------

    def action_activate(self) -> None:
        """Make it the default and load it."""
        self._change("activate", "models.activate", timeout=True)

    def action_load(self) -> None:
        """Load it beside the others, or in place of those that are not pinned."""
        self._change("load", "models.load", timeout=True)

    def action_unload(self) -> None:
        """Let its answers end, then end it."""
        self._change("unload", "models.unload")

    def _change(self, verb: Literal["activate", "load", "unload"], word: str, *, timeout: bool = False) -> None:
        one, words = self.chosen, self.drawing.words
        if one is None:
            return
        del timeout
        path = f"/api/admin/models/{quote(one.id, safe='')}/{verb}"
        body = LoadRequest() if verb == "load" else None

        def then() -> None:
            self.act(
                words(f"{word}.doing", model=one.id),
                lambda: self.box.client.send("POST", path, ModelEntry, body),
                lambda answer: words(f"{word}.done", model=answer.id),
            )

        self.confirm(words(f"{word}.ask", model=one.id), words(f"{word}.about"), then)

    def action_verify(self) -> None:
        """Read its files again."""
        if self.chosen is not None:
            self.submit(VerifyWish(model=self.chosen.id))

    def action_requantize(self) -> None:
        """Make another form of it."""
        one, words = self.chosen, self.drawing.words
        if one is None:
            return
        forms: tuple[Literal["Q8_0", "Q4_0"], ...] = ("Q8_0", "Q4_0")

        def then(place: int | None) -> None:
            if place is not None:
                self.submit(RequantizeWish(model=one.id, to=forms[place]))

        self.app.push_screen(ChoiceDialog(self.drawing, words("models.requantize.title", model=one.id), forms), then)

    def action_remove(self) -> None:
        """Delete its files, after its id was typed."""
        one, words = self.chosen, self.drawing.words
        if one is None:
            return

        def then() -> None:
            self.act(
                words("models.remove.doing", model=one.id),
                lambda: self.box.client.send("DELETE", f"/api/admin/models/{quote(one.id, safe='')}", Nothing),
                lambda _: words("models.remove.done", model=one.id),
            )

        about = words("models.remove.about", size=size(one.size_bytes))
        self.confirm_typed(words("models.remove.ask", model=one.id), about, one.id, then)

    def action_pull(self) -> None:
        """Download a model."""
        words = self.drawing.words
        fields = (
            Field("target", words("models.pull.target"), "auto", words("models.pull.target.hint")),
            Field(
                "hub",
                words("models.pull.hub"),
                "auto",
                choices=(
                    ("auto", words("models.pull.auto")),
                    ("huggingface", "Hugging Face"),
                    ("modelscope", "ModelScope"),
                ),
            ),
        )

        def check(values: Values) -> str | None:
            return None if values["target"] else words("models.pull.target.missing")

        def then(values: Values | None) -> None:
            if values is not None:
                self.submit(PullWish(target=values["target"], hub=cast("Any", values["hub"])))

        dialog = FormDialog(
            self.drawing, words("models.pull.title"), fields, about=words("models.pull.about"), check=check
        )
        self.app.push_screen(dialog, then)

    def action_import_stick(self) -> None:
        """Look at the sticks, and import what is chosen."""
        words = self.drawing.words

        async def look() -> StickList | Problem:
            return await self.box.client.get("/api/admin/sticks", StickList, timeout_s=60)

        self.act(words("models.sticks.looking"), look, self._found, self._choose)

    def _found(self, found: StickList) -> str:
        items = sum(len(stick.items) for stick in found.sticks)
        folders = ", ".join(stick.folder for stick in found.sticks)
        if not found.sticks:
            return self.drawing.words("models.sticks.none")
        return self.drawing.words("models.sticks.found", n=items, folders=folders)

    def _choose(self, found: StickList) -> None:
        words = self.drawing.words
        usable = [one for stick in found.sticks for one in stick.items if one.problem is None]
        broken = [one for stick in found.sticks for one in stick.items if one.problem is not None]
        if not usable and not broken:
            return
        lines = [self._stick_line(one) for one in (*usable, *broken)]

        def then(place: int | None) -> None:
            if place is None:
                return
            if place >= len(usable):
                self.tell(Content.styled(broken[place - len(usable)].problem or "", "$error"))
                return
            self.take_in(usable[place], usable)

        self.app.push_screen(
            ChoiceDialog(self.drawing, words("models.sticks.title"), lines, words("models.sticks.about")), then
        )

    def _stick_line(self, one: StickItem) -> Content:
        words = self.drawing.words
        told = [words.state("stick.kind", one.kind), one.quantization or "", size(one.size_bytes) or ""]
        if one.kind == "bundle" and one.problem is None:
            told.append(words("stick.signed" if one.signed else "stick.unsigned"))
        if one.sticks > 1:
            told.append(words("stick.several", n=one.sticks))
        parts = f" {self.drawing.look.dot} ".join(part for part in told if part)
        problem = ("", "") if one.problem is None else (f"  {one.problem}", "$error")
        return Content.assemble((one.name, "bold"), f"  {parts}", problem, (f"\n  {one.path}", "$text-muted"))


def _seats(one: ModelEntry) -> str:
    return "" if one.seats is None else f"{one.seats} x {context(one.context_tokens) or '?'}"


def _requests(one: ModelEntry) -> str:
    return "" if one.seats is None else f"{one.running}+{one.waiting}"


def _rate(rate: float | None) -> str | None:
    return None if rate is None else f"{rate:.1f} tok/s"
