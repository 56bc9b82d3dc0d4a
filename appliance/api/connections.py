"""What a connection may cost before anybody knows who is at its other end: time, bytes, and a place among the others.

The HTTP server below (uvicorn with httptools) parses requests and has no bounds for any of this. Here are they:

| what | bound | then |
|---|---|---|
| request line and headers | ``header_s`` from the first byte on, ``header_bytes`` | 408, 431 |
| a request's body | ``body_s``, and from there at least ``body_bytes_per_s`` | 408 |
| an answer that nobody reads | ``unread_s`` with full buffers | the connection is cut, the request ends |
| connections at the same time | ``most`` | the one longest without a request is closed; 503 when all work |
| requests sent before the answer to the last one | none are taken | the connection closes after that answer |

The last one is what HTTP/1.1 calls pipelining. No client that people use does it, and the server below loses sight of
the first request when the client leaves: it would keep its seat to the end.

Requests that are no proper HTTP, or have not exactly one ``Host``, are refused with 400. All of these are logged with
the client's address, the first of a kind at once, then their number once a minute.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from appliance.api.errors import envelope
from appliance.api.tally import Tally
from appliance.errors import ErrorDescription

KEEP_ALIVE_S = 75
"""How long a connection may wait for its next request. Longer than clients keep theirs (httpx: 5 s, nginx: 60 s): who
closes first loses no request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionLimits:
    """See the module's table. ``sweep_s``: how often connections are looked at. ``linger_s``: how long what a refused
    client still sends is read and forgotten; closed at once, it might not see why."""

    most: int = 4096
    header_s: float = 15.0
    header_bytes: int = 65_536
    url_bytes: int = 16_384
    body_s: float = 20.0
    body_bytes_per_s: int = 4096
    unread_s: float = 60.0
    linger_s: float = 5.0
    sweep_s: float = 1.0


_OFFERS = frozenset((b"upgrade", b"http2-settings"))


class Phase(StrEnum):
    """IDLE (no request) -> HEADER -> BODY -> ANSWERING -> IDLE; BODY -> DISCARDING (answered before all was there) ->
    IDLE; any -> CLOSING (what comes is forgotten). One writer: ``GuardedProtocol``."""

    IDLE = "idle"
    HEADER = "header"
    BODY = "body"
    ANSWERING = "answering"
    DISCARDING = "discarding"
    CLOSING = "closing"


class ConnectionGuard:
    """The connections of one server. Give it to uvicorn as ``http``: called, it makes the protocol of a connection.

    ``protocol`` is the class to make. For one event loop.
    """

    def __init__(
        self,
        limits: ConnectionLimits | None = None,
        protocol: Callable[..., GuardedProtocol] | None = None,
    ) -> None:
        self.limits = limits or ConnectionLimits()
        self._protocol = protocol or GuardedProtocol
        self._open: dict[GuardedProtocol, None] = {}
        """The oldest first."""
        self._sweeping: asyncio.TimerHandle | None = None
        self._tally = Tally("connection_refused")

    def __call__(self, **named: Any) -> GuardedProtocol:
        return self._protocol(guard=self, **named)

    def __len__(self) -> int:
        return len(self._open)

    def __iter__(self) -> Iterator[GuardedProtocol]:
        return iter(tuple(self._open))

    def opened(self, connection: GuardedProtocol) -> None:
        """A client has connected."""
        self._open[connection] = None
        if self._sweeping is None:
            self._sweep_later(connection.loop)
        if len(self._open) <= self.limits.most:
            return
        waiting = (one for one in self._open if one is not connection and one.phase in (Phase.IDLE, Phase.HEADER))
        oldest = next(waiting, None)
        if oldest is None:
            connection.refuse(503, "too_many_connections", "The box has no room for another connection.", retry_s=5)
        else:
            self.note("too_many_connections", oldest)
            oldest.drop()

    def closed(self, connection: GuardedProtocol) -> None:
        """A connection is over."""
        self._open.pop(connection, None)

    def note(self, code: str, connection: GuardedProtocol) -> None:
        """Log a refusal."""
        self._tally.note(code, None if connection.client is None else connection.client[0])

    def _sweep_later(self, loop: asyncio.AbstractEventLoop) -> None:
        self._sweeping = loop.call_later(self.limits.sweep_s, self._sweep, loop)

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        self._sweeping = None
        now_s = loop.time()
        for connection in tuple(self._open):
            connection.check(now_s)
        if self._open:
            self._sweep_later(loop)


