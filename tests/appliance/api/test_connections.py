"""Connections that dawdle, flood or speak no HTTP, on a real socket: refused within bounds, and others are served."""

from __future__ import annotations

import asyncio
import io
import json
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
import uvicorn

from appliance.api.connections import ConnectionGuard, ConnectionLimits, Phase
from tests.appliance.api.box import MODEL, Box
from tests.appliance.api.conftest import Server
from tests.fakes.engine import FakeEngine

QUICK = ConnectionLimits(header_s=0.2, body_s=0.2, unread_s=0.2, linger_s=0.2, sweep_s=0.02)
PATIENT = ConnectionLimits(sweep_s=0.02)
TIMEOUT_S = 20
Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Place:
    """A served box."""

    def __init__(self, box: Box, guard: ConnectionGuard, address: tuple[str, int]) -> None:
        self.box = box
        self.guard = guard
        self.address = address

    @property
    def url(self) -> str:
        return f"http://{self.address[0]}:{self.address[1]}"

    async def connect(self, *pieces: bytes) -> Connection:
        reader, writer = await asyncio.open_connection(*self.address)
        for piece in pieces:
            writer.write(piece)
        await writer.drain()
        return reader, writer

    async def say(self, *pieces: bytes) -> bytes:
        """All that comes back until the box closes the connection."""
        reader, writer = await self.connect(*pieces)
        async with asyncio.timeout(TIMEOUT_S):
            said = await reader.read()
        writer.close()
        return said

    async def chats(self) -> None:
        """A chat is answered, and nobody has a seat afterwards."""
        async with await asyncio.to_thread(httpx.AsyncClient, headers=self.box.authorization) as client:
            body = {"model": MODEL, "messages": [{"role": "user", "content": "2+2?"}]}
            answer = await client.post(f"{self.url}/v1/chat/completions", json=body)
        assert answer.json()["choices"][0]["message"]["content"] == "It is 4."

    def head(self, path: str = "/v1/chat/completions", method: str = "POST", *more: str) -> bytes:
        key = self.box.authorization["Authorization"]
        lines = [f"{method} {path} HTTP/1.1", "Host: box", f"Authorization: {key}", *more]
        return "\r\n".join([*lines, "", ""]).encode()


@asynccontextmanager
async def serving(box: Box, limits: ConnectionLimits, **options: Any) -> AsyncIterator[Place]:
    guard = ConnectionGuard(limits)
    config = uvicorn.Config(
        box.app, http=guard, log_config=None, access_log=False, lifespan="off", ws="none", **options
    )  # type: ignore[arg-type]
    await asyncio.to_thread(config.load)
    server = Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        task = asyncio.create_task(server.serve(sockets=[listening]))
        await server.is_up.wait()
        yield Place(box, guard, listening.getsockname())
        server.should_exit = True
        await task


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(TIMEOUT_S):
        while not condition():
            await asyncio.sleep(0)


def status_of(said: bytes) -> int:
    return int(said.split(b" ", 2)[1])


def code_of(said: bytes) -> str:
    head, _, body = said.partition(b"\r\n\r\n")
    assert b"content-type: application/json" in head
    assert b"connection: close" in head
    return str(json.loads(body)["error"]["code"])


@pytest.mark.parametrize("piece", [b"GET /hea", b"GET /healthz HTTP/1.1\r\nHost: box\r\nX-A: ", b"\r\n"])
async def test_headers_that_never_end(box: Box, piece: bytes) -> None:
    async with serving(box, QUICK) as place:
        said = await place.say(piece)
        assert (status_of(said), code_of(said)) == (408, "request_timeout")
        await place.chats()


async def test_headers_that_trickle_are_not_given_more_time(box: Box) -> None:
    async with serving(box, QUICK) as place:
        reader, writer = await place.connect(b"GET /healthz HTTP/1.1\r\nHost: box\r\n")

        async def trickle() -> None:
            while not reader.at_eof():
                writer.write(b"X-A: b\r\n")
                await asyncio.sleep(0.01)  # the attacker's pace

        task = asyncio.create_task(trickle())
        async with asyncio.timeout(TIMEOUT_S):
            said = await reader.read()
        writer.close()
        await task
        assert status_of(said) == 408


async def test_a_connection_that_says_nothing_is_closed(box: Box) -> None:
    async with serving(box, QUICK) as place:
        assert await place.say() == b""


async def test_a_body_that_never_comes(box: Box, log: io.StringIO) -> None:
    async with serving(box, QUICK) as place:
        said = await place.say(place.head("/v1/chat/completions", "POST", "Content-Length: 5000") + b'{"model"')
        assert (status_of(said), code_of(said)) == (408, "request_timeout")
        await until(lambda: '"status": 499' in log.getvalue())
        await place.chats()
    refused = [line for line in map(json.loads, log.getvalue().splitlines()) if line["event"] == "connection_refused"]
    assert [(line["code"], line["address"], line["times"]) for line in refused] == [("request_timeout", "127.0.0.1", 1)]
    assert "Traceback" not in log.getvalue()


