"""What would fit this machine, why the rest does not, and the way to get one of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from rich.cells import set_cell_size
from textual.content import Content

from appliance.schemas.jobs import PullWish
from appliance.schemas.plans import Plan, Plans, PlansQuery, WhyNot
from tui.figures import context, size
from tui.resource import Resource, known
from tui.screens.base import Keys, quiet
from tui.screens.jobs import job_name
from tui.screens.listed import ListScreen
from tui.widgets.details import blocks, bullets, facts, heading
from tui.widgets.forms import Field, FormDialog, Values
from tui.widgets.table import Column

Row = Plan | WhyNot
_GIB = 2**30


class PlansScreen(ListScreen):
    """Plans, best first, then reasons against. ``w`` asks about one: "why not 671B?"."""

    NAME = "plans"
    KEYS: ClassVar[Keys] = (
        ("w", "why_not", "screen.why_not"),
        ("s", "wish", "screen.wish"),
        ("p", "pull_this", "screen.pull"),
        ("r", "refresh", "app.refresh_box"),
        ("b", "back_models", "app.go('models')"),
    )

    def resource(self) -> Resource[Plans]:
        """The planner's sheet."""
        return self.box.plans

    def rows(self, value: Plans) -> Sequence[Row]:
        """What fits, then what does not."""
        return (*value.plans, *value.rejections)

    @staticmethod
    def key(row: Row) -> object:
        """A form for an engine."""
        return (type(row), row.variant, row.quantization, row.engine)

    def columns(self) -> tuple[Column, ...]:
        """What, whether, how much."""
        words = self.drawing.words
        return (
            Column("", _mark, 1),
            Column(words("col.model"), lambda row: row.variant, 24),
            Column(words("col.form"), lambda row: row.quantization, 9),
            Column(words("col.engine"), lambda row: row.engine, 11, rank=3),
            Column(words("col.seats"), lambda row: _seats(row), 9, rank=1),
            Column(words("col.speed"), lambda row: _speed(row), 9, right=True, rank=2),
            Column(words("col.memory"), _told, share=1),
        )

    def list_title(self, value: Plans | None, count: int) -> str:
        """The machine."""
        words = self.drawing.words
        if value is None:
            return words("plans.title.unknown")
        cards = ", ".join(f"{one.count} x {one.name}" for one in value.cards) or words("plans.no_cards")
        return words("plans.title", machine=cards, n=len(value.plans))

    def note(self, value: Plans | None) -> Content:
        """The wish in force."""
        wish, words = self.box.wish, self.drawing.words
        parts = []
        if wish.variant:
            parts.append(words("plans.about", variant=wish.variant))
        if wish.seats or wish.context_tokens:
            parts.append(words("plans.wished", seats=wish.seats or "?", context=context(wish.context_tokens) or "?"))
        if wish.offload:
            parts.append(words("plans.offload"))
        return quiet(", ".join(parts)) if parts else super().note(value)

    def detail(self, row: Row) -> Content:
        """The memory of a plan, device by device; the reason against."""
        words = self.drawing.words
        if isinstance(row, WhyNot):
            offer = row.counter_offer
            head = facts(
                [
                    (words("col.model"), Content.styled(f"{row.variant} {row.quantization}", "bold")),
                    (words("col.engine"), row.engine),
                    (words("plans.needs"), size(row.needed_bytes)),
                    (words("plans.there"), size(row.available_bytes)),
                ]
            )
            would = None
            if offer is not None:
                would = Content.styled(
                    words("plans.offer", seats=offer.seats, context=context(offer.context_tokens)), "$success"
                )
            return blocks(head, Content.assemble(("x ", "bold $error"), row.reason), would)
        head = facts(
            [
                (words("col.model"), Content.styled(f"{row.variant} {row.quantization}", "bold")),
                (words("col.engine"), row.engine if row.installed else words("plans.no_engine", engine=row.engine)),
                (words("models.places"), ", ".join(row.devices) or words("model.processor")),
                (words("col.seats"), _seats(row)),
                (words("plans.cache"), row.kv_type),
                (words("col.speed"), _speed(row) and f"{_speed(row)} tok/s"),
                (words("plans.file"), size(row.file_bytes)),
                (words("plans.from"), row.repository),
            ]
        )
        notes = bullets("!", "$warning", row.notes) if row.notes else None
        reduced = Content.styled(words("plans.reduced"), "$warning") if row.reduced else None
        machine = known(self.box.plans.state())
        about = bullets("!", "$warning", machine.notes) if machine is not None and machine.notes else None
        return blocks(head, self._memory(row), reduced, notes, about)

    def _memory(self, row: Plan) -> Content:
        words = self.drawing.words
        names = ("weights", "cache", "work", "reserve", "total", "there")
        head = set_cell_size(words("plans.device"), 12) + "".join(
            f"{_fit(words(f'plans.memory.{name}'), 8)}" for name in names
        )
        lines = [heading(words("plans.memory")), quiet(head)]
        for one in row.memory:
            parts = (one.weights_bytes, one.kv_bytes, one.compute_bytes, one.reserve_bytes, one.total_bytes)
            cells = "".join(f"{part / _GIB:>8.1f}" for part in (*parts, one.available_bytes))
            lines.append(Content(set_cell_size(one.device, 12) + cells))
        return Content("\n").join(lines)

    # -- what an operator does --------------------------------------------------------------------------------------

    def action_why_not(self) -> None:
        """Ask about one variant."""
        words = self.drawing.words
        field = Field("variant", words("plans.variant"), self.box.wish.variant or "671B", words("plans.variant.hint"))

        def then(values: Values | None) -> None:
            if values is not None:
                self._ask(self.box.wish.model_copy(update={"variant": values["variant"] or None}))

        about = words("plans.variant.about")
        self.app.push_screen(FormDialog(self.drawing, words("plans.variant.title"), (field,), about=about), then)

    def action_wish(self) -> None:
        """Other seats, another context."""
        words, wish = self.drawing.words, self.box.wish
        yes_no = (("no", words("confirm.no")), ("yes", words("confirm.yes")))
        fields = (
            Field("seats", words("plans.seats"), str(wish.seats or ""), words("plans.usual")),
            Field("context", words("plans.context"), str(wish.context_tokens or ""), words("plans.usual")),
            Field("offload", words("plans.host"), "yes" if wish.offload else "no", choices=yes_no),
        )

        def check(values: Values) -> str | None:
            for name, least in (("seats", 1), ("context", 256)):
                text = values[name]
                if text and not (text.isdecimal() and int(text) >= least):
                    return words("form.number", least=least)
            return None

        def then(values: Values | None) -> None:
            if values is not None:
                self._ask(
                    PlansQuery(
                        seats=int(values["seats"]) if values["seats"] else None,
                        context_tokens=int(values["context"]) if values["context"] else None,
                        offload=values["offload"] == "yes",
                        variant=wish.variant,
                    )
                )

        self.app.push_screen(FormDialog(self.drawing, words("plans.wish.title"), fields, check=check), then)

    def action_pull(self) -> None:
        """Download the form under the cursor."""
        row, words = self.chosen, self.drawing.words
        if not isinstance(row, Plan):
            self.tell(words("plans.pull.no"))
            return
        target = f"{row.variant}:{row.quantization}"
        wish = PullWish(target=target, format="gguf" if row.engine == "llama.cpp" else "safetensors")

        def then() -> None:
            self.act(
                words("jobs.submitting"),
                lambda: self.box.submit(wish),
                lambda job: words("models.job", job=job_name(words, job)),
            )

        self.confirm(words("plans.pull.ask", target=target), words("plans.pull.about", size=size(row.file_bytes)), then)

    def _ask(self, wish: PlansQuery) -> None:
        self.box.wish = wish
        self.tell(quiet(self.drawing.words("plans.planning")))

        async def plan() -> None:
            await self.box.plans.ask()
            self.tell("")

        self.run_worker(plan(), group="plan", exclusive=True)


def _mark(row: Row) -> Content:
    return Content.styled("x", "$error") if isinstance(row, WhyNot) else Content.styled("+", "bold $success")


def _seats(row: Row) -> str:
    return "" if isinstance(row, WhyNot) else f"{row.seats} x {context(row.context_tokens)}"


def _speed(row: Row) -> str:
    if isinstance(row, WhyNot) or row.decode_tokens_per_s is None:
        return ""
    return f"{row.decode_tokens_per_s.low:.0f}-{row.decode_tokens_per_s.high:.0f}"


def _told(row: Row) -> Content | str:
    """The fullest device of a plan; the reason against the others."""
    if isinstance(row, WhyNot):
        return Content.styled(row.reason, "$text-muted")
    if not row.memory:
        return ""
    most = max(row.memory, key=lambda one: one.total_bytes / max(one.available_bytes, 1))
    return f"{most.total_bytes / _GIB:.1f}/{most.available_bytes / _GIB:.1f} GiB"


def _fit(text: str, width: int) -> str:
    from rich.cells import cell_len

    return " " * max(width - cell_len(text), 1) + text
