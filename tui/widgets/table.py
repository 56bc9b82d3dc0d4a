"""A table of any length: only the lines that are seen are made."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from rich.cells import cell_len, set_cell_size
from textual import events
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip
from textual.visual import Visual

from tui.look import Look
from tui.views import QUIET, Drawing, shorten
from tui.widgets.panel import PlainScrollBar

_GAP = 1
_KEPT_LINES = 2000


@dataclass(frozen=True, slots=True)
class Column:
    """``cell`` gives a row's text. ``width`` in cells; 0 takes what is left, shared by ``share``, ``least`` cells where
    that is possible. Columns with the greatest ``rank`` go first where there is no room (0 stays)."""

    title: str
    cell: Callable[[Any], Content | str]
    width: int = 0
    share: int = 1
    least: int = 10
    right: bool = False
    rank: int = 0


class Table(ScrollView, can_focus=True):
    """Rows of any kind with a cursor on one of them. ``show`` puts rows in; the cursor stays on its row by its key."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {"table--head", "table--row", "table--cursor"}
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", show=False),
        Binding("down,j", "move(1)", show=False),
        Binding("pageup", "page(-1)", show=False),
        Binding("pagedown", "page(1)", show=False),
        Binding("home,g", "jump(False)", show=False),
        Binding("end,G", "jump(True)", show=False),
        Binding("enter", "choose", show=False),
    ]

    class Moved(Message):
        """The cursor is on another row, or the row changed."""

    class Chosen(Message):
        """Enter on a row."""

    def __init__(self, *, id: str) -> None:  # noqa: A002 - Textual's name
        super().__init__(id=id)
        self.rows: Sequence[Any] = ()
        self._columns: tuple[Column, ...] = ()
        self._key: Callable[[Any], object] = id_of
        self._place = 0
        self._widths: tuple[int, list[tuple[Column, int]]] | None = None
        self._lines: dict[tuple[int, str], Strip] = {}
        self._mark = Look().more

    def show(
        self, draw: Drawing, columns: tuple[Column, ...], rows: Sequence[Any], key: Callable[[Any], object]
    ) -> None:
        """Put rows in. Nothing is drawn when they are those that are there."""
        self._mark = draw.look.more
        if draw.look.plain:
            self.vertical_scrollbar.renderer = PlainScrollBar  # type: ignore[misc]
        titles = [column.title for column in columns] != [column.title for column in self._columns]
        if rows is self.rows and not titles and key is self._key:
            return
        before = self.row
        wanted = None if before is None else self._key(before)
        self.rows, self._columns, self._key, self._widths = rows, columns, key, None
        self._lines.clear()
        if wanted is not None and not (self._place < len(rows) and key(rows[self._place]) == wanted):
            self._place = next((place for place, row in enumerate(rows) if key(row) == wanted), self._place)
        self._place = min(self._place, max(len(rows) - 1, 0))
        self._resize()
        self.refresh()

    @property
    def row(self) -> Any | None:
        """The row under the cursor; None in an empty table."""
        return self.rows[self._place] if self._place < len(self.rows) else None

    @property
    def place(self) -> int:
        """The cursor's place, from 0 on."""
        return self._place

    def go(self, place: int) -> None:
        """Move the cursor."""
        place = max(0, min(place, len(self.rows) - 1))
        if place != self._place:
            before, self._place = self._place, place
            top = self.scroll_offset.y
            self._follow()
            if self.scroll_offset.y == top:
                # Two lines look different, not the whole table.
                for one in (before, place):
                    self.refresh(Region(0, one + 1 - top, self.size.width, 1))
            else:
                self.refresh()
            self.post_message(self.Moved())

    def action_move(self, by: int) -> None:
        """Rows up or down."""
        self.go(self._place + by)

    def action_page(self, by: int) -> None:
        """A screenful up or down."""
        self.go(self._place + by * max(self._body_height - 1, 1))

    def action_jump(self, last: bool) -> None:
        """The first row or the last."""
        self.go(len(self.rows) - 1 if last else 0)

    def action_choose(self) -> None:
        """Tell the screen."""
        if self.row is not None:
            self.post_message(self.Chosen())

    def on_click(self, event: events.Click) -> None:
        """A click moves the cursor, a second one chooses."""
        place = event.get_content_offset_capture(self).y - 1 + self.scroll_offset.y
        if 0 <= place < len(self.rows):
            self.go(place)
            if event.chain > 1:
                self.action_choose()

    def on_resize(self) -> None:
        """Columns have other widths then."""
        self._widths = None
        self._lines.clear()
        self._resize()

    def notify_style_update(self) -> None:
        """Other colours."""
        super().notify_style_update()
        self._lines.clear()

    def on_focus(self) -> None:
        """The cursor's line looks different."""
        self.refresh()

    def on_blur(self) -> None:
        """The cursor's line looks different."""
        self.refresh()

    @property
    def _body_height(self) -> int:
        return max(self.scrollable_content_region.height - 1, 1)

    def _resize(self) -> None:
        self.virtual_size = Size(0, len(self.rows) + 1)
        self._follow()

    def _follow(self) -> None:
        """Keep the cursor in sight."""
        top = self.scroll_offset.y
        wanted = min(max(top, self._place - self._body_height + 1), self._place)
        if wanted != top:
            self.scroll_to(y=wanted, animate=False, immediate=True, force=True)

    def render_line(self, y: int) -> Strip:
        """The head, or a row."""
        width = self.scrollable_content_region.width
        if y == 0:
            titles = [(column, Content(column.title), size) for column, size in self._fitted(width)]
            return self._strip(titles, "table--head", width)
        place = y - 1 + self.scroll_offset.y
        if place >= len(self.rows):
            return Strip.blank(width, self.get_visual_style("table--row").rich_style)
        name = "table--row" if place != self._place else "table--cursor"
        state = f"{name}-focus" if place == self._place and self.has_focus else name
        if (line := self._lines.get((place, state))) is None:
            if len(self._lines) > _KEPT_LINES:
                self._lines.clear()
            line = self._lines[place, state] = self._row(self.rows[place], name, width)
        return line

    def _row(self, row: Any, name: str, width: int) -> Strip:
        plain = name == "table--cursor" and self.has_focus
        cells = []
        for column, size in self._fitted(width):
            told = column.cell(row)
            content = Content(told) if isinstance(told, str) else told
            cells.append((column, content.without_spans if plain else content, size))
        return self._strip(cells, name, width)

    def _strip(self, cells: list[tuple[Column, Content, int]], name: str, width: int) -> Strip:
        parts = []
        for column, content, size in cells:
            shown = shorten(content, size, self._mark) if size > 3 else content.truncate(size)
            room = " " * (size - shown.cell_length)
            parts.append(Content.assemble(room, shown) if column.right else Content.assemble(shown, room))
        line = Content(" " * _GAP).join(parts)
        style = self.get_visual_style("table--row", name)
        strips = Visual.to_strips(self, line.truncate(width), width, 1, style, pad=True, apply_selection=False)
        return strips[0].adjust_cell_length(width, style.rich_style) if strips else Strip.blank(width)

    def _fitted(self, width: int) -> list[tuple[Column, int]]:
        """The columns that have room, with their widths."""
        if self._widths is None or self._widths[0] != width:
            self._widths = (width, fit(self._columns, width))
        return self._widths[1]

    def get_content_width(self, container: Size, viewport: Size) -> int:
        """As wide as it may be."""
        return container.width

    def region_of_cursor(self) -> Region:
        """Where the cursor is, within the table."""
        return Region(0, self._place + 1, self.size.width, 1)


def fit(columns: Sequence[Column], width: int) -> list[tuple[Column, int]]:
    """Widths of those columns that have room in ``width`` cells. The others go."""
    left = list(columns)
    while len(left) > 1:
        needed = sum(column.width or column.least for column in left) + _GAP * (len(left) - 1)
        least = max(left, key=lambda column: column.rank)
        if needed <= width or least.rank == 0:
            break
        left.remove(least)
    spare = width - sum(column.width for column in left) - _GAP * (len(left) - 1)
    shares = sum(column.share for column in left if not column.width)
    fitted, given = [], 0
    flexible = [column for column in left if not column.width]
    for column in left:
        if column.width:
            fitted.append((column, column.width))
            continue
        size = spare - given if column is flexible[-1] else spare * column.share // shares
        given += size
        fitted.append((column, max(size, 1)))
    return fitted


def id_of(row: Any) -> object:
    """A row's key where it has an ``id``."""
    return row.id


def padded(text: str, width: int) -> str:
    """Exactly as wide."""
    return set_cell_size(text, width)


def label(text: str, width: int) -> Content:
    """A quiet name before a figure."""
    return Content.styled(set_cell_size(text, max(width, cell_len(text) + 1)), QUIET)
