"""The page's chats on the real daemon with the tiny R1: two people at once, reloads, kills and restarts in mid-stream.

In mid-stream means here that the worker's process is stopped for a while: nothing depends on who is quicker.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.appliance.api.chats.page import Event, all_events, answered, ask, events_of, new_chat, said, tree
from tests.appliance.chats import pdfs
from tests.e2e.box import Box, Home, goldens, loops, start_box

PASSWORD = "three blind mice 7"
LOOP = loops()[0][0]["content"]
PLAIN = next(golden for golden in goldens("fact", "capital") if len(golden.messages) == 1)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> tuple[Home, str]:
    home = Home(tmp_path_factory.mktemp("chats"))
    return home, home.import_model()


@pytest.fixture(scope="module")
def chat_box(place: tuple[Home, str]) -> Iterator[Box]:
    """A box with an administrator, li, and a user, wu."""
    home, _ = place
    box = start_box(home, "--seats", "2", "--context", "2048", key=home.create_key("tests"))
    body = {"token": home.run("users", "setup-token").stdout.strip(), "name": "li", "password": PASSWORD}
    with httpx.Client(base_url=box.url, headers={"Origin": box.url}, timeout=60) as li:
        li.headers["X-R1Box-CSRF"] = li.post("/api/auth/setup", json=body).json()["csrf_token"]
        made = li.post("/api/admin/users", json={"name": "wu", "role": "user", "password": f"{PASSWORD}!"})
        assert made.status_code == 201, made.text
    with httpx.Client(base_url=box.url, headers={"Origin": box.url}, timeout=60) as wu:
        me = wu.post("/api/auth/login", json={"name": "wu", "password": f"{PASSWORD}!"}).json()
        wu.headers["X-R1Box-CSRF"] = me["csrf_token"]
        changed = wu.post("/api/auth/password", json={"old": f"{PASSWORD}!", "new": PASSWORD})
        assert changed.status_code == 204, changed.text
    yield box
    assert box.stop() == 0


@asynccontextmanager
async def browser(box: Box, name: str) -> AsyncIterator[httpx.AsyncClient]:
    """Somebody's browser, logged in."""
    async with httpx.AsyncClient(base_url=box.url, headers={"Origin": box.url}, timeout=60) as client:
        me = await client.post("/api/auth/login", json={"name": name, "password": PASSWORD})
        client.headers["X-R1Box-CSRF"] = me.json()["csrf_token"]
        yield client


@contextmanager
def held(worker: psutil.Process) -> Iterator[None]:
    """The worker writes nothing meanwhile."""
    worker.suspend()
    try:
        yield
    finally:
        if worker.is_running():
            worker.resume()


async def first_words(client: httpx.AsyncClient, chat_id: int, answer_id: int) -> Event:
    """Look on until something of the answer is there, then leave; the last event that was seen."""
    url = f"/api/chats/{chat_id}/answers/{answer_id}/events"
    async with asyncio.timeout(60), client.stream("GET", url) as response:
        async for event in events_of(response.aiter_lines()):
            if event.name in ("reasoning", "content"):
                return event
    raise AssertionError("it ended")


async def whole_text(client: httpx.AsyncClient, chat_id: int, message_id: int) -> dict[str, Any]:
    return next(one for one in (await tree(client, chat_id))["messages"] if one["id"] == message_id)


async def test_two_people_at_once(place: tuple[Home, str], chat_box: Box) -> None:
    async with browser(chat_box, "li") as li, browser(chat_box, "wu") as wu:

        async def talk(client: httpx.AsyncClient) -> tuple[int, dict[str, Any]]:
            chat_id = await new_chat(client)
            return chat_id, await answered(client, chat_id, PLAIN.messages[0]["content"])

        (of_li, one), (of_wu, other) = await asyncio.gather(talk(li), talk(wu))
        for answer in (one, other):
            assert (answer["state"], answer["finish_reason"]) == ("done", "stop")
            assert answer["content"]
            assert answer["usage"]["prompt"] > 0
        assert (await li.get(f"/api/chats/{of_wu}")).status_code == 404
        assert [item["id"] for item in (await wu.get("/api/chats")).json()["items"]] == [of_wu]
        page = (await wu.get("/api/page")).json()
        assert (page["user"]["name"], page["setup_needed"]) == ("wu", False)
        model = page["models"][0]
        assert (model["id"], model["state"], model["context_tokens"], model["profile"], model["thinks"]) == (
            place[1],
            "ready",
            2048,
            "r1",
            True,
        )
        assert of_li != of_wu
    chat_box.wait_until(lambda: "wu" in place[0].run("usage", "--csv").stdout)


