"""The outermost layers of every request, as plain ASGI: id, log line, common headers, last-resort error, size limit.

Not Starlette's BaseHTTPMiddleware: it runs the application in a task of its own and passes the body through a queue,
which hides disconnects from streams and costs time for each chunk.
"""

from __future__ import annotations

import secrets
import time

import structlog
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from appliance.api.dialects import Dialect, dialect_of
from appliance.api.errors import error_response
from appliance.errors import RequestTooLarge, is_typed

_log = structlog.get_logger(__name__)

_COMMON_HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
]
_QUIET_PATHS = frozenset({"/healthz", "/readyz"})


def _is_quiet(scope: Scope, status: int | None) -> bool:
    """Looks at the box's state that went well: consoles and pages repeat them every second or two, and a log of them
    hides what happened."""
    is_look = scope["method"] == "GET" and scope["path"].startswith("/api/admin/")
    is_key = scope["path"].startswith("/api/console/terminals/")  # typed in a browser's console
    return scope["path"] in _QUIET_PATHS or ((is_look or is_key) and status is not None and status < 400)


class RequestContext:
    """Gives each request an id (header ``X-Request-Id``, log field ``request_id``) and logs how it ended.

    An exception that got past the application's handlers is logged here with its traceback and goes no further: the
    client has had an envelope with status 500, or its stream has ended.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = f"req_{secrets.token_hex(12)}"
        state = scope.setdefault("state", {})
        state["request_id"] = request_id
        state["headers"] = {}
        headers = [*_COMMON_HEADERS, (b"x-request-id", request_id.encode())]
        if dialect_of(scope) is Dialect.ANTHROPIC:
            headers.append((b"request-id", request_id.encode()))  # where its clients look for it
        status: int | None = None

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                # What routes and the gate want to tell beside their answer, refusals included.
                told = [(name.encode(), text.encode("latin-1")) for name, text in state["headers"].items()]
                message["headers"] = [*message.get("headers", ()), *headers, *told]
            await send(message)

        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=request_id)
        started = time.perf_counter()
        try:
            await self._app(scope, receive, send_with_headers)
        except Exception as error:  # noqa: BLE001 - the loop top of a request
            # Errors of drivers and models explain themselves, but are no AppError, which handlers take by its class.
            if not is_typed(error):
                _log.exception("request_crashed", method=scope["method"], path=scope["path"])
            if status is None:
                await error_response(error, scope)(scope, receive, send_with_headers)
        finally:
            write = _log.debug if _is_quiet(scope, status) else _log.info
            write(
                "request",
                method=scope["method"],
                path=scope["path"],
                status=status,
                duration_ms=round((time.perf_counter() - started) * 1000, 1),
                caller=state.get("caller_name"),
                address=None if scope.get("client") is None else scope["client"][0],
                client_left=state.get("client_left", False),
                # What was done to a chat request beside what its client asked for.
                **{name: state[name] for name in ("changed", "trimmed", "ignored", "thinking_end") if name in state},
            )


class BodyLimit:
    """Refuses bodies over ``limit_bytes``: at once when the length is declared, else when that many have come."""

    def __init__(self, app: ASGIApp, limit_bytes: int) -> None:
        self._app = app
        self._limit_bytes = limit_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        declared = Headers(scope=scope).get("content-length", "")
        if declared.isdecimal() and int(declared) > self._limit_bytes:
            await error_response(RequestTooLarge(limit_bytes=self._limit_bytes), scope)(scope, receive, send)
            return
        received_bytes = 0

        async def counted_receive() -> Message:
            nonlocal received_bytes
            message = await receive()
            if message["type"] == "http.request":
                received_bytes += len(message.get("body", b""))
                if received_bytes > self._limit_bytes:
                    raise RequestTooLarge(limit_bytes=self._limit_bytes)
            return message

        await self._app(scope, counted_receive, send)
