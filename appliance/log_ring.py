"""The last log lines of a running daemon, in memory, for whoever reads them: page, console, command line.

Bounded by lines and by bytes: what came first goes first. A line is kept as the JSON that the log's processors made of
it, so what is redacted there is redacted here. Loggers of any thread write; readers belong to an event loop.
"""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections import deque
from collections.abc import AsyncGenerator, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

MOST_LINES = 50_000
MOST_BYTES = 16 * 1024 * 1024
MOST_LINE_CHARS = 16_384
_MOST_VALUE_CHARS = 2_000
_KEPT_WHOLE = ("event", "level", "logger", "timestamp", "request_id")


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One line. ``seq`` counts from 1 since the daemon started, ``level`` is ``logging``'s number, ``line`` JSON."""

    seq: int
    at: datetime
    level: int
    logger: str
    line: str

    @property
    def part(self) -> str:
        """Which part of the box said it: ``api``, ``serving``, ``jobs``; of libraries their name."""
        return part_of(self.logger)

    def fields(self) -> dict[str, Any]:
        """The line's values by name."""
        read: dict[str, Any] = json.loads(self.line)
        return read


@dataclass(frozen=True, slots=True)
class LogGap:
    """``missed`` lines left the ring before a reader came to them."""

    missed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LogFilter:
    """Which lines are wanted; None takes all. ``level`` is the least one, ``part`` a part or the beginning of a
    logger's name, ``text`` stands anywhere in the line, in capitals or not."""

    level: int = logging.NOTSET
    part: str | None = None
    text: str | None = None
    request_id: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    def takes(self, entry: LogEntry) -> bool:
        """Whether ``entry`` is wanted. The dear question comes last."""
        return (
            entry.level >= self.level
            and (self.since is None or entry.at >= self.since)
            and (self.until is None or entry.at < self.until)
            and (self.part is None or self.part == entry.part or _is_within(entry.logger, self.part))
            and (self.request_id is None or f'"request_id": {json.dumps(self.request_id)}' in entry.line)
            # As JSON has it: a quotation mark in a value stands there with its backslash.
            and (self.text is None or json.dumps(self.text, ensure_ascii=False)[1:-1].lower() in entry.line.lower())
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class LogPage:
    """Entries in the order in which they came. ``before`` asks for the page before them, None when there is none;
    ``newest`` is the last line's number, wanted or not, and ``dropped`` how many lines have left the ring."""

    entries: tuple[LogEntry, ...]
    before: int | None
    newest: int
    dropped: int


@dataclass(eq=False)
class _Reader:
    loop: asyncio.AbstractEventLoop
    woken: asyncio.Event = field(default_factory=asyncio.Event)
    is_called: bool = False


class LogRing:
    """Give ``handler`` to ``configure_logging``."""

    def __init__(self, *, max_lines: int = MOST_LINES, max_bytes: int = MOST_BYTES) -> None:
        self._max_lines = max_lines
        self._max_bytes = max_bytes
        self._entries: deque[LogEntry] = deque()
        self._size_bytes = 0
        self._newest = 0
        self._lock = threading.Lock()
        self._readers: set[_Reader] = set()
        self.handler: logging.Handler = _RingHandler(self)

    @property
    def size_bytes(self) -> int:
        """What its lines take."""
        return self._size_bytes

    def add(self, at: datetime, level: int, logger: str, line: str) -> None:
        """Keep a line and tell the readers. Any thread may; must not log."""
        line = _bounded(line)
        with self._lock:
            self._newest += 1
            self._entries.append(LogEntry(self._newest, at, level, logger, line))
            self._size_bytes += len(line.encode("utf-8", "surrogatepass"))
            while len(self._entries) > self._max_lines or (self._size_bytes > self._max_bytes and self._entries):
                gone = self._entries.popleft()
                self._size_bytes -= len(gone.line.encode("utf-8", "surrogatepass"))
            sleeping = [reader for reader in self._readers if not reader.is_called]
            for reader in sleeping:
                reader.is_called = True
        for reader in sleeping:
            # A loop that has ended has no readers any more.
            with suppress(RuntimeError):
                reader.loop.call_soon_threadsafe(reader.woken.set)

    def page(self, wanted: LogFilter | None = None, *, before: int | None = None, limit: int = 200) -> LogPage:
        """The newest ``limit`` lines that are wanted, of those before number ``before``. Takes a while for a full ring
        and a rare text: call it in a thread."""
        wanted = wanted or LogFilter()
        entries, newest = self._snapshot()
        found: list[LogEntry] = []
        has_more = False
        for entry in reversed(entries):
            if (before is None or entry.seq < before) and wanted.takes(entry):
                if len(found) == limit:
                    has_more = True
                    break
                found.append(entry)
        found.reverse()
        dropped = (entries[0].seq if entries else newest + 1) - 1
        return LogPage(entries=tuple(found), before=found[0].seq if has_more else None, newest=newest, dropped=dropped)

    async def follow(
        self, wanted: LogFilter | None = None, *, after: int | None = None, tail: int = 0
    ) -> AsyncGenerator[LogEntry | LogGap, None]:
        """Lines as they come, without end. Begins with the ``tail`` newest, or with all after number ``after``; a
        reader that was too slow, or came too late for ``after``, gets a LogGap in the place of what is gone."""
        wanted = wanted or LogFilter()
        reader = _Reader(asyncio.get_running_loop())
        with self._lock:
            self._readers.add(reader)
        try:
            if after is None:
                first = await asyncio.to_thread(self.page, wanted, limit=max(tail, 1))
                for entry in first.entries if tail else ():
                    yield entry
                after = first.newest
            # A number from before a restart of the daemon: everything that is here is new.
            elif after > self._newest:
                after = 0
            while True:
                entries, newest = self._snapshot(after)
                oldest = entries[0].seq if entries else newest + 1
                if oldest > after + 1:
                    yield LogGap(oldest - after - 1)
                for entry in entries:
                    if wanted.takes(entry):
                        yield entry
                after = newest
                await reader.woken.wait()
                reader.woken.clear()
                reader.is_called = False
        finally:
            with self._lock:
                self._readers.discard(reader)

    def _snapshot(self, after: int = 0) -> tuple[list[LogEntry], int]:
        """The entries after a number, and the newest number."""
        with self._lock:
            if not after:
                return list(self._entries), self._newest
            return list(self._after(after))[::-1], self._newest

    def _after(self, seq: int) -> Iterator[LogEntry]:
        """The newest first, down to number ``seq``."""
        for entry in reversed(self._entries):
            if entry.seq <= seq:
                return
            yield entry


class _RingHandler(logging.Handler):
    """Its formatter, which ``configure_logging`` sets, makes JSON."""

    def __init__(self, ring: LogRing) -> None:
        super().__init__()
        self._ring = ring

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record)
        except Exception:  # noqa: BLE001 - as logging's own handlers: a line that cannot be written ends nothing
            self.handleError(record)
            return
        self._ring.add(datetime.fromtimestamp(record.created, UTC), record.levelno, record.name, line)


def part_of(logger: str) -> str:
    """``appliance.api.context`` is ``api``, ``models.importer`` is ``models``, ``uvicorn.error`` is ``uvicorn``."""
    names = logger.split(".")
    return names[1] if names[0] == "appliance" and len(names) > 1 else names[0]


def _is_within(logger: str, name: str) -> bool:
    return logger == name or logger.startswith(f"{name}.")


def _bounded(line: str) -> str:
    """``line``, with its long values cut when it is longer than the ring takes."""
    if len(line) <= MOST_LINE_CHARS:
        return line
    values = {
        name: value if isinstance(value, int | float | None) else _cut(value)
        for name, value in json.loads(line).items()
    }
    cut = json.dumps({**values, "cut": True}, ensure_ascii=False)
    if len(cut) > MOST_LINE_CHARS:
        cut = json.dumps(
            {**{name: values[name] for name in _KEPT_WHOLE if name in values}, "cut": True}, ensure_ascii=False
        )
    return cut


def _cut(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _MOST_VALUE_CHARS else f"{text[:_MOST_VALUE_CHARS]}…"
