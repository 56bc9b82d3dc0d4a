"""A thousand requests of four keys in the queue of the real daemon come in fair order. The engine writes without a
model, so that a thousand are affordable; everything before it is the real thing."""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.e2e.box import PACED_R1BOX, Box, Home, start_box

SEATS = 4
HELLO = [{"role": "user", "content": "How many patients can two nurses see in a shift of eight hours?"}]
WAITING = {"flood": 700, "night": 100, "ward": 100, "lab": 100}
"""Requests of each key, in the order in which they come; ``night`` is a batch key."""


class Crowd:
    """Clients of a box and the order in which they are answered."""

    def __init__(self, box: Box, model: str, keys: dict[str, str]) -> None:
        self.box = box
        self.model = model
        self.keys = keys
        self.answered: list[str] = []

    async def open(self, key: str, tokens: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A request that is sent."""
        body = json.dumps({"model": self.model, "messages": HELLO, "max_tokens": tokens}).encode()
        host, port = self.box.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(
            f"POST /v1/chat/completions HTTP/1.1\r\nHost: box\r\nAuthorization: Bearer {self.keys[key]}\r\n"
            f"Connection: close\r\nContent-Length: {len(body)}\r\n\r\n".encode()
            + body
        )
        return reader, writer

    async def read(self, key: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Its answer."""
        answer = await reader.read()
        assert answer.startswith(b"HTTP/1.1 200"), answer[:400]
        self.answered.append(key)
        writer.close()

    async def wait_for(self, gauge: str, count: int) -> None:
        """Return when the box's metrics say so."""
        headers = {"Authorization": f"Bearer {self.keys['flood']}"}
        async with httpx.AsyncClient(headers=headers, timeout=60) as client:
            while True:
                text = (await client.get(f"{self.box.url}/metrics")).text
                found = re.search(rf"^r1box_requests_{gauge}\S* (\S+)$", text, re.MULTILINE)
                if found and float(found[1]) == count:
                    return


@pytest.fixture
def crowd(tmp_path: Path) -> Iterator[Crowd]:
    home = Home(tmp_path)
    home.environment |= {
        "R1BOX_BENCH_TOKENS_PER_S": "500",
        "R1BOX_LOG_LEVEL": "warning",
        "R1BOX_MAX_WAITING": "2000",
    }
    model = home.import_model()
    keys = {
        name: home.create_key(name, "--scope", "inference", "--scope", "metrics")
        for name in ("flood", "ward", "lab", "holder")
    }
    keys["night"] = home.create_key("night", "--batch", "--scope", "inference")
    box = start_box(home, "--seats", str(SEATS), "--context", "4096", key=keys["flood"], command=PACED_R1BOX)
    yield Crowd(box, model, keys)
    assert box.stop() == 0


@pytest.mark.timeout(600)
async def test_a_thousand_waiting_requests_come_in_fair_order(crowd: Crowd) -> None:
    # A fifth key has the seats: what it gets is charged to none of the four.
    holders = [await crowd.open("holder", 3900) for _ in range(SEATS)]
    await crowd.wait_for("running", SEATS)
    reading, waiting = [], 0
    for key, count in WAITING.items():
        opened = [await crowd.open(key, 4) for _ in range(count)]
        reading += [asyncio.create_task(crowd.read(key, *one)) for one in opened]
        waiting += count
        await crowd.wait_for("waiting", waiting)
    assert crowd.answered == []
    for _, writer in holders:
        writer.close()
    await asyncio.gather(*reading)
    served = crowd.answered
    assert Counter(served) == WAITING
    # While three keys of people wait each gets a third; batch comes when no person waits any more.
    shares = Counter(served[:270])
    assert all(80 <= shares[key] <= 100 for key in ("flood", "ward", "lab")), shares
    assert shares["night"] == 0
    last_of_people = max(place for place, key in enumerate(served) if key != "night")
    assert served.index("night") >= last_of_people - SEATS
