"""The chat page's part of a conversation with the box, as its script does it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx


@dataclass(frozen=True)
class Event:
    """A server-sent event."""

    name: str
    id: str | None
    data: Any


async def new_chat(browser: httpx.AsyncClient, **fields: Any) -> int:
    """The id of a new chat."""
    answer = await browser.post("/api/chats", json=fields)
    assert answer.status_code == 201, answer.text
    return int(answer.json()["id"])


async def ask(browser: httpx.AsyncClient, chat_id: int, content: str | None, **fields: Any) -> dict[str, Any]:
    """A question that is taken; what was begun."""
    answer = await browser.post(f"/api/chats/{chat_id}/messages", json={"content": content, **fields})
    assert answer.status_code == 202, answer.text
    return dict(answer.json())


async def tree(browser: httpx.AsyncClient, chat_id: int) -> dict[str, Any]:
    """The chat with its messages."""
    answer = await browser.get(f"/api/chats/{chat_id}")
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def events_of(lines: AsyncIterator[str]) -> AsyncIterator[Event]:
    """The events of a stream, without comments."""
    name, place, data = "", None, ""
    async for line in lines:
        field, _, value = line.partition(": ")
        if field == "event":
            name = value
        elif field == "id":
            place = value
        elif field == "data":
            data = value
        elif not line and name:
            yield Event(name, place, json.loads(data))
            name, data = "", ""


async def all_events(browser: httpx.AsyncClient, chat_id: int, answer_id: int, **options: Any) -> list[Event]:
    """Everything until the answer has ended. Over a real connection it comes as it happens."""
    async with asyncio.timeout(60):
        url = f"/api/chats/{chat_id}/answers/{answer_id}/events"
        async with browser.stream("GET", url, timeout=60, **options) as response:
            assert response.status_code == 200, await response.aread()
            return [event async for event in events_of(response.aiter_lines())]


def said(events: list[Event], name: str = "content") -> str:
    """The text of one kind, of the snapshot too."""
    begun = "".join(event.data[name] for event in events if event.name == "snapshot")
    return begun + "".join(event.data["text"] for event in events if event.name == name)


async def answered(browser: httpx.AsyncClient, chat_id: int, content: str | None, **fields: Any) -> dict[str, Any]:
    """Ask and wait; the answer as the chat has it then."""
    begun = await ask(browser, chat_id, content, **fields)
    answer_id = begun["answer"]["id"]
    await all_events(browser, chat_id, answer_id)
    return next(one for one in (await tree(browser, chat_id))["messages"] if one["id"] == answer_id)
