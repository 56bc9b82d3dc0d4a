"""A screen of one table with the chosen row beside or below it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

from textual.binding import Binding, BindingType
from textual.containers import Container
from textual.content import Content
from textual.widget import Widget
from textual.widgets import Input

from tui.resource import Failed, Loading, Resource, known
from tui.screens.base import BoxScreen, Keys, quiet
from tui.views import Drawing
from tui.widgets.panel import Panel, failure, subtitle
from tui.widgets.table import Column, Table, id_of


class ListScreen(BoxScreen):
    """What differs from screen to screen: whence the rows come, their columns, and what is told of one row. ``/`` opens
    a line to filter by where ``FILTERS`` is set."""

    FILTERS: ClassVar[bool] = True
    FILTER_KEY: ClassVar[Keys] = (("slash", "filter", "screen.filter"),)
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("slash", "filter", show=False),
        Binding("escape", "leave_filter", show=False),
    ]

    def __init__(self) -> None:
        super().__init__()
        self.filtered = ""
        self._made: tuple[object, str, list[Any]] | None = None
        self._columns: tuple[Drawing, tuple[Column, ...]] | None = None

    # -- the screen's own -------------------------------------------------------------------------------------------

    def resource(self) -> Resource[Any]:
        """Whence the rows come."""
        raise NotImplementedError

    def rows(self, value: Any) -> Sequence[Any]:
        """All rows of what came."""
        raise NotImplementedError

    def columns(self) -> tuple[Column, ...]:
        """The columns in this language."""
        raise NotImplementedError

    def detail(self, row: Any) -> Content:
        """All that is known of a row."""
        raise NotImplementedError

    def list_title(self, value: Any | None, count: int) -> str:
        """The table's title."""
        shown = "?" if value is None else f"{count:,}"
        return self.drawing.words(f"{self.NAME}.title", n=shown)

    def detail_title(self, row: Any | None) -> str:
        """The title of the detail."""
        return self.drawing.words(f"{self.NAME}.detail")

    def empty(self) -> Content:
        """Said when there are no rows."""
        words = self.drawing.words
        return quiet(words("list.no_match", text=self.filtered) if self.filtered else words(f"{self.NAME}.none"))

    def matches(self, row: Any, text: str) -> bool:
        """Whether a row is shown for a filter, which is in small letters: by what its cells say."""
        return any(text in str(column.cell(row)).casefold() for column in self._own_columns())

    key = staticmethod(id_of)

    # -- the frame --------------------------------------------------------------------------------------------------

    def feeds(self) -> tuple[Resource[object], ...]:
        """The rows."""
        return (self.resource(),)

    def own_keys(self) -> Keys:
        """With the filter's."""
        return (*self.KEYS, *(self.FILTER_KEY if self.FILTERS else ()))

    def panels(self) -> Iterator[Widget]:
        """Table and detail; below each other where it is narrow."""
        with Container(classes="listed"):
            yield Table(id="table")
            yield Panel(id="detail")
        yield Input(id="filter", compact=True)

    def on_mount(self) -> None:
        """The table has the focus."""
        super().on_mount()
        self.query_one("#filter", Input).display = False
        self.table.focus()

    @property
    def table(self) -> Table:
        """The table."""
        return self.query_one("#table", Table)

    @property
    def chosen(self) -> Any | None:
        """The row under the cursor."""
        return self.table.row

    def paint(self) -> None:
        """Draw table and detail."""
        super().paint()
        if not self.can_draw:
            return
        state = self.resource().state()
        value = known(state)
        if value is not None:
            self.table.show(self.drawing, self._own_columns(), self._filtered_rows(value), self.key)
        rows = self.table.rows
        self.table.border_title = Content(self.list_title(value, len(rows)))
        self.table.border_subtitle = subtitle(self.drawing, state) or self.note(value)
        self.table.set_class(isinstance(state, Failed), "-failed")
        self._share_height()
        row, detail = self.chosen, self.query_one("#detail", Panel)
        detail.plain(self.drawing)
        detail.border_title = Content(self.detail_title(row))
        if isinstance(state, Failed):
            detail.draw(failure(self.drawing, state, self.place))
        elif isinstance(state, Loading):
            detail.draw(quiet(self.drawing.words("panel.loading.text")))
        elif row is None:
            detail.draw(self.empty())
        else:
            detail.draw(self.detail(row))

    def _share_height(self) -> None:
        """Below each other a short table leaves its lines to the detail."""
        room = self.query_one(".listed").size.height
        if self.has_class("-narrow") and room:
            self.table.styles.height = max(min(len(self.table.rows) + 3, room * 11 // 20), 6)
        elif not self.has_class("-narrow"):
            self.table.styles.height = "100%"

    def note(self, value: Any | None) -> Content:
        """For the lower border while everything is fresh."""
        del value
        return quiet(self.drawing.words("list.filtered", text=self.filtered)) if self.filtered else Content("")

    def _own_columns(self) -> tuple[Column, ...]:
        if self._columns is None or self._columns[0] is not self.drawing:
            self._columns = (self.drawing, self.columns())
        return self._columns[1]

    def _filtered_rows(self, value: Any) -> Sequence[Any]:
        """The same list for the same value, so that nothing is drawn twice."""
        if self._made is None or self._made[0] is not value or self._made[1] != self.filtered:
            text = self.filtered.casefold()
            found = list(self.rows(value))
            self._made = (value, self.filtered, [one for one in found if self.matches(one, text)] if text else found)
        return self._made[2]

    def on_table_moved(self) -> None:
        """Another row is looked at."""
        self.query_one("#detail", Panel).scroll_home(animate=False)
        self.paint()

    def action_filter(self) -> None:
        """Open the line."""
        if self.FILTERS:
            line = self.query_one("#filter", Input)
            line.display, line.placeholder = True, self.drawing.words("list.filter")
            line.focus()

    def action_leave_filter(self) -> None:
        """Close the line, and show all rows again."""
        line = self.query_one("#filter", Input)
        if line.display or self.filtered:
            line.value, line.display = "", False
            self.filter_by("")
            self.table.focus()

    def on_input_changed(self, event: Input.Changed) -> None:
        """Filter while it is typed."""
        if event.input.id == "filter":
            self.filter_by(event.value)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Back to the table; the filter stays."""
        if event.input.id == "filter":
            event.input.display = bool(event.value)
            self.table.focus()

    def filter_by(self, text: str) -> None:
        """Show the rows with this text."""
        if text != self.filtered:
            self.filtered = text
            self.paint()
