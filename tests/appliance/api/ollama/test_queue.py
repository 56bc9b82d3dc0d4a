"""Ollama's streams tell a place in the queue in lines that its clients pass over."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest
from ollama import AsyncClient

from tests.appliance.api.box import ANSWER, MODEL, Box
from tests.fakes.engine import FakeEngine

NAME = f"{MODEL}:latest"
QUESTION: Any = [{"role": "user", "content": "What is 2+2?"}]


@pytest.mark.parametrize("path", ["/api/chat", "/api/generate"])
async def test_a_place_in_the_queue_is_told(address: str, ollama: AsyncClient, box: Box, path: str) -> None:
    """In a header, and in lines that the official client passes over."""
    engine = box.use(FakeEngine(ANSWER, hold_after=0))
    busy = [asyncio.create_task(ollama.chat(model=MODEL, messages=QUESTION)) for _ in range(2)]
    await engine.wait_active(2)
    asked = {"model": NAME, **({"messages": QUESTION} if path == "/api/chat" else {"prompt": "2+2?"})}
    async with (
        httpx.AsyncClient(base_url=address, headers=box.authorization) as client,
        client.stream("POST", path, json=asked) as response,
    ):
        assert response.headers["x-r1box-queued"] == "position=1"
        told = response.aiter_lines()
        first = json.loads(await anext(told))
        assert first["r1box"] == {"queued": {"position": 1}}
        assert (first["model"], first["done"]) == (NAME, False)
        assert first.get("message", {"content": first.get("response")})["content"] == ""
        await engine.resume()
        rest = [json.loads(line) async for line in told]
    assert rest[-1]["done"]
    assert [line for line in rest[:-1] if "r1box" in line and "queued" not in line["r1box"]] == []
    await asyncio.gather(*busy)


async def test_the_official_client_waits_its_turn(ollama: AsyncClient, box: Box) -> None:
    engine = box.use(FakeEngine(ANSWER, hold_after=0))
    busy = [asyncio.create_task(ollama.chat(model=MODEL, messages=QUESTION)) for _ in range(2)]
    await engine.wait_active(2)
    stream = await ollama.chat(model=MODEL, messages=QUESTION, stream=True)
    first = await anext(stream)
    assert (first.done, first.message.content, first.message.thinking) == (False, "", None)
    await engine.resume()
    text = "".join([part.message.content or "" async for part in stream])
    assert text == "It is 4."
    await asyncio.gather(*busy)
