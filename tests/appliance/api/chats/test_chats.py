"""The page's chats through the API, with a scripted engine."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from appliance.security.roles import Role
from tests.appliance.api.box import MODEL, Box
from tests.appliance.api.chats.page import all_events, answered, ask, new_chat, said, tree
from tests.appliance.api.people import log_in, make_user
from tests.fakes.engine import FakeEngine


async def test_a_question_gets_its_answer_and_its_chat_a_title(client: httpx.AsyncClient) -> None:
    chat_id = await new_chat(client)
    begun = await ask(client, chat_id, "What is 2 + 2? And why?")
    assert begun["user_message"]["content"] == "What is 2 + 2? And why?"
    assert (begun["answer"]["state"], begun["answer"]["parent_id"]) == ("streaming", begun["user_message"]["id"])
    assert (begun["chat"]["title"], begun["chat"]["model"]) == ("What is 2 + 2?", MODEL)
    events = await all_events(client, chat_id, begun["answer"]["id"])
    assert (said(events, "reasoning"), said(events)) == ("two and two", "It is 4.")
    assert [event.name for event in events][-2:] == ["usage", "done"]
    done = events[-1].data["message"]
    assert (done["state"], done["finish_reason"], done["content"]) == ("done", "stop", None)
    chat = await tree(client, chat_id)
    question, answer = chat["messages"]
    assert chat["leaf_id"] == answer["id"]
    assert (answer["content"], answer["reasoning"], answer["state"]) == ("It is 4.", "two and two", "done")
    assert answer["usage"]["completion"] >= answer["usage"]["reasoning"] > 0
    assert (answer["thinking_end"], answer["error"]) == ("natural", None)
    assert answer["thinking_ms"] is not None
    assert answer["total_ms"] >= answer["first_token_ms"]
    assert question["usage"] is None


async def test_branches(box: Box, client: httpx.AsyncClient) -> None:
    """Regenerate, edit, and go on below an older answer: the model sees that branch alone."""
    chat_id = await new_chat(client)
    first = await answered(client, chat_id, "Red?")
    again = await answered(client, chat_id, None, parent_id=first["parent_id"])
    assert again["parent_id"] == first["parent_id"]
    assert box.engine.prompts[-1] == box.engine.prompts[-2]
    edited = await answered(client, chat_id, "Green?")
    below = await answered(client, chat_id, "And then?", parent_id=first["id"])
    assert box.engine.prompts[-1].count("<assistant>") == 2
    assert "Red?<assistant>It is 4.<user>And then?" in box.engine.prompts[-1]
    chat = await tree(client, chat_id)
    parents = {one["id"]: one["parent_id"] for one in chat["messages"]}
    assert len(parents) == 7
    assert sum(parent is None for parent in parents.values()) == 2
    assert parents[parents[below["id"]]] == first["id"]
    assert chat["leaf_id"] == below["id"]
    shown = await client.patch(f"/api/chats/{chat_id}", json={"leaf_id": edited["id"]})
    assert shown.json()["leaf_id"] == edited["id"]
    exported = (await client.get(f"/api/chats/{chat_id}/export")).text
    assert "Green?" in exported
    assert exported.count("## Question") == 1


async def test_a_second_page_and_a_reload_see_it_go_on(box: Box, address: str) -> None:
    engine = box.use(FakeEngine(("Let me ", "see.", "</think>", "It ", "is ", "4."), hold_after=1))
    async with httpx.AsyncClient(base_url=address, headers=box.authorization) as client:
        chat_id = await new_chat(client)
        answer_id = (await ask(client, chat_id, "2+2?"))["answer"]["id"]
        url = f"/api/chats/{chat_id}/answers/{answer_id}/events"
        async with client.stream("GET", url) as response:
            lines = response.aiter_lines()
            seen: list[str] = []
            while not any("Let me" in line for line in seen):
                seen.append(await anext(lines))
            place = [line for line in seen if line.startswith("id: ")][-1].removeprefix("id: ")
        # The page is gone; a chat that is read meanwhile has what there is.
        halfway = (await tree(client, chat_id))["messages"][1]
        assert (halfway["state"], halfway["reasoning"]) == ("streaming", "Let me ")
        reloaded = asyncio.create_task(all_events(client, chat_id, answer_id, headers={"Last-Event-ID": place}))
        second = asyncio.create_task(all_events(client, chat_id, answer_id))
        await engine.resume()
        rest, whole = await asyncio.gather(reloaded, second)
    assert "snapshot" not in [event.name for event in rest]
    assert (said(rest, "reasoning"), said(rest)) == ("see.", "It is 4.")
    assert whole[0].name == "snapshot"
    assert (said(whole, "reasoning"), said(whole)) == ("Let me see.", "It is 4.")


async def test_events_of_an_answer_that_is_over(client: httpx.AsyncClient) -> None:
    chat_id = await new_chat(client)
    answer = await answered(client, chat_id, "2+2?")
    whole = await all_events(client, chat_id, answer["id"])
    assert [event.name for event in whole] == ["snapshot", "usage", "done"]
    assert whole[0].data == {"content": "It is 4.", "reasoning": "two and two", "state": "done"}
    rest = await all_events(client, chat_id, answer["id"], params={"after": "11.3"})
    assert [(event.name, event.id) for event in rest] == [("content", "11.8"), ("usage", "11.8"), ("done", "11.8")]
    assert said(rest) == "is 4."
    nothing = await client.get(f"/api/chats/{chat_id}/answers/{answer['id']}/events", params={"after": "x"})
    assert (nothing.status_code, nothing.json()["error"]["param"]) == (400, "after")


async def test_stop_keeps_what_is_there(box: Box, client: httpx.AsyncClient) -> None:
    engine = box.use(FakeEngine(("Hm", "</think>", "It ", "is "), hold_after=3))
    chat_id = await new_chat(client)
    begun = await ask(client, chat_id, "2+2?")
    await engine.wait_active(1)
    answer_id = begun["answer"]["id"]
    await until(lambda: box.chats.runner.find(answer_id), lambda live: live is not None and len(live.content) > 0)
    stopped = await client.post(f"/api/chats/{chat_id}/answers/{answer_id}/stop")
    assert (stopped.json()["state"], stopped.json()["content"]) == ("stopped", "It ")
    assert box.admission.stats().running == 0
    again = await client.post(f"/api/chats/{chat_id}/answers/{answer_id}/stop")
    assert again.json() == stopped.json()
    on = await client.post(f"/api/chats/{chat_id}/answers/{answer_id}/answer_now")
    assert (on.status_code, on.json()["error"]["code"]) == (409, "answer_over")
    box.use(FakeEngine(("</think>", "Four.")))
    assert (await answered(client, chat_id, "Go on", parent_id=answer_id))["content"] == "Four."


async def test_answer_now(box: Box, client: httpx.AsyncClient) -> None:
    engine = box.use(FakeEngine(("So ", "many ", "thoughts", "</think>", "Four."), hold_after=1))
    chat_id = await new_chat(client)
    answer_id = (await ask(client, chat_id, "2+2?"))["answer"]["id"]
    await engine.wait_active(1)
    reply = await client.post(f"/api/chats/{chat_id}/answers/{answer_id}/answer_now")
    assert reply.status_code == 204
    await engine.resume()
    events = await all_events(client, chat_id, answer_id)
    assert events[-1].data["message"]["thinking_end"] == "asked"
    assert said(events) == "Four."


async def test_waiting_is_told(box: Box, client: httpx.AsyncClient) -> None:
    engine = box.use(FakeEngine(("</think>", "Four."), hold_after=0))
    chats = [await new_chat(client) for _ in range(3)]
    answers = [(await ask(client, chat_id, "2+2?"))["answer"]["id"] for chat_id in chats]
    await engine.wait_active(2)
    waiting = asyncio.create_task(all_events(client, chats[2], answers[2]))
    full = await client.post(f"/api/chats/{chats[0]}/messages", json={"content": "And now?"})
    assert (full.status_code, full.headers["Retry-After"]) == (429, "10")
    assert len((await tree(client, chats[0]))["messages"]) == 2, "nothing is kept of what was refused"
    await until(lambda: box.chats.runner.find(answers[2]), lambda live: live is not None and live.before is not None)
    await engine.resume()
    events = await waiting
    assert {"position": 1, "wait_s": None} in [event.data for event in events if event.name == "queued"]
    assert said(events) == "Four."


async def test_a_person_has_so_many_answers_at_a_time(box: Box, client: httpx.AsyncClient) -> None:
    box.admission._max_waiting = 10
    engine = box.use(FakeEngine(("</think>", "Four."), hold_after=0))
    chat_id = await new_chat(client)
    for _ in range(4):
        await ask(client, chat_id, "2+2?")
    refused = await client.post(f"/api/chats/{chat_id}/messages", json={"content": "2+2?"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "too_many_answers")
    await engine.resume()
    owner = engine.requests[0].owner
    assert owner is not None
    await until(lambda: box.chats.runner.running(owner), lambda running: running == 0)
    await answered(client, chat_id, "2+2?")


async def test_a_failing_engine_leaves_an_answer_that_says_so(box: Box, client: httpx.AsyncClient) -> None:
    engine = box.use(FakeEngine(("</think>", "It ", "is "), hold_after=2))
    chat_id = await new_chat(client)
    answer_id = (await ask(client, chat_id, "2+2?"))["answer"]["id"]
    await until(lambda: box.chats.runner.find(answer_id), lambda live: live is not None and len(live.content) > 0)
    await engine.die()
    events = await all_events(client, chat_id, answer_id)
    assert [event.name for event in events][-2:] == ["error", "done"]
    answer = (await tree(client, chat_id))["messages"][1]
    assert (answer["state"], answer["content"], answer["error"]["code"]) == ("error", "It ", "engine_lost")


async def test_nobody_sees_the_chats_of_others(box: Box, client: httpx.AsyncClient) -> None:
    for name in ("li", "wu"):
        await asyncio.to_thread(make_user, box, name, Role.USER)
    async with log_in(box, "li") as li, log_in(box, "wu") as wu:
        mine = await new_chat(li)
        answer = await answered(li, mine, "A secret about lions")
        file = (await li.post("/api/attachments", content=b"text", headers={"X-File-Name": "a.txt"})).json()
        hers = await new_chat(wu)
        for other in (wu, client):
            assert (await other.get("/api/chats", params={"query": "lions"})).json()["items"] == []
            paths = [f"/api/chats/{mine}", f"/api/chats/{mine}/export", f"/api/attachments/{file['id']}"]
            for path in [*paths, f"/api/chats/{mine}/answers/{answer['id']}/events"]:
                assert (await other.get(path)).status_code == 404, path
            for path in (f"answers/{answer['id']}/stop", f"answers/{answer['id']}/answer_now"):
                assert (await other.post(f"/api/chats/{mine}/{path}")).status_code == 404
            taken = await other.post(f"/api/chats/{mine}/messages", json={"content": "Hi"})
            assert taken.status_code == 404
            assert (await other.delete(f"/api/chats/{mine}")).status_code == 404
        stolen = await wu.post(f"/api/chats/{hers}/messages", json={"content": "Hi", "attachment_ids": [file["id"]]})
        assert (stolen.status_code, stolen.json()["error"]["code"]) == (404, "attachment_not_found")
        foreign = await wu.post(f"/api/chats/{hers}/messages", json={"content": "Hi", "parent_id": answer["id"]})
        assert (foreign.status_code, foreign.json()["error"]["code"]) == (404, "message_not_found")
        assert (await wu.delete("/api/chats")).json() == {"deleted": 1}
        assert len((await li.get("/api/chats", params={"query": "lions"})).json()["items"]) == 1


async def test_page_users_pay_like_keys(box: Box) -> None:
    user_id = await asyncio.to_thread(make_user, box, "li", Role.USER)
    async with log_in(box, "li") as li:
        await answered(li, await new_chat(li), "2+2?")
    records = list(box.writer._waiting)
    assert [(record.subject, record.path, record.finish) for record in records] == [
        (f"user:{user_id}", records[0].path, "stop")
    ]
    assert records[0].thinking_tokens > 0
    assert box.engine.requests[-1].owner == f"user:{user_id}"


async def test_files_go_into_the_prompt_by_the_official_template(box: Box, client: httpx.AsyncClient) -> None:
    sent = await client.post(
        "/api/attachments",
        params={"model": MODEL},
        content="a;b\r\n1;2".encode("gb18030"),
        headers={"X-File-Name": "%E8%A1%A8.csv"},
    )
    file = sent.json()
    assert (sent.status_code, file["name"], file["kind"], file["characters"]) == (201, "表.csv", "csv", 7)
    assert file["tokens"] == 2
    fields = {"content": "Sum?", "attachment_ids": [file["id"]]}
    first = (await client.post("/api/chats/count", json=fields)).json()
    chat_id = await new_chat(client)
    counted = (await client.post(f"/api/chats/{chat_id}/count", json=fields)).json()
    assert first == counted
    answer = await answered(client, chat_id, **fields)
    assert "[file name]: 表.csv\n[file content begin]\na;b\n1;2\n[file content end]\nSum?" in box.engine.prompts[-1]
    assert (counted["fits"], counted["prompt_tokens"]) == (True, answer["usage"]["prompt"])
    assert counted["context_tokens"] - counted["prompt_tokens"] == counted["answer_room"]
    question = (await tree(client, chat_id))["messages"][0]
    assert [one["name"] for one in question["attachments"]] == ["表.csv"]
    await answered(client, chat_id, "Mean?", parent_id=None, attachment_ids=[file["id"]])
    used = await client.delete(f"/api/attachments/{file['id']}")
    assert (used.status_code, used.json()["error"]["code"]) == (409, "attachment_in_use")
    elsewhere = await client.post(f"/api/chats/{await new_chat(client)}/messages", json=fields)
    assert (elsewhere.status_code, elsewhere.json()["error"]["code"]) == (409, "attachment_in_use")
    assert (await client.delete(f"/api/chats/{chat_id}")).status_code == 204
    assert (await client.get(f"/api/attachments/{file['id']}")).status_code == 404


async def test_what_does_not_fit_is_counted_and_refused(client: httpx.AsyncClient) -> None:
    chat_id = await new_chat(client)
    fields = {"content": "words " * 2000}
    counted = (await client.post(f"/api/chats/{chat_id}/count", json=fields)).json()
    assert (counted["fits"], counted["answer_room"], counted["context_tokens"]) == (False, 0, 512)
    refused = await client.post(f"/api/chats/{chat_id}/messages", json=fields)
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "context_length_exceeded")
    assert (await tree(client, chat_id))["messages"] == []


async def test_a_chat_that_is_not_there_yet_is_counted_from_its_beginning(client: httpx.AsyncClient) -> None:
    answer = await client.post("/api/chats/count", json={"content": "x", "parent_id": 1})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_value")
    answer = await client.post("/api/chats/count", json={"content": "x", "model": "gone"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")
    assert (await client.get("/api/chats")).json()["items"] == []


async def test_list_search_rename_pin_and_delete(client: httpx.AsyncClient) -> None:
    ids = []
    for question in ("Wie spät ist es?", "合同什么时候到期？", "Contract of 2019"):
        ids.append(await new_chat(client))
        await answered(client, ids[-1], question)
    listed = (await client.get("/api/chats", params={"limit": 2})).json()
    assert [item["id"] for item in listed["items"]] == [ids[2], ids[1]]
    rest = (await client.get("/api/chats", params={"cursor": listed["next_cursor"]})).json()
    assert ([item["id"] for item in rest["items"]], rest["next_cursor"]) == ([ids[0]], None)
    await client.patch(f"/api/chats/{ids[0]}", json={"pinned": True, "title": "  Uhr\n zeit "})
    first = (await client.get("/api/chats")).json()["items"][0]
    assert (first["id"], first["title"], first["pinned"]) == (ids[0], "Uhr zeit", True)
    for query, wanted in (
        ("合同", ids[1]),
        ("到期", ids[1]),
        ("CONTRACT 2019", ids[2]),
        ("uhr", ids[0]),
        ("期", ids[1]),
    ):
        found = (await client.get("/api/chats", params={"query": query})).json()["items"]
        assert [item["id"] for item in found] == [wanted], query
    snippet = (await client.get("/api/chats", params={"query": "合同"})).json()["items"][0]["snippet"]
    start, length = snippet["marks"][0]
    assert snippet["text"][start : start + length] == "合同"
    assert (await client.delete(f"/api/chats/{ids[1]}")).status_code == 204
    assert (await client.get("/api/chats", params={"query": "合同"})).json()["items"] == []
    assert (await client.delete("/api/chats")).json() == {"deleted": 2}
    assert (await client.get("/api/chats")).json()["items"] == []


async def test_deleting_a_chat_stops_its_answer(box: Box, client: httpx.AsyncClient) -> None:
    engine = box.use(FakeEngine(("</think>", "It "), hold_after=1))
    chat_id = await new_chat(client)
    await ask(client, chat_id, "2+2?")
    await engine.wait_active(1)
    assert (await client.delete(f"/api/chats/{chat_id}")).status_code == 204
    assert box.admission.stats().running == 0
    assert engine.aborted


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({}, "invalid_value"),
        ({"content": ""}, "invalid_value"),
        ({"content": "x", "parent_id": 0}, "invalid_value"),
        ({"content": "x", "parent_id": 2**60}, "invalid_value"),
        ({"content": "x", "parent_id": 12345}, "message_not_found"),
        ({"content": "x", "effort": "huge"}, "invalid_value"),
        ({"content": "x", "model": "gone"}, "model_not_found"),
        ({"content": "x", "attachment_ids": [77]}, "attachment_not_found"),
        ({"parent_id": 1, "attachment_ids": [1]}, "invalid_value"),
        ({"content": "x", "surprise": 1}, "unknown_parameter"),
    ],
)
async def test_bad_questions(client: httpx.AsyncClient, fields: dict[str, Any], code: str) -> None:
    chat_id = await new_chat(client)
    for path in ("messages", "count"):
        answer = await client.post(f"/api/chats/{chat_id}/{path}", json=fields)
        assert (400 <= answer.status_code < 500, answer.json()["error"]["code"]) == (True, code)


async def test_a_question_below_a_question_and_an_answer_below_an_answer(client: httpx.AsyncClient) -> None:
    chat_id = await new_chat(client)
    answer = await answered(client, chat_id, "2+2?")
    for fields in ({"content": "x", "parent_id": answer["parent_id"]}, {"parent_id": answer["id"]}):
        refused = await client.post(f"/api/chats/{chat_id}/messages", json=fields)
        assert (refused.status_code, refused.json()["error"]["code"]) == (400, "bad_parent")


async def test_below_an_answer_that_is_being_written(box: Box, client: httpx.AsyncClient) -> None:
    engine = box.use(FakeEngine(("</think>", "It "), hold_after=1))
    chat_id = await new_chat(client)
    answer_id = (await ask(client, chat_id, "2+2?"))["answer"]["id"]
    refused = await client.post(f"/api/chats/{chat_id}/messages", json={"content": "x", "parent_id": answer_id})
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "answer_running")
    await engine.resume()


@pytest.mark.parametrize(
    "query", [{"cursor": "x"}, {"cursor": "0.1.1", "query": "abc"}, {"query": "a b c d e f g h i"}]
)
async def test_bad_lists(client: httpx.AsyncClient, query: dict[str, str]) -> None:
    answer = await client.get("/api/chats", params=query)
    assert (answer.status_code, answer.json()["error"]["code"]) in [(400, "bad_cursor"), (400, "bad_search")]


async def test_the_page_at_its_start(box: Box, client: httpx.AsyncClient, stranger: httpx.AsyncClient) -> None:
    told = (await stranger.get("/api/page")).json()
    assert (told["user"], told["setup_needed"], told["version"], told["models"]) == (None, True, None, [])
    await asyncio.to_thread(make_user, box, "li", Role.ADMIN)
    async with log_in(box, "li") as li:
        told = (await li.get("/api/page")).json()
        assert (told["user"]["name"], told["setup_needed"], told["version"]) == ("li", False, "1.2.3")
        assert told["user"]["csrf_token"] == li.headers["X-R1Box-CSRF"]
    assert [model["id"] for model in told["models"]] == ["tiny", "org/Tiny-R1"]
    assert told["limits"]["answers_at_once"] == 4
    revoked = await stranger.get("/api/page", headers={"Authorization": "Bearer nonsense"})
    assert revoked.json()["user"] is None


async def until(read: Any, condition: Any) -> None:
    """Let others run until the condition holds."""
    async with asyncio.timeout(20):
        while not condition(read()):
            await asyncio.sleep(0)
