"""Nothing stays behind: memory and files of the daemon over thousands of requests, those that clients leave included.

R1BOX_LEAK_REQUESTS is how many; the engine writes without a model, so they cost milliseconds.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.e2e.box import PACED_R1BOX, Box, Home, start_box

REQUESTS = int(os.environ.get("R1BOX_LEAK_REQUESTS", "1000"))
WARM_UP = 500
"""Pools, caches and the allocator grow to their size first."""
TOGETHER = 8
MOST_BYTES_EACH = 5_000
"""What a request may leave: allocators keep some, and a log row waits a second. A leaked request is some 20 kB."""
HELLO = [{"role": "user", "content": "How many patients can two nurses see in a shift of eight hours?"}]


@pytest.fixture
def paced(tmp_path: Path) -> Iterator[tuple[Box, str]]:
    home = Home(tmp_path)
    home.environment["R1BOX_BENCH_TOKENS_PER_S"] = "50000"
    home.environment["R1BOX_LOG_LEVEL"] = "warning"
    model = home.import_model()
    box = start_box(home, "--seats", "16", "--context", "512", key=home.create_key("leak"), command=PACED_R1BOX)
    yield box, model
    assert box.stop() == 0


def message(box: Box, path: str, body: bytes, key: str | None = None) -> bytes:
    head = (
        f"POST {path} HTTP/1.1\r\nHost: box\r\nConnection: close\r\nAuthorization: Bearer {key or box.key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def one(box: Box, model: str, number: int) -> None:
    """One request in one of the ways that clients have, good ones and bad ones."""
    host, port = box.url.removeprefix("http://").split(":")
    chat = {"model": model, "messages": HELLO, "max_tokens": 24, "stream": number % 2 == 0}
    text = {"model": model, "input": "Hi", "max_output_tokens": 24, "store": False, "stream": number % 2 == 0}
    kinds = (
        (message(box, "/v1/chat/completions", json.dumps(chat).encode()), "read"),
        (message(box, "/v1/responses", json.dumps(text).encode()), "read"),
        (
            message(box, "/v1/chat/completions", json.dumps(chat | {"max_tokens": 400}).encode()),
            "leave at the first byte",
        ),
        (message(box, "/v1/chat/completions", json.dumps(chat | {"max_tokens": 400}).encode()), "leave at once"),
        (message(box, "/v1/chat/completions", json.dumps(chat).encode())[:-40], "leave at once"),
        (message(box, "/v1/chat/completions", json.dumps(chat).encode(), "r1b_wrong"), "read"),
        (message(box, "/v1/chat/completions", b'{"model":'), "read"),
        (b"GET /healthz HTTP/1.1\r\nHost: box\r\nConnection: close\r\n\r\n", "read"),
    )
    sent, then = kinds[number // 2 % len(kinds)]
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(sent)
    await writer.drain()
    if then == "read":
        assert (await reader.read()).startswith(b"HTTP/1.1 ")
    elif then == "leave at the first byte":
        await reader.read(1)
    writer.close()


async def many(box: Box, model: str, count: int) -> None:
    numbers = iter(range(count))

    async def worker() -> None:
        for number in numbers:
            await one(box, model, number)

    await asyncio.gather(*(worker() for _ in range(TOGETHER)))


@pytest.mark.timeout(600)
def test_thousands_of_requests_leave_nothing(paced: tuple[Box, str]) -> None:
    box, model = paced
    daemon = psutil.Process(box.process.pid)
    files = daemon.num_fds()
    asyncio.run(many(box, model, WARM_UP))
    box.wait_until(lambda: daemon.num_fds() <= files + 8)
    files, before = daemon.num_fds(), daemon.memory_info().rss
    asyncio.run(many(box, model, REQUESTS))
    box.wait_until(lambda: daemon.num_fds() <= files + 2)
    grown = daemon.memory_info().rss - before
    print(f"{REQUESTS} requests: {grown / 1e3:+.0f} kB of {before / 1e6:.0f} MB, {daemon.num_fds()} files")
    assert grown < MOST_BYTES_EACH * REQUESTS
    assert box.post({"model": model, "messages": HELLO, "max_tokens": 8}).status_code == 200
    assert not [line for line in box.errors if "Traceback" in line]
