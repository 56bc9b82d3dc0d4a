from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress

import pytest
from starlette.types import Message

from appliance.api.sse import EventStreamResponse, comment, data_event


class Connection:
    """One HTTP exchange, as a server would drive it."""

    def __init__(self) -> None:
        self.sent: asyncio.Queue[Message] = asyncio.Queue()
        self.left = asyncio.Event()
        self.closed = 0
        self.scope = {"type": "http", "state": {}}

    async def receive(self) -> Message:
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        await self.sent.put(message)

    async def close(self) -> None:
        await asyncio.sleep(0)  # real clean-up awaits something: it must survive the cancellation around it
        self.closed += 1

    def response(self, events: AsyncGenerator[bytes, None], keep_alive_s: float = 60.0) -> EventStreamResponse:
        return EventStreamResponse(events, close=self.close, keep_alive_s=keep_alive_s)

    async def run(self, response: EventStreamResponse) -> None:
        await response(self.scope, self.receive, self.send)

    def bodies(self) -> list[bytes]:
        messages = [self.sent.get_nowait() for _ in range(self.sent.qsize())]
        return [message["body"] for message in messages if message["type"] == "http.response.body"]


@pytest.fixture
def connection() -> Connection:
    return Connection()


def test_encoding() -> None:
    assert data_event(b'{"a":1}') == b'data: {"a":1}\n\n'
    assert comment("queued position=3") == b": queued position=3\n\n"


async def test_headers_then_events_then_end(connection: Connection) -> None:
    async def events() -> AsyncGenerator[bytes, None]:
        yield b"a"
        yield b"b"

    await connection.run(connection.response(events()))
    start = connection.sent.get_nowait()
    headers = dict(start["headers"])
    assert start["status"] == 200
    assert headers[b"content-type"].startswith(b"text/event-stream")
    assert headers[b"cache-control"] == b"no-store"
    assert headers[b"x-accel-buffering"] == b"no"
    assert b"content-length" not in headers
    assert connection.bodies() == [b"a", b"b", b""]
    assert connection.closed == 1
    assert "client_left" not in connection.scope["state"]


async def test_client_that_leaves_closes_the_source(connection: Connection) -> None:
    ended: list[str] = []

    async def events() -> AsyncGenerator[bytes, None]:
        try:
            yield b"a"
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ended.append("generator")

    running = asyncio.create_task(connection.run(connection.response(events())))
    while (await connection.sent.get())["type"] != "http.response.body":
        pass
    connection.left.set()
    await running
    assert ended == ["generator"]
    assert connection.closed == 1
    assert connection.scope["state"] == {"client_left": True}
    assert connection.bodies() == []


async def test_client_that_left_while_we_send(connection: Connection) -> None:
    sending = asyncio.Event()

    async def blocked_send(message: Message) -> None:
        if message["type"] == "http.response.body":
            sending.set()
            await asyncio.Event().wait()

    async def events() -> AsyncGenerator[bytes, None]:
        yield b"a"

    running = asyncio.create_task(connection.response(events())(connection.scope, connection.receive, blocked_send))
    await sending.wait()
    connection.left.set()
    await running
    assert connection.closed == 1


async def test_source_is_closed_even_if_it_never_started(connection: Connection) -> None:
    async def broken_send(message: Message) -> None:
        raise OSError("the connection is gone")

    async def events() -> AsyncGenerator[bytes, None]:
        yield b"never"

    with pytest.raises(OSError, match="gone"):
        await connection.response(events())(connection.scope, connection.receive, broken_send)
    assert connection.closed == 1


async def test_server_that_shuts_down_closes_the_source(connection: Connection) -> None:
    async def events() -> AsyncGenerator[bytes, None]:
        yield b"a"
        await asyncio.Event().wait()

    running = asyncio.create_task(connection.run(connection.response(events())))
    while (await connection.sent.get())["type"] != "http.response.body":
        pass
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running
    assert running.cancelled()
    assert connection.closed == 1


async def test_silence_is_filled(connection: Connection) -> None:
    proceed = asyncio.Event()

    async def events() -> AsyncGenerator[bytes, None]:
        await proceed.wait()
        yield b"a"

    running = asyncio.create_task(connection.run(connection.response(events(), keep_alive_s=0.005)))
    assert (await connection.sent.get())["type"] == "http.response.start"
    assert (await connection.sent.get())["body"] == b": keep-alive\n\n"
    assert (await connection.sent.get())["body"] == b": keep-alive\n\n"
    proceed.set()
    await running
    assert connection.bodies()[-2:] == [b"a", b""]


async def test_error_of_the_source_is_raised_after_closing(connection: Connection) -> None:
    async def events() -> AsyncGenerator[bytes, None]:
        yield b"a"
        raise ValueError("bug")

    with pytest.raises(ValueError, match="bug"):
        await connection.run(connection.response(events()))
    assert connection.closed == 1
