"""What the box is doing, and whether it is well."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from textual.containers import Horizontal
from textual.content import Content
from textual.widget import Widget
from textual.widgets import Static

from tui.qr import qr_rows
from tui.resource import Failed, Ready, Resource, Stale, known
from tui.screens.base import BoxScreen, Keys
from tui.views import attention, cards, model_line, serving
from tui.widgets.panel import Panel, failure


class DashboardScreen(BoxScreen):
    """Four panels: model, serving, cards, what needs attention; the QR code where there is room."""

    NAME = "dashboard"
    KEYS: ClassVar[Keys] = (("c", "code", "app.code"), ("r", "refresh", "app.refresh_box"))

    def feeds(self) -> tuple[Resource[object], ...]:
        """All panels'."""
        box = self.box
        return (box.models, box.offload, box.telemetry, box.issues, box.serving)  # type: ignore[return-value]

    def panels(self) -> Iterator[Widget]:
        """The model's line over the panels."""
        yield Static(id="model")
        with Horizontal(id="middle"):
            yield Panel(id="serving")
            yield Panel(id="cards")
        with Horizontal(id="lower"):
            yield Panel(id="attention")
            yield Static(id="qr", classes="qr")

    def paint(self) -> None:
        """Draw all panels."""
        super().paint()
        if not self.can_draw:
            return
        box, draw, words = self.box, self.drawing, self.drawing.words
        self.put("#model", self._model())
        place = None if isinstance(box.readiness.state(), Failed) else self.place
        panel = self.query_one("#serving", Panel)
        size = panel.content_region.size
        columns = max(size.width - 1, 1)  # whether there is a scroll bar or not
        if size.width and box.plot_columns != columns:
            box.plot_columns = columns
            box.serving.wake()
        history = known(box.serving.state())
        panel.show(
            draw,
            box.models.state(),
            lambda models: serving(draw, models, history, width=columns, height=size.height),
            title=words("serving.title"),
            place=place,
        )
        panel = self.query_one("#cards", Panel)
        width = panel.scrollable_content_region.width
        panel.show(
            draw,
            box.telemetry.state(),
            lambda told: cards(draw, told, max(width, 30)),
            title=words("cards.title"),
            place=place,
        )
        issues = box.issues.state()
        found = known(issues)
        title = words("attention.title.unknown") if found is None else words("attention.title", n=len(found.issues))
        panel = self.query_one("#attention", Panel)
        panel.show(draw, issues, lambda told: attention(draw, told), title=title, place=place)
        severities = set() if found is None else {one.severity for one in found.issues}
        panel.set_class("error" in severities, "-error")
        panel.set_class("error" not in severities and "warning" in severities, "-warning")
        self._paint_code()

    def _model(self) -> Content:
        state = self.box.readiness.state()
        if isinstance(state, Failed):
            return failure(self.drawing, state, self.place)
        if isinstance(state, Stale) and state.problem is not None:
            return failure(self.drawing, Failed(state.problem, state.age_s), self.place)
        if not isinstance(state, Ready | Stale):
            return Content(self.drawing.words("panel.loading.text"))
        return model_line(self.drawing, state.value, known(self.box.models.state()), known(self.box.offload.state()))

    def _paint_code(self) -> None:
        code, url = self.query_one("#qr", Static), self.box.page_url
        rows = () if url is None or not self.drawing.look.blocks else qr_rows(url)
        fits = bool(rows) and self.size.width >= 120 and self.size.height >= 20 + len(rows)
        code.display = fits
        if fits:
            code.update(Content("\n".join(rows)))
