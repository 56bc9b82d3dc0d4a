"""``/api/admin/logs``: the daemon's own log, to read and to follow."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncGenerator
from typing import Annotated, Any, Protocol

from fastapi import Query, Request
from starlette.responses import Response

from appliance.api.replies import json_reply
from appliance.api.routes import Routes
from appliance.api.sse import EventStreamResponse
from appliance.log_ring import LogEntry, LogFilter, LogGap, LogPage
from appliance.schemas.logs import LevelWord, LogFollow, LogItem, LogList, LogQuery, LogSelection

EVENTS: dict[int | str, dict[str, Any]] = {200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}}
_SHOWN_APART = frozenset(("event", "level", "logger", "timestamp", "request_id"))
_LEVELS: dict[int, LevelWord] = {
    logging.DEBUG: "debug",
    logging.INFO: "info",
    logging.WARNING: "warning",
    logging.ERROR: "error",
    logging.CRITICAL: "critical",
}


class LogSource(Protocol):
    """What ``appliance.log_ring.LogRing`` gives."""

    def page(self, wanted: LogFilter | None = None, *, before: int | None = None, limit: int = 200) -> LogPage: ...

    def follow(
        self, wanted: LogFilter | None = None, *, after: int | None = None, tail: int = 0
    ) -> AsyncGenerator[LogEntry | LogGap, None]: ...


def logs_router(logs: LogSource, *, keep_alive_s: float) -> Routes:
    """The two routes. Events carry the line's number as their id, so a browser that comes back (``Last-Event-ID``)
    misses nothing that is still there; an event ``gap`` tells how many lines were lost."""
    router = Routes(prefix="/api/admin/logs", tags=["logs"])

    @router.get("", response_model=LogList, operation_id="logs_list")
    async def listed(query: Annotated[LogQuery, Query()]) -> Response:
        return json_reply(await asyncio.to_thread(_page, logs, query))

    @router.get("/events", operation_id="logs_follow", response_class=Response, responses=EVENTS)
    async def follow(request: Request, query: Annotated[LogFollow, Query()]) -> Response:
        came_back = request.headers.get("last-event-id", "")
        after = int(came_back) if came_back.isdecimal() and len(came_back) <= 16 else query.after
        lines = logs.follow(_filter(query), after=after, tail=query.tail)
        return EventStreamResponse(_events(lines), close=lines.aclose, keep_alive_s=keep_alive_s)

    return router


async def _events(lines: AsyncGenerator[LogEntry | LogGap, None]) -> AsyncGenerator[bytes, None]:
    # So that whoever follows a quiet log knows at once that it does.
    yield b": following\n\n"
    async for line in lines:
        if isinstance(line, LogGap):
            yield b"event: gap\ndata: " + json.dumps({"missed": line.missed}).encode() + b"\n\n"
        else:
            item = to_item(line)
            yield f"id: {item.seq}\ndata: {item.model_dump_json()}\n\n".encode("utf-8", "replace")


def _page(logs: LogSource, query: LogQuery) -> LogList:
    page = logs.page(_filter(query), before=query.before, limit=query.limit)
    items = tuple(to_item(entry) for entry in page.entries)
    return LogList(items=items, next=page.before, newest=page.newest, dropped=page.dropped)


def _filter(query: LogSelection) -> LogFilter:
    return LogFilter(
        level=logging.getLevelNamesMapping()[query.level.upper()],
        part=query.part,
        text=query.text,
        request_id=query.request_id,
        since=query.since,
        until=query.until,
    )


def to_item(entry: LogEntry) -> LogItem:
    """The line as clients get it."""
    fields = entry.fields()
    return LogItem(
        seq=entry.seq,
        # The same moment wherever the line is read; the ring's own is a blink later.
        at=fields.get("timestamp", entry.at),
        level=_LEVELS[min(max(entry.level // 10 * 10, logging.DEBUG), logging.CRITICAL)],
        part=entry.part,
        logger=entry.logger,
        event=str(fields.get("event", "")),
        request_id=fields.get("request_id"),
        fields={name: value for name, value in fields.items() if name not in _SHOWN_APART and value is not None},
    )