async def test_a_slow_body_has_time_as_long_as_it_moves(box: Box) -> None:
    """Looked at by hand, at times that the test chooses."""
    limits = ConnectionLimits(body_s=100, body_bytes_per_s=10, sweep_s=1e6)
    async with serving(box, limits) as place:
        body = json.dumps({"model": MODEL, "messages": [{"role": "user", "content": "2+2?" + " " * 400}]}).encode()
        head = place.head("/v1/chat/completions", "POST", f"Content-Length: {len(body)}", "Connection: close")
        reader, writer = await place.connect(head, body[:200])
        await until(lambda: [one.received_bytes for one in place.guard] == [200])
        [connection] = place.guard
        begun_s = asyncio.get_running_loop().time()
        connection.check(begun_s + 119)
        assert connection.phase is Phase.BODY
        writer.write(body[200:])
        assert status_of(await reader.read()) == 200
        writer.close()
        reader, writer = await place.connect(head, body[:200])
        await until(lambda: [one.received_bytes for one in place.guard] == [200])
        [connection] = place.guard
        connection.check(asyncio.get_running_loop().time() + 121)
        assert status_of(await reader.read()) == 408
        writer.close()


@pytest.mark.parametrize(
    ("pieces", "status", "code"),
    [
        (
            [b"GET /healthz HTTP/1.1\r\nHost: box\r\n" + b"X-A: " + b"a" * 70_000 + b"\r\n\r\n"],
            431,
            "headers_too_large",
        ),
        ([b"GET /healthz HTTP/1.1\r\nHost: box\r\n", *[b"X-A: b\r\n"] * 9000], 431, "headers_too_large"),
        ([b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: box\r\n\r\n"], 414, "uri_too_long"),
        ([b"GET / HTTP/1.1\r\n\r\n"], 400, "bad_host"),
        ([b"GET / HTTP/1.1\r\nHost: box\r\nHost: other\r\n\r\n"], 400, "bad_host"),
        ([b"GET / HTTP/9.9\r\n\r\n"], 400, "bad_http"),
        ([b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"], 400, "bad_http"),
        ([b"GET /\x00 HTTP/1.1\r\nHost: box\r\n\r\n"], 400, "bad_http"),
        ([b"GET / HTTP/1.1\r\nHost: box\r\nX-A: a\x00b\r\n\r\n"], 400, "bad_http"),
        ([b"GET / HTTP/1.1\r\nHost: box\r\nX A: b\r\n\r\n"], 400, "bad_http"),
        ([b"GET / HTTP/1.1\r\nHost: box\r\n X: folded\r\n\r\n"], 400, "bad_http"),
        ([b"CONNECT evil.example:443 HTTP/1.1\r\nHost: evil.example:443\r\n\r\n"], 400, "bad_http"),
        # Request smuggling (RFC 9112, section 6.3): whoever reads two lengths differently reads two requests.
        ([b"POST / HTTP/1.1\r\nHost: box\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n"], 400, "bad_http"),
        ([b"POST / HTTP/1.1\r\nHost: box\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\n"], 400, "bad_http"),
        ([b"POST / HTTP/1.1\r\nHost: box\r\nContent-Length: +4\r\n\r\n"], 400, "bad_http"),
        ([b"POST / HTTP/1.1\r\nHost: box\r\nContent-Length: 99999999999999999999999\r\n\r\n"], 400, "bad_http"),
        ([b"POST / HTTP/1.1\r\nHost: box\r\nTransfer-Encoding: chunked, identity\r\n\r\n"], 400, "bad_http"),
        ([b"POST / HTTP/1.1\r\nHost: box\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"], 400, "bad_http"),
        ([b"POST / HTTP/1.1\r\nHost: box\r\nTransfer-Encoding : chunked\r\n\r\n"], 400, "bad_http"),
    ],
)
async def test_what_is_no_proper_request(box: Box, pieces: list[bytes], status: int, code: str) -> None:
    async with serving(box, QUICK) as place:
        said = await place.say(*pieces)
        assert (status_of(said), code_of(said)) == (status, code)
        await place.chats()


async def test_requests_sent_ahead_are_not_taken(box: Box) -> None:
    """The first is answered, the second is not, and nobody keeps a seat when the client leaves."""
    async with serving(box, PATIENT) as place:
        body = json.dumps({"model": MODEL, "messages": [{"role": "user", "content": "2+2?"}]}).encode()
        first = place.head("/v1/chat/completions", "POST", f"Content-Length: {len(body)}") + body
        said = await place.say(first + place.head("/healthz", "GET") * 50)
        assert said.count(b"HTTP/1.1 ") == 1
        assert status_of(said) == 200
        engine = box.use(FakeEngine(("a",) * 50, hold_after=1))
        stream = json.dumps({"model": MODEL, "stream": True, "messages": [{"role": "user", "content": "Hi"}]}).encode()
        again = place.head("/v1/chat/completions", "POST", f"Content-Length: {len(stream)}") + stream
        _, writer = await place.connect(again + place.head("/healthz", "GET"))
        await engine.wait_active(1)
        writer.close()
        await engine.wait_active(0)
        await until(lambda: box.admission.stats().running == 0)


async def test_an_answer_that_nobody_reads_gives_everything_back(box: Box, log: io.StringIO) -> None:
    box.use(FakeEngine(("x" * 50_000,) * 400))
    async with serving(box, QUICK) as place:
        stream = json.dumps({"model": MODEL, "stream": True, "messages": [{"role": "user", "content": "Hi"}]}).encode()
        head = place.head("/v1/chat/completions", "POST", f"Content-Length: {len(stream)}")
        _, writer = await place.connect(head + stream)
        await until(lambda: '"code": "answer_not_read"' in log.getvalue())
        await until(lambda: len(place.guard) == 0)
        await until(lambda: '"client_left": true' in log.getvalue())
        assert box.admission.stats().running == 0
        writer.close()


async def test_the_connection_that_does_least_makes_room(box: Box) -> None:
    async with serving(box, ConnectionLimits(most=3, sweep_s=0.02)) as place:
        first = await place.connect()
        others = [await place.connect(b"GET /hea") for _ in range(2)]
        await until(lambda: len(place.guard) == 3)
        await place.chats()
        assert await first[0].read() == b""
        for _, writer in [first, *others]:
            writer.close()


async def test_a_box_full_of_work_refuses_with_a_reason(box: Box) -> None:
    engine = box.use(FakeEngine(("a",) * 50, hold_after=1))
    async with serving(box, ConnectionLimits(most=2, sweep_s=0.02)) as place:
        stream = json.dumps({"model": MODEL, "stream": True, "messages": [{"role": "user", "content": "Hi"}]}).encode()
        head = place.head("/v1/chat/completions", "POST", f"Content-Length: {len(stream)}")
        working = [await place.connect(head + stream) for _ in range(2)]
        await engine.wait_active(2)
        said = await place.say()
        assert (status_of(said), code_of(said)) == (503, "too_many_connections")
        assert b"retry-after: 5" in said
        for _, writer in working:
            writer.close()
        await engine.wait_active(0)


@pytest.mark.parametrize("upgrade", ["websocket", "h2c"])
async def test_upgrades_are_answered_as_plain_http(box: Box, log: io.StringIO, upgrade: str) -> None:
    """Java's client asks for HTTP/2 with its first request, a body included."""
    async with serving(box, PATIENT) as place:
        body = json.dumps({"model": MODEL, "messages": [{"role": "user", "content": "2+2?"}]}).encode()
        more = ("Connection: Upgrade, HTTP2-Settings", f"Upgrade: {upgrade}", "HTTP2-Settings: AAMAAABkAAQAAP__")
        said = await place.say(place.head("/v1/chat/completions", "POST", *more, f"Content-Length: {len(body)}") + body)
        assert status_of(said) == 200
        said = await place.say(place.head("/healthz", "GET", *more))
        assert status_of(said) == 200
    assert "upgrade" not in log.getvalue().lower()


async def test_a_connection_is_used_again_and_closed_when_it_rests(box: Box) -> None:
    async with serving(box, PATIENT, timeout_keep_alive=0.2) as place:
        reader, writer = await place.connect()
        for _ in range(3):
            writer.write(place.head("/healthz", "GET"))
            assert (await reader.readuntil(b'"}')).startswith(b"HTTP/1.1 200")
        async with asyncio.timeout(TIMEOUT_S):
            assert await reader.read() == b""
        writer.close()


async def test_a_refused_upload_that_goes_on_for_ever_is_cut(box: Box) -> None:
    async with serving(box, QUICK) as place:
        reader, writer = await place.connect(
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: box\r\nTransfer-Encoding: chunked\r\n\r\n"
        )

        async def upload() -> None:
            while True:
                writer.write(b"1000\r\n" + b" " * 4096 + b"\r\n")
                await writer.drain()
                await asyncio.sleep(0)

        task = asyncio.create_task(upload())
        assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 401")
        with pytest.raises(ConnectionError):
            await asyncio.wait_for(task, TIMEOUT_S)
        writer.close()
        await place.chats()
