"""One request straight into an application, as a server would bring it, streams without an end included."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlsplit

from starlette.types import ASGIApp, Message

QUIET_TURNS = 200
"""A stream that has sent nothing for so many turns of the event loop, and 50 ms, is left by its client."""
TIMEOUT_S = 60


@dataclass
class Reply:
    """What came back. ``left``: the client went before the end."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    left: bool = False


async def call(
    app: ASGIApp, method: str, url: str, headers: Iterable[tuple[str, str]], body: bytes, *, patient: bool = True
) -> Reply:
    """The application's answer. Raises TimeoutError when it hangs. Not ``patient``: the client leaves event streams
    soon."""
    scope = _scope(method, url, headers)
    reply, over, moved = Reply(), asyncio.Event(), asyncio.Event()
    sent = False

    async def receive() -> Message:
        nonlocal sent
        if not sent:
            sent = True
            return {"type": "http.request", "body": body, "more_body": False}
        await over.wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        moved.set()
        if message["type"] == "http.response.start":
            reply.status = message["status"]
            reply.headers = {name.decode(): value.decode("latin-1") for name, value in message["headers"]}
        else:
            reply.body += message.get("body", b"")
            if not message.get("more_body", False):
                over.set()

    async def leave_when_quiet() -> None:
        while not over.is_set():
            moved.clear()
            for _ in range(QUIET_TURNS):
                await asyncio.sleep(0)
            if reply.status and reply.headers.get("content-type", "").startswith("text/event-stream"):
                try:
                    await asyncio.wait_for(moved.wait(), 0.05)
                except TimeoutError:
                    reply.left = True
                    over.set()

    watching = None if patient else asyncio.create_task(leave_when_quiet())
    try:
        async with asyncio.timeout(TIMEOUT_S):
            await app(scope, receive, send)
    finally:
        over.set()
        if watching is not None:
            await watching
    return reply


def _scope(method: str, url: str, headers: Iterable[tuple[str, str]]) -> dict[str, Any]:
    parts = urlsplit(url)
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": unquote(parts.path),
        "raw_path": parts.path.encode(),
        "query_string": parts.query.encode(),
        "root_path": "",
        "headers": [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers],
        "client": ("192.0.2.7", 4711),
    }