class GuardedProtocol(HttpToolsProtocol):
    """One connection within the guard's limits."""

    def __init__(self, guard: ConnectionGuard, **named: Any) -> None:
        super().__init__(**named)
        self._guard = guard
        self._limits = guard.limits
        self.phase = Phase.IDLE
        self._deadline_s: float | None = None
        self._unread_since_s: float | None = None
        self._header_bytes = 0
        self.received_bytes = 0
        """Of the present request's body."""
        self._begun_s = 0.0
        self._offered = False
        """The client offers another protocol with this request."""
        self._refusal: tuple[int, str, str] | None = None

    # -- the guard's side -------------------------------------------------------------------------------------------

    def check(self, now_s: float) -> None:
        """End what has taken too long."""
        if self._unread_since_s is not None and now_s - self._unread_since_s > self._limits.unread_s:
            self._guard.note("answer_not_read", self)
            self.drop()
        elif self._deadline_s is not None and now_s > self._deadline_s:
            if self.phase is Phase.BODY and self.flow.read_paused:
                # It is the box that does not read.
                self._deadline_s = now_s + self._limits.body_s
            elif self.phase is Phase.HEADER or (self.phase is Phase.BODY and not self.cycle.response_started):
                self.refuse(408, "request_timeout", "The request took too long to arrive.")
            else:
                self.drop()

    def refuse(self, status: int, code: str, message: str, *, retry_s: int | None = None) -> None:
        """Answer in the place of the application, and close."""
        self._guard.note(code, self)
        if self.transport.is_closing():
            return
        content = envelope(ErrorDescription(code=code, message=message, http_status=status))
        again = b"" if retry_s is None else b"retry-after: %d\r\n" % retry_s
        self.transport.write(
            STATUS_LINE[status]
            + b"content-type: application/json\r\ncache-control: no-store\r\nx-content-type-options: nosniff\r\n"
            + b"content-length: %d\r\nconnection: close\r\n" % len(content)
            + again
            + b"\r\n"
            + content
        )
        if self.cycle is not None and not self.cycle.response_complete:
            # What reads the body is told that nothing more comes.
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self._enter(Phase.CLOSING, self._limits.linger_s)
        if self.transport.can_write_eof():
            self.transport.write_eof()
        else:
            self.transport.close()

    def drop(self) -> None:
        """Cut the connection."""
        self._enter(Phase.CLOSING, None)
        self.transport.abort()

    # -- the transport's side ---------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._enter(Phase.IDLE, self._limits.header_s)
        self._guard.opened(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._guard.closed(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.phase is Phase.CLOSING:
            return
        if self.phase is Phase.IDLE:
            self._header_bytes = 0
            self._enter(Phase.HEADER, self._limits.header_s)
        if self.phase is Phase.HEADER:
            self._header_bytes += len(data)
        self._unset_keepalive_if_required()
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._go_on_plainly(data[upgrade.args[0] :])
        except httptools.HttpParserError:
            self.refuse(*(self._refusal or (400, "bad_http", "This is no proper HTTP/1.1 request.")))
        if self.phase is Phase.HEADER and self._header_bytes > self._limits.header_bytes:
            self.refuse(*self._too_large())

    def pause_writing(self) -> None:
        super().pause_writing()
        self._unread_since_s = self.loop.time()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._unread_since_s = None

    # -- the parser's side ------------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        if self.cycle is not None and not self.cycle.response_complete:
            self._guard.note("pipelined_request", self)
            self.cycle.keep_alive = False
            self._enter(Phase.CLOSING, None)
            return
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        if self.phase is not Phase.CLOSING:
            super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.phase is not Phase.CLOSING:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        if self.phase is Phase.CLOSING:
            return
        if len(self.url) > self._limits.url_bytes:
            self._give_up(414, "uri_too_long", f"The address has more than {self._limits.url_bytes:,} bytes.")
        if sum(len(name) + len(value) for name, value in self.headers) > self._limits.header_bytes:
            self._give_up(*self._too_large())
        hosts = sum(name == b"host" for name, _ in self.headers)
        if hosts > 1 or (hosts == 0 and self.parser.get_http_version() != "1.0"):
            self._give_up(400, "bad_host", "A request has exactly one Host header.")
        if self.parser.should_upgrade() and self.parser.get_method() != b"CONNECT":
            self._offered = True
            return
        self.received_bytes = 0
        self._begun_s = self.loop.time()
        self._enter(Phase.BODY, self._limits.body_s)
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        if self.phase is Phase.CLOSING:
            return
        if self.phase is Phase.BODY:
            self.received_bytes += len(body)
            self._deadline_s = self._begun_s + self._limits.body_s + self.received_bytes / self._limits.body_bytes_per_s
        super().on_body(body)

    def on_message_complete(self) -> None:
        if self.phase is Phase.CLOSING or self._offered:
            return
        super().on_message_complete()
        if self.phase is Phase.DISCARDING:
            self._enter(Phase.IDLE, self.timeout_keep_alive)
        else:
            self._enter(Phase.ANSWERING, None)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.phase is Phase.BODY:
            self._enter(Phase.DISCARDING, self._limits.linger_s)
        elif self.phase is Phase.ANSWERING:
            self._enter(Phase.IDLE, self.timeout_keep_alive)

    def _go_on_plainly(self, rest: bytes) -> None:
        """The request without its offer of another protocol, which a server may pass over (RFC 9110, section 7.8).

        Java's client offers HTTP/2 (``h2c``) with its first request, and the parser takes everything behind the headers
        for that protocol: the body of a POST would be lost. WebSockets end here too, as the GETs that they begin with.
        """
        self._offered = False
        head = [self.parser.get_method() + b" " + self.url + b" HTTP/" + self.parser.get_http_version().encode()]
        for name, value in self.headers:
            if name == b"connection":
                kept = [token for token in value.split(b",") if token.strip().lower() in (b"close", b"keep-alive")]
                head += [b"connection: " + b",".join(kept)] if kept else []
            elif name not in _OFFERS:
                head.append(name + b": " + value)
        self.parser = httptools.HttpRequestParser(self)
        self.phase = Phase.HEADER
        self.data_received(b"\r\n".join([*head, b"", rest]))

    def _give_up(self, status: int, code: str, message: str) -> None:
        """Refuse from within the parser, which goes on otherwise."""
        self._refusal = (status, code, message)
        raise ValueError(message)

    def _too_large(self) -> tuple[int, str, str]:
        return 431, "headers_too_large", f"The headers have more than {self._limits.header_bytes:,} bytes."

    def _enter(self, phase: Phase, within_s: float | None) -> None:
        self.phase = phase
        self._deadline_s = None if within_s is None else self.loop.time() + within_s
