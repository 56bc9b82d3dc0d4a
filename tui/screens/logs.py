"""The daemon's log: filtered by severity and text, followed as it grows."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import ClassVar

from textual.content import Content
from textual.timer import Timer

from appliance.schemas.logs import LevelWord, LogItem
from tui.resource import Resource
from tui.screens.base import Keys, quiet
from tui.screens.keys import SEARCH_AFTER_S
from tui.screens.listed import ListScreen
from tui.widgets.details import blocks, facts
from tui.widgets.table import Column

LEVELS: tuple[LevelWord, ...] = ("debug", "info", "warning", "error")
STYLES = {"debug": "$text-muted", "info": "", "warning": "$warning", "error": "bold $error", "critical": "bold $error"}


class LogsScreen(ListScreen):
    """The newest lines last. The cursor stays at the end while it follows; moving up stops that."""

    NAME = "logs"
    KEYS: ClassVar[Keys] = (
        ("e", "level", "screen.level"),
        ("f", "follow", "screen.follow"),
    )

    def __init__(self) -> None:
        super().__init__()
        self._following = True
        self._search: Timer | None = None

    def resource(self) -> Resource[tuple[LogItem, ...]]:
        """The lines."""
        return self.box.logs

    def rows(self, value: tuple[LogItem, ...]) -> Sequence[LogItem]:
        """As they came."""
        return value

    @staticmethod
    def key(row: LogItem) -> object:
        """Their number."""
        return row.seq

    def matches(self, row: LogItem, text: str) -> bool:
        """The daemon has filtered; until its answer is there, by what is seen."""
        return text in f"{row.event} {row.part} {row.fields} {row.request_id}".casefold()

    def columns(self) -> tuple[Column, ...]:
        """When, how grave, where, what."""
        words, zone = self.drawing.words, self.console.zone
        return (
            Column(words("col.time"), lambda one: one.at.astimezone(zone).strftime("%H:%M:%S"), 8),
            Column(words("col.level"), lambda one: Content.styled(one.level, STYLES[one.level]), 8),
            Column(words("col.part"), lambda one: one.part, 10, rank=1),
            Column(words("col.message"), _line),
        )

    def list_title(self, value: tuple[LogItem, ...] | None, count: int) -> str:
        """How many lines of what severity."""
        words = self.drawing.words
        shown = "?" if value is None else f"{count:,}"
        return words("logs.title", n=shown, level=self.box.logs.level)

    def note(self, value: tuple[LogItem, ...] | None) -> Content:
        """Whether it follows."""
        words = self.drawing.words
        filtered = f"{words('list.filtered', text=self.filtered)}, " if self.filtered else ""
        return quiet(filtered + words("logs.following" if self._following else "logs.standing"))

    def detail(self, row: LogItem) -> Content:
        """Every field on its line."""
        words = self.drawing.words
        at = row.at.astimezone(self.console.zone).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
        head = facts(
            [
                (words("col.time"), at),
                (words("col.level"), Content.styled(row.level, STYLES[row.level])),
                (words("col.part"), row.logger),
                (words("col.message"), Content.styled(row.event, "bold")),
                (words("logs.request"), row.request_id),
            ]
        )
        short = {name: text for name, value in row.fields.items() if "\n" not in (text := _value(value))}
        long = [Content(_value(row.fields[name])) for name in row.fields if name not in short]
        return blocks(head, facts(list(short.items())), *long)

    def paint(self) -> None:
        """Stay at the end while it follows."""
        super().paint()
        if self.can_draw and self._following and self.table.place < len(self.table.rows) - 1:
            self.table.action_jump(True)
            super().paint()

    def on_table_moved(self) -> None:
        """Moving away from the end stops following; the end follows again."""
        self._following = self.table.place >= len(self.table.rows) - 1
        super().on_table_moved()

    def filter_by(self, text: str) -> None:
        """Have the daemon filter, a moment after the last letter."""
        super().filter_by(text)
        if self._search is not None:
            self._search.stop()
        self._search = self.set_timer(SEARCH_AFTER_S, lambda: self.box.logs.search(text=text))

    def action_level(self) -> None:
        """The next severity."""
        logs = self.box.logs
        logs.search(level=LEVELS[(LEVELS.index(logs.level) + 1) % len(LEVELS)])
        self._following = True
        self.paint()

    def action_follow(self) -> None:
        """Follow, or stand still."""
        self._following = not self._following
        self.paint()


def _line(one: LogItem) -> Content:
    fields = "  ".join(f"{name}={_value(value)}" for name, value in one.fields.items())
    first = fields.split("\n", 1)[0]
    return Content.assemble(
        (one.event.split("\n", 1)[0], STYLES[one.level]), (f"  {first}" if first else "", "$text-muted")
    )


def _value(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
