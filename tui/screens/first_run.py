"""The first minutes of a new box, step by step. The list lies in the daemon: it can be left at any moment, and resumed
here, on the page or after a restart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

from textual.content import Content

from appliance.schemas.first_run import FirstAdmin, FirstRun, Step, StepChange, StepName
from appliance.schemas.jobs import LoadWish, PullWish
from appliance.schemas.operators import StickList
from appliance.schemas.plans import Plans
from tui.client import Problem
from tui.figures import size
from tui.resource import Resource, known
from tui.screens.base import Keys
from tui.screens.model_jobs import ModelJobsScreen
from tui.step_facts import StepFacts
from tui.views import QUIET
from tui.widgets.details import blocks
from tui.widgets.dialogs import ChoiceDialog
from tui.widgets.forms import Field, FormDialog, Values
from tui.widgets.table import Column

_STYLES = {"done": "$success", "skipped": QUIET, "running": "$warning", "failed": "bold $error", "open": "bold"}
_MARKS = {"done": "+", "skipped": "-", "running": ">", "failed": "x", "open": " "}
_URL = "/api/admin/first-run"
MOST_PLANS = 8


class FirstRunScreen(ModelJobsScreen):
    """Steps on the left; what a step is for and how it stands on the right. Enter does it."""

    NAME = "first_run"
    FILTERS: ClassVar[bool] = False
    KEYS: ClassVar[Keys] = (
        ("enter", "do_step", "screen.do_step"),
        ("s", "skip_step", "screen.skip_step"),
        ("f", "finish_first", "screen.finish_first"),
    )

    def __init__(self) -> None:
        super().__init__()
        self._at: StepName | None = None

    def resource(self) -> Resource[FirstRun]:
        """The list."""
        return self.box.first_run

    def feeds(self) -> tuple[Resource[object], ...]:
        """With what the steps show."""
        return (self.box.first_run, self.box.network, self.box.identity, self.box.jobs, self.box.plans)  # type: ignore[return-value]

    def rows(self, value: FirstRun) -> Sequence[Step]:
        """In their order."""
        return value.steps

    @staticmethod
    def key(row: Step) -> object:
        """Their names."""
        return row.name

    def columns(self) -> tuple[Column, ...]:
        """Mark, step, how it stands."""
        words = self.drawing.words
        return (
            Column("", lambda one: Content.styled(_MARKS[one.state], _STYLES[one.state]), 1),
            Column(words("first_run.step"), lambda one: words(f"first_run.{one.name}"), share=2),
            Column(words("col.state"), self._state, 12),
        )

    def list_title(self, value: FirstRun | None, count: int) -> str:
        """How many are done."""
        done = 0 if value is None else sum(one.state in ("done", "skipped") for one in value.steps)
        return self.drawing.words("first_run.title", done=done, n=count)

    def note(self, value: FirstRun | None) -> Content:
        """When nothing is left."""
        if value is not None and not value.finished and value.next is None:
            return Content.styled(self.drawing.words("first_run.all_done"), "$success")
        return super().note(value)

    def detail_title(self, row: Step | None) -> str:
        """The step."""
        return self.drawing.words("first_run.detail" if row is None else f"first_run.{row.name}")

    @property
    def facts(self) -> StepFacts:
        """How the box stands, for this terminal."""
        return StepFacts(self.drawing, self.box, self.size.width)

    def paint(self) -> None:
        """The first time the cursor goes to where the work is."""
        super().paint()
        told = known(self.box.first_run.state())
        if self.can_draw and told is not None and told.next is not None and self._at is None:
            self._go(told)

    def _go(self, told: FirstRun) -> None:
        self._at = told.next
        self.table.go(next((place for place, one in enumerate(told.steps) if one.name == told.next), 0))

    def _state(self, one: Step) -> Content:
        return Content.styled(self.drawing.words(f"first_run.state.{one.state}"), _STYLES[one.state])

    def detail(self, row: Step) -> Content:
        """What it is for, how it is now, what came of it."""
        words = self.drawing.words
        return blocks(
            Content(words(f"first_run.about.{row.name}")),
            self.facts.of(row),
            self._outcome(row),
            Content.styled(words("first_run.enter"), QUIET) if row.state != "running" else None,
        )

    def _outcome(self, row: Step) -> Content | None:
        words = self.drawing.words
        if row.state == "failed" and not row.lines:
            return Content.styled(row.told or words("first_run.state.failed"), "$error")
        if row.by is None:
            return None
        word = "first_run.by.installation" if row.by == "installation" else "first_run.by"
        return Content.styled(words(word, state=words(f"first_run.state.{row.state}"), by=row.by), QUIET)

    # -- what an operator does --------------------------------------------------------------------------------------

    def on_table_chosen(self) -> None:
        """Enter."""
        self.action_do_step()

    def action_do_step(self) -> None:
        """The step's own dialog."""
        one: Step | None = self.chosen
        if one is None or one.state == "running":
            return
        getattr(self, f"_do_{one.name}")(one)

    def action_skip_step(self) -> None:
        """Leave it out; it can be done later all the same."""
        one: Step | None = self.chosen
        if one is not None and one.state in ("open", "failed"):
            self.mark(one.name, "skipped")

    def action_finish_first(self) -> None:
        """Be led no more."""
        told, words = known(self.box.first_run.state()), self.drawing.words
        if told is None:
            return
        left = ", ".join(words(f"first_run.{one.name}") for one in told.steps if one.state in ("open", "failed"))

        def then() -> None:
            self.act(
                words("first_run.finishing"),
                lambda: self.box.client.send("POST", f"{_URL}/finish", FirstRun),
                self._taken,
                lambda _told: self.console.action_go("dashboard"),
            )

        about = words("first_run.finish.left", steps=left) if left else words("first_run.finish.about")
        self.confirm(words("first_run.finish.ask"), about, then)

    def mark(self, name: StepName, state: Literal["done", "skipped", "open"], value: str | None = None) -> None:
        """Tell the box; the cursor goes on to what is left."""
        self.act(
            self.drawing.words("first_run.saving"),
            lambda: self.box.client.send("PUT", f"{_URL}/steps/{name}", FirstRun, StepChange(state=state, value=value)),
            self._taken,
        )

    def _taken(self, told: FirstRun) -> str:
        self.box.first_run.put(told)
        if told.next is not None:
            self._go(told)
        return self.drawing.words("first_run.saved")

    def _do_language(self, _step: Step) -> None:
        languages: list[tuple[Literal["en", "zh"], str]] = [("en", "English")]
        if self.drawing.look.chinese:
            languages.append(("zh", "中文"))

        def then(place: int | None) -> None:
            if place is not None:
                self.console.speak(languages[place][0])
                self.mark("language", "done", languages[place][0])

        title = self.drawing.words("first_run.language")
        self.app.push_screen(ChoiceDialog(self.drawing, title, [name for _, name in languages]), then)

    def _do_keyboard(self, _step: Step) -> None:
        told = known(self.box.first_run.state())
        maps = () if told is None else told.keymaps

        def then(place: int | None) -> None:
            if place is not None:
                self.mark("keyboard", "done", maps[place])

        title, about = self.drawing.words("first_run.keyboard"), self.drawing.words("first_run.keyboard.about")
        self.app.push_screen(ChoiceDialog(self.drawing, title, maps, about), then)

    def _do_network(self, _step: Step) -> None:
        words = self.drawing.words
        choices = [words("first_run.network.keep"), words("first_run.network.change")]

        def then(place: int | None) -> None:
            if place == 0:
                self.mark("network", "done")
            elif place == 1:
                self.console.action_go("network")

        about = str(self.facts.network(_step) or "")
        self.app.push_screen(ChoiceDialog(self.drawing, words("first_run.network"), choices, about), then)

    def _do_time(self, _step: Step) -> None:
        told, words = known(self.box.network.state()), self.drawing.words
        zone = (told.clock.zone if told is not None else None) or "UTC"
        field = Field("zone", words("network.zone"), zone, "Asia/Shanghai")

        def check(values: Values) -> str | None:
            return None if values["zone"] else words("first_run.zone.missing")

        def then(values: Values | None) -> None:
            if values is not None:
                self.mark("time", "done", values["zone"] if values["zone"] != zone else None)

        dialog = FormDialog(
            self.drawing, words("first_run.time"), (field,), about=words("first_run.time.form"), check=check
        )
        self.app.push_screen(dialog, then)

    def _do_admin(self, step: Step) -> None:
        words = self.drawing.words
        if step.state == "done":
            self.console.action_go("users")
            return
        fields = (
            Field("name", words("users.name"), "admin"),
            Field("password", words("first_run.password"), "", words("users.password.hint"), secret=True),
            Field("again", words("users.again"), secret=True),
        )

        def check(values: Values) -> str | None:
            if not values["name"]:
                return words("users.name.missing")
            if not values["password"]:
                return words("users.password.missing")
            return None if values["password"] == values["again"] else words("users.password.differ")

        def then(values: Values | None) -> None:
            if values is None:
                return
            body = FirstAdmin(name=values["name"], password=values["password"], language=words.language)
            self.act(
                words("users.making"),
                lambda: self.box.client.send("POST", f"{_URL}/admin", FirstRun, body),
                self._taken,
            )

        dialog = FormDialog(
            self.drawing, words("first_run.admin"), fields, about=words("first_run.admin.form"), check=check
        )
        self.app.push_screen(dialog, then)

    def _do_tls(self, step: Step) -> None:
        words = self.drawing.words
        about = str(self.facts.tls(step) or "")
        self.confirm(words("first_run.tls.ask"), about, lambda: self.mark("tls", "done"))

    def _do_model(self, step: Step) -> None:
        """Load what is there; else sticks first: a box without the internet is what most are."""
        words = self.drawing.words
        if step.model is not None and step.state == "open":
            wish, about = LoadWish(model=step.model), words("models.activate.about")
            self.confirm(words("first_run.load.ask", model=step.told or step.model), about, lambda: self.submit(wish))
            return

        async def look() -> StickList | Problem:
            return await self.box.client.get("/api/admin/sticks", StickList, timeout_s=60)

        self.act(words("models.sticks.looking"), look, lambda _found: "", self._choose_model)

    def _choose_model(self, found: StickList) -> None:
        words = self.drawing.words
        items = [one for stick in found.sticks for one in stick.items if one.problem is None]
        plans = known(self.box.plans.state()) or Plans()
        pulls = [plan for plan in plans.plans if plan.engine == "llama.cpp"][:MOST_PLANS]
        lines = [
            *(_choice(words("first_run.from_stick"), f"{one.name} {size(one.size_bytes) or ''}") for one in items),
            *(_choice(words("first_run.from_network"), self.facts.fit_words(plan)) for plan in pulls),
            Content(words("first_run.by_hand")),
        ]

        def then(place: int | None) -> None:
            if place is None:
                return
            if place < len(items):
                self.take_in(items[place], items)
            elif place < len(items) + len(pulls):
                plan = pulls[place - len(items)]
                self.submit(PullWish(target=f"{plan.variant}:{plan.quantization}"))
            else:
                self.console.action_go("models")

        title, about = words("first_run.model"), words("first_run.model.form")
        self.app.push_screen(ChoiceDialog(self.drawing, title, lines, about), then)

    def _do_self_test(self, _step: Step) -> None:
        words = self.drawing.words
        self.act(
            words("first_run.testing"),
            lambda: self.box.client.send("POST", f"{_URL}/self-test", FirstRun),
            self._tested,
        )

    def _tested(self, told: FirstRun) -> str:
        self.box.first_run.put(told)
        return self.drawing.words("first_run.test.begun")


def _choice(whence: str, what: str) -> Content:
    return Content.assemble((whence, QUIET), f" {what}")
