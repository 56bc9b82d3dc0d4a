"""What comes in pieces: pages of keys, lines of the log, an answer with its thought."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

from appliance.schemas.accounts import KeyList
from tests.tui.bodies import keys, logs
from tests.tui.boxes import FixedClient, StillClock
from tui.chat_session import ChatSession
from tui.client import Problem
from tui.keys_feed import PAGE_ROWS, KeysFeed
from tui.log_feed import LogFeed
from tui.resource import known


class Paged(FixedClient):
    """Has 1,200 keys, and gives them in pages as the daemon does."""

    def __init__(self) -> None:
        super().__init__({})
        self.all = keys(1200).items
        self.asked: list[dict[str, list[str]]] = []

    async def get(self, path: str, kind: Any, **_: Any) -> Any:
        query = parse_qs(urlsplit(path).query)
        self.asked.append(query)
        wanted = query.get("query", [""])[0]
        found = [one for one in self.all if one.id > int(query["after"][0]) and wanted in one.name]
        page = tuple(found[: int(query["limit"][0])])
        return KeyList(items=page, next=page[-1].id if len(found) > len(page) else None)


async def test_keys_come_as_far_as_they_are_looked_at() -> None:
    client = Paged()
    feed = KeysFeed(client, StillClock(), every_s=1e6, changed=lambda: None)
    await feed.ask()
    first = known(feed.state())
    assert first is not None
    assert (len(first.items), first.next) == (PAGE_ROWS, 500)
    feed.more(100)  # they are there already
    feed.more(PAGE_ROWS)
    await feed.ask()
    second = known(feed.state())
    assert second is not None
    assert (len(second.items), second.next) == (2 * PAGE_ROWS, 1000)
    feed.search("app-119", revoked=True)
    await feed.ask()
    third = known(feed.state())
    assert third is not None
    assert ([one.id for one in third.items][:2], third.next) == ([119, 1190], None)
    assert client.asked[-1]["revoked"] == ["true"]


class Lines(FixedClient):
    """A log that ends after each burst; notes what was asked for."""

    def __init__(self, *bursts: list[str | Problem]) -> None:
        super().__init__({})
        self.bursts = list(bursts)
        self.asked: list[dict[str, list[str]]] = []

    async def events(self, path: str, body: dict[str, object] | None = None) -> AsyncIterator[str | Problem]:
        self.asked.append(parse_qs(urlsplit(path).query))
        for one in self.bursts.pop(0) if self.bursts else ():
            yield one
        if not self.bursts:
            await asyncio.Event().wait()


async def test_a_log_goes_on_where_it_ended_and_begins_anew_with_the_daemon() -> None:
    first, second, third = logs()
    again = first.model_copy(update={"event": "started"})
    client = Lines(
        [": following", first.model_dump_json(), '{"missed": 7}', second.model_dump_json()],
        [Problem("unreachable")],
        [third.model_dump_json(), again.model_dump_json()],
    )
    feed = LogFeed(client, StillClock(), every_s=0.01, changed=lambda: None)
    following = asyncio.create_task(feed.poll())
    while not (lines := known(feed.state())) or lines[-1].event != "started":
        await asyncio.sleep(0.01)
    assert [one.event for one in lines] == ["started"]
    assert [one.get("after", one.get("tail")) for one in client.asked] == [["500"], ["2"], ["2"]]
    feed.search(level="error", text="odd")
    while len(client.asked) < 4:
        await asyncio.sleep(0.01)
    assert client.asked[-1] == {"level": ["error"], "text": ["odd"], "tail": ["500"]}
    following.cancel()
    await asyncio.wait({following})


async def test_an_answer_comes_in_pieces() -> None:
    clock = StillClock()
    client = Lines(
        [
            ": queued position=3 wait_s=22",
            ": loading model=r1 percent=40",
            '{"id": "chatcmpl-1", "choices": [{"delta": {"reasoning_content": "Two and "}}]}',
            '{"id": "chatcmpl-1", "choices": [{"delta": {"reasoning_content": "two."}}]}',
            '{"id": "chatcmpl-1", "choices": [{"delta": {"content": "Four."}, "finish_reason": "stop"}]}',
            '{"choices": [], "usage": {"completion_tokens": 9, "completion_tokens_details": {"reasoning_tokens": 6}}}',
            "[DONE]",
        ],
        [": queued position=1", '{"error": {"code": "ended_by_operator", "message": "An operator ended it."}}'],
        ["no JSON"],
        [],
    )
    seen = list[tuple[int | None, int | None]]()
    session = ChatSession(client, clock.seconds, lambda: seen.append(place(session)))
    await session.ask("2+2?", "r1")
    turn = session.turns[0]
    assert (turn.thought, turn.answer, turn.finish, turn.problem) == ("Two and two.", "Four.", "stop", None)
    assert (turn.thinking_tokens, turn.answer_tokens, turn.request_id) == (6, 9, "chatcmpl-1")
    assert (3, None) in seen
    assert (3, 40) in seen
    assert session.messages() == [
        {"role": "user", "content": "2+2?"},
        {"role": "assistant", "content": "Four."},
    ]
    await session.ask("And 3+3?", "r1")
    assert session.turns[1].problem == Problem("ended_by_operator", "An operator ended it.")
    await session.ask("And?", "r1")
    assert session.turns[2].problem == Problem("garbled", detail="chat")
    asking = asyncio.create_task(session.ask("Wait", "r1"))
    while len(session.turns) < 4:
        await asyncio.sleep(0)
    asking.cancel()
    await asyncio.wait({asking})
    assert session.turns[3].finish == "stopped"
    assert not session.turns[3].going_on


def place(session: ChatSession) -> tuple[int | None, int | None]:
    turn = session.turns[-1]
    return turn.position, turn.loading_percent