async def test_a_reload_in_mid_stream(chat_box: Box) -> None:
    """The page goes away, the answer goes on; with the last event's id the page goes on exactly there."""
    async with browser(chat_box, "wu") as wu:
        chat_id = await new_chat(wu)
        answer_id = (await ask(wu, chat_id, LOOP))["answer"]["id"]
        await first_words(wu, chat_id, answer_id)
        with held(chat_box.worker()):
            before = await whole_text(wu, chat_id, answer_id)
            assert before["state"] == "streaming"
            assert before["reasoning"] + before["content"]
            url = f"/api/chats/{chat_id}/answers/{answer_id}/events"
            async with wu.stream("GET", url) as response:
                snapshot = await anext(events_of(response.aiter_lines()))
        assert snapshot.name == "snapshot"
        rest, again = await asyncio.gather(
            all_events(wu, chat_id, answer_id, headers={"Last-Event-ID": str(snapshot.id)}),
            all_events(wu, chat_id, answer_id),
        )
        stored = await whole_text(wu, chat_id, answer_id)
    assert rest[0].name != "snapshot"
    assert rest[-1].name == again[-1].name == "done"
    for kind in ("reasoning", "content"):
        assert snapshot.data[kind] + said(rest, kind) == said(again, kind) == stored[kind]
    assert len(stored["reasoning"]) > len(before["reasoning"])


async def test_stop_and_go_on_in_another_branch(chat_box: Box) -> None:
    async with browser(chat_box, "wu") as wu:
        chat_id = await new_chat(wu)
        begun = await ask(wu, chat_id, LOOP)
        answer_id = begun["answer"]["id"]
        await first_words(wu, chat_id, answer_id)
        stopped = (await wu.post(f"/api/chats/{chat_id}/answers/{answer_id}/stop")).json()
        assert stopped["state"] in ("stopped", "done")  # it may have been quicker
        edited = await answered(wu, chat_id, PLAIN.messages[0]["content"])
        assert edited["state"] == "done"
        chat = await tree(wu, chat_id)
        assert [one["parent_id"] for one in chat["messages"]].count(None) == 2
        assert chat["leaf_id"] == edited["id"]


async def test_a_pdf_is_counted_and_asked_about(place: tuple[Home, str], chat_box: Box) -> None:
    async with browser(chat_box, "wu") as wu:
        sent = await wu.post(
            "/api/attachments",
            params={"model": place[1]},
            content=pdfs.pages("The lease ends in May."),
            headers={"X-File-Name": "lease.pdf"},
        )
        file = sent.json()
        assert (sent.status_code, file["kind"], file["pages"], file["characters"]) == (201, "pdf", 1, 22)
        chat_id = await new_chat(wu)
        fields = {"content": "When does it end?", "attachment_ids": [file["id"]]}
        counted = (await wu.post(f"/api/chats/{chat_id}/count", json=fields)).json()
        answer = await answered(wu, chat_id, **fields)
        assert counted["prompt_tokens"] == answer["usage"]["prompt"] > file["tokens"] > 0


@pytest.mark.parametrize("ending", ["kill", "term"])
async def test_the_daemon_ends_in_mid_stream(place: tuple[Home, str], tmp_path: Path, ending: str) -> None:
    """What was written stays, marked as interrupted, can be found, and the chat goes on."""
    shared, _ = place
    home = Home(tmp_path)
    home.models_dir, home.environment["R1BOX_MODELS_DIR"] = shared.models_dir, str(shared.models_dir)
    key = home.create_key("page")
    headers = {"Authorization": f"Bearer {key}"}
    box = start_box(home, "--seats", "1", "--context", "2048", key=key)
    try:
        worker = box.worker()
        async with httpx.AsyncClient(base_url=box.url, headers=headers, timeout=60) as client:
            chat_id = await new_chat(client)
            answer_id = (await ask(client, chat_id, LOOP))["answer"]["id"]
            await first_words(client, chat_id, answer_id)
            worker.suspend()
            seen = await whole_text(client, chat_id, answer_id)
            assert seen["state"] == "streaming"
        if ending == "kill":
            box.wait_until(lambda: _stored(home, answer_id) == seen["reasoning"] + seen["content"])
            box.process.kill()
            box.stop()
            worker.kill()
        else:
            worker.resume()
            assert box.stop() == 0
    finally:
        if box.process.poll() is None:
            worker.resume()
            box.stop()
    again = start_box(home, "--seats", "1", "--context", "2048", key=key)
    try:
        async with httpx.AsyncClient(base_url=again.url, headers=headers, timeout=60) as client:
            left = await whole_text(client, chat_id, answer_id)
            assert (left["reasoning"] + left["content"]).startswith(seen["reasoning"] + seen["content"])
            if ending == "kill":
                assert left["state"] == "interrupted"
                assert (left["reasoning"], left["content"]) == (seen["reasoning"], seen["content"])
            else:
                assert left["state"] in ("interrupted", "done")  # it may have come to its end while the box ended
            events = await all_events(client, chat_id, answer_id)
            assert events[-1].data["message"]["state"] == left["state"]
            next_one = await answered(client, chat_id, PLAIN.messages[0]["content"], parent_id=answer_id)
            assert next_one["state"] == "done"
    finally:
        assert again.stop() == 0


def _stored(home: Home, message_id: int) -> str:
    """What of an answer is in the file, seen from outside."""
    with closing(sqlite3.connect(f"file:{home.state_dir / 'r1box.db'}?mode=ro", uri=True)) as database:
        row = database.execute("SELECT reasoning || content FROM chat_message WHERE id = ?", (message_id,)).fetchone()
    return "" if row is None else str(row[0])
