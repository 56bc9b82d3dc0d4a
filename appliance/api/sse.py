"""Streamed answers: server-sent events (WHATWG HTML, section 9.2), and a response that ends as soon as the client
leaves."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from appliance.api.disconnect import cancel_all

DEFAULT_KEEP_ALIVE_S = 15.0
"""Shorter than the idle limits of common proxies (nginx and HAProxy: 60 s; some load balancers: 30 s)."""


def data_event(payload: bytes) -> bytes:
    """One event. ``payload`` has no line break, as is true of JSON."""
    return b"data: " + payload + b"\n\n"


def comment(text: str) -> bytes:
    """A line that clients skip. ``text`` has no line break."""
    return f": {text}\n\n".encode()


def queued_comment(position: int, wait_s: float | None) -> bytes:
    """``: queued position=3 wait_s=22``."""
    return comment(f"queued {place_text(position, wait_s)}")


def place_text(position: int, wait_s: float | None) -> str:
    """``position=3 wait_s=22``; without ``wait_s`` while nothing is known of it."""
    return f"position={position}" + ("" if wait_s is None else f" wait_s={math.ceil(wait_s)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamForm:
    """How a stream says what is no part of it: ``comment`` encodes a remark (a form that has none gives something that
    readers skip), ``keep_alive`` is sent after a silence."""

    media_type: str
    comment: Callable[[str], bytes]
    keep_alive: bytes


SERVER_SENT_EVENTS = StreamForm(media_type="text/event-stream", comment=comment, keep_alive=b": keep-alive\n\n")


class EventStreamResponse(Response):
    """Sends what ``events`` yields (encoded events and comments), and ``form.keep_alive`` after ``keep_alive_s`` of
    silence.

    When the client leaves, or the server shuts down, ``events`` is closed at once. Then, in every case, ``close`` is
    awaited: a generator that was never started runs none of its own clean-up, and what it reads from holds a seat.
    """

    def __init__(
        self,
        events: AsyncGenerator[bytes, None],
        *,
        close: Callable[[], Awaitable[None]],
        keep_alive_s: float = DEFAULT_KEEP_ALIVE_S,
        form: StreamForm = SERVER_SENT_EVENTS,
    ) -> None:
        self.media_type = form.media_type
        self.status_code = 200
        self.background = None
        # nginx would otherwise collect a page full of tokens before it passes them on.
        self.init_headers({"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        self._events = events
        self._close = close
        self._keep_alive = form.keep_alive
        self._keep_alive_s = keep_alive_s
        self._last_sent = time.monotonic()
        self._ended = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        pump = asyncio.ensure_future(self._pump(send))
        watcher = asyncio.ensure_future(self._watch(receive, send))
        try:
            await asyncio.wait((pump, watcher), return_when=asyncio.FIRST_COMPLETED)
            if pump.done():
                pump.result()
            else:
                scope.setdefault("state", {})["client_left"] = True
        finally:
            try:
                await cancel_all(pump, watcher)
            finally:
                await self._close()

    async def _pump(self, send: Send) -> None:
        async with aclosing(self._events) as events:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            async for chunk in events:
                self._last_sent = time.monotonic()
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
        self._ended = True
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _watch(self, receive: Receive, send: Send) -> None:
        """Return when the client has left; fill silences meanwhile."""
        message = asyncio.ensure_future(receive())
        try:
            while True:
                silence_s = time.monotonic() - self._last_sent
                await asyncio.wait((message,), timeout=max(self._keep_alive_s - silence_s, 0.001))
                if message.done():
                    if message.result()["type"] == "http.disconnect":
                        return
                    message = asyncio.ensure_future(receive())
                elif not self._ended and time.monotonic() - self._last_sent >= self._keep_alive_s:
                    self._last_sent = time.monotonic()
                    await send({"type": "http.response.body", "body": self._keep_alive, "more_body": True})
        finally:
            message.cancel()
