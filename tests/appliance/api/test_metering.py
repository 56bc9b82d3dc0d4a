"""What keys may use, as their clients see it: refusals with numbers, headers, usage and the request log."""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace
from typing import Any

import httpx
import openai as openai_package
import pytest
from openai import AsyncOpenAI

from appliance.api.metering import duration
from appliance.engine.request import Priority
from appliance.security.identity import KeyPriority, Policy
from appliance.security.keys import Grant
from appliance.security.roles import Role
from tests.appliance.api.box import ANSWER, MODEL, Box
from tests.appliance.api.people import log_in, make_user
from tests.fakes.engine import FakeEngine

CHAT = "/v1/chat/completions"
BODY: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": "hello"}]}


async def key_with(box: Box, **policy: Any) -> dict[str, str]:
    created = await asyncio.to_thread(box.keys.create, "limited", Grant(policy=Policy(**policy)))
    return {"Authorization": f"Bearer {created.secret}"}


async def usage(client: httpx.AsyncClient, box: Box, **query: Any) -> list[dict[str, Any]]:
    await asyncio.to_thread(box.writer.flush)
    return list((await client.get("/api/admin/usage", params=query)).json()["items"])


async def requests(client: httpx.AsyncClient, box: Box) -> list[dict[str, Any]]:
    await asyncio.to_thread(box.writer.flush)
    return list((await client.get("/api/admin/requests")).json()["items"])


async def test_requests_per_minute(stranger: httpx.AsyncClient, box: Box) -> None:
    headers = await key_with(box, requests_per_minute=2)
    first = await stranger.post(CHAT, json=BODY, headers=headers)
    assert first.headers["x-ratelimit-limit-requests"] == "2"
    assert first.headers["x-ratelimit-remaining-requests"] == "1"
    assert re.fullmatch(r"(30|2\d(\.\d+)?)s", first.headers["x-ratelimit-reset-requests"])
    await stranger.post(CHAT, json=BODY, headers=headers)
    third = await stranger.post(CHAT, json=BODY, headers=headers)
    error = third.json()["error"]
    assert (third.status_code, error["code"], error["type"]) == (429, "rate_limit_exceeded", "rate_limit_error")
    assert "2 requests per minute" in error["message"]
    assert 1 <= int(third.headers["retry-after"]) <= 30
    assert third.headers["x-ratelimit-remaining-requests"] == "0"
    # What asks no model is not counted.
    assert (await stranger.get("/v1/models", headers=headers)).status_code == 200


async def test_the_official_client_takes_it_for_a_rate_limit(box: Box, address: str) -> None:
    headers = await key_with(box, requests_per_minute=1)
    key = headers["Authorization"].removeprefix("Bearer ")
    client = await asyncio.to_thread(AsyncOpenAI, base_url=f"{address}/v1", api_key=key, max_retries=0)
    async with client:
        await client.chat.completions.create(model=MODEL, messages=BODY["messages"])
        with pytest.raises(openai_package.RateLimitError) as caught:
            await client.chat.completions.create(model=MODEL, messages=BODY["messages"], stream=True)
    assert caught.value.response.headers["retry-after"]


async def test_tokens_per_day_with_thinking(client: httpx.AsyncClient, stranger: httpx.AsyncClient, box: Box) -> None:
    headers = await key_with(box, tokens_per_day=100)
    answer = await stranger.post(CHAT, json=BODY, headers=headers)
    used = answer.json()["usage"]["total_tokens"]
    assert answer.json()["usage"]["completion_tokens_details"]["reasoning_tokens"] > 0
    # The answer could have been as long as the day allowed, and its client is told.
    assert "max_tokens=" in answer.headers["x-r1box-changed"]
    again = await stranger.post(CHAT, json={**BODY, "max_tokens": 5}, headers=headers)
    assert again.headers["x-ratelimit-limit-day-tokens"] == "100"
    refused = await stranger.post(CHAT, json={**BODY, "max_tokens": 100}, headers=headers)
    error = refused.json()["error"]
    assert (refused.status_code, error["code"]) == (429, "quota_exceeded")
    spent = used + again.json()["usage"]["total_tokens"]
    assert f"{spent} are used" in error["message"]
    [row] = await usage(client, box, by=["key"], key_id=2)
    assert (row["name"], row["requests"], row["errors"], row["total_tokens"]) == ("limited", 3, 1, spent)


async def test_requests_at_once_do_not_go_over_together(stranger: httpx.AsyncClient, box: Box) -> None:
    engine = box.use(FakeEngine(ANSWER, hold_after=1))
    headers = await key_with(box, tokens_per_day=60)
    first = asyncio.create_task(stranger.post(CHAT, json={**BODY, "max_tokens": 20}, headers=headers))
    await engine.wait_active(1)
    second = await stranger.post(CHAT, json={**BODY, "max_tokens": 40}, headers=headers)
    assert second.json()["error"]["code"] == "quota_exceeded"
    assert second.headers["retry-after"] == "5"
    assert "set aside for running requests" in second.json()["error"]["message"]
    await engine.resume()
    assert (await first).status_code == 200
    third = await stranger.post(CHAT, json={**BODY, "max_tokens": 20}, headers=headers)
    assert third.status_code == 200


async def test_models_that_a_key_may_not_use(stranger: httpx.AsyncClient, box: Box) -> None:
    headers = await key_with(box, models=("other/model",))
    refused = await stranger.post(CHAT, json=BODY, headers=headers)
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "model_not_allowed")
    assert "other/model" in refused.json()["error"]["message"]


async def test_the_engine_hears_who_it_is(stranger: httpx.AsyncClient, box: Box) -> None:
    model = box.models[MODEL]
    box.models[MODEL] = replace(model, profile=replace(model.profile, temperature_band=(0.5, 0.7)))
    headers = await key_with(box, priority=KeyPriority.BATCH, may_override_sampling=True)
    answer = await stranger.post(CHAT, json={**BODY, "temperature": 1.4}, headers=headers)
    assert answer.status_code == 200
    [request] = box.engine.requests
    assert (request.owner, request.priority, request.sampling.temperature) == ("key:2", Priority.BATCH, 1.4)
    await asyncio.to_thread(make_user, box, "li", Role.USER)
    async with log_in(box, "li") as li:
        assert (await li.post(CHAT, json={**BODY, "temperature": 1.4})).status_code == 200
    request = box.engine.requests[-1]
    assert (request.owner, request.priority, request.sampling.temperature) == ("user:1", Priority.INTERACTIVE, 0.7)


async def test_where_a_keys_clients_want_the_thought(stranger: httpx.AsyncClient, box: Box) -> None:
    headers = await key_with(box, reasoning_format="hidden")
    message = (await stranger.post(CHAT, json=BODY, headers=headers)).json()["choices"][0]["message"]
    assert "reasoning_content" not in message
    asked = {**BODY, "reasoning_format": "reasoning"}
    message = (await stranger.post(CHAT, json=asked, headers=headers)).json()["choices"][0]["message"]
    assert message["reasoning"]


async def test_a_stream_is_counted_too_and_so_is_one_that_is_left(client: httpx.AsyncClient, box: Box) -> None:
    answer = await client.post(CHAT, json={**BODY, "stream": True, "stream_options": {"include_usage": True}})
    assert answer.text.endswith("data: [DONE]\n\n")
    await client.post(CHAT, json={**BODY, "model": "nobody"})
    await client.post(CHAT, json={**BODY, "max_tokens": 100_000})
    rows = await requests(client, box)
    assert [(row["finish"], row["error_code"], row["model"]) for row in rows] == [
        ("refused", "context_length_exceeded", MODEL),
        ("refused", "model_not_found", ""),
        ("stop", None, MODEL),
    ]
    whole = rows[-1]
    assert (whole["name"], whole["subject"], whole["path"]) == ("tester", "key:1", CHAT)
    assert whole["request_id"] == answer.headers["x-request-id"]
    assert (whole["answer_tokens"], whole["cached_tokens"]) == (len(ANSWER), 1)
    assert 0 < whole["thinking_tokens"] < whole["answer_tokens"]
    assert whole["duration_s"] >= whole["first_token_s"] >= whole["queued_s"] >= 0


async def test_a_client_that_leaves_pays_for_what_was_made(client: httpx.AsyncClient, box: Box) -> None:
    engine = box.use(FakeEngine(ANSWER, hold_after=3))
    left = asyncio.create_task(client.post(CHAT, json=BODY))
    await engine.wait_active(1)
    await engine.let_go(0)
    left.cancel()
    await asyncio.gather(left, return_exceptions=True)
    await engine.wait_active(0)
    while box.admission.stats().running:
        await asyncio.sleep(0)
    [row] = await requests(client, box)
    assert row["finish"] == "aborted"
    assert row["prompt_tokens"] > 0
    assert row["answer_tokens"] <= 3


async def test_sums_are_the_sums_of_the_log_and_csv_says_the_same(client: httpx.AsyncClient, box: Box) -> None:
    for _ in range(5):
        await client.post(CHAT, json=BODY)
        await asyncio.to_thread(box.writer.flush)
    rows = await requests(client, box)
    [summed] = await usage(client, box)
    for name in ("prompt_tokens", "cached_tokens", "thinking_tokens", "answer_tokens"):
        assert summed[name] == sum(row[name] for row in rows)
    assert summed["requests"] == 5
    assert summed["duration_s"] == pytest.approx(sum(row["duration_s"] for row in rows))
    csv = await client.get("/api/admin/usage", params={"format": "csv"})
    assert csv.headers["content-type"] == "text/csv; charset=utf-8"
    head, line = csv.text.splitlines()
    assert dict(zip(head.split(","), line.split(","), strict=True))["total_tokens"] == str(summed["total_tokens"])
    [everything] = await usage(client, box, by=["model"])
    assert (everything["day"], everything["subject"], everything["model"]) == (None, None, MODEL)


async def test_what_keys_do_to_the_box_is_in_the_audit_log(client: httpx.AsyncClient, box: Box) -> None:
    made = await client.post("/api/admin/keys", json={"name": "app", "tokens_per_day": 5, "models": ["m"]})
    assert made.status_code == 201
    key_id = made.json()["id"]
    changed = await client.put(f"/api/admin/keys/{key_id}", json={"scopes": ["metrics"]})
    assert (changed.json()["scopes"], changed.json()["tokens_per_day"]) == (["metrics"], None)
    assert (await client.delete(f"/api/admin/keys/{key_id}")).json()["revoked_at"]
    assert (await client.delete(f"/api/admin/keys/{key_id}")).status_code == 404
    rows = (await client.get("/api/admin/audit", params={"action": "key.", "limit": 3})).json()
    told = [(row["action"], row["target"], row["actor_kind"], row["actor_name"]) for row in rows["items"]]
    assert told == [(f"key.{what}", "app", "key", "tester") for what in ("revoke", "change", "create")]
    assert rows["items"][-1]["details"] == {"id": key_id, "models": ["m"], "scopes": ["inference"], "tokens_per_day": 5}
    assert made.json()["key"] not in str(rows)
    rest = (await client.get("/api/admin/audit", params={"action": "key.", "before": rows["next"]})).json()
    assert [row["target"] for row in rest["items"]] == ["tester"]
    verdict = (await client.get("/api/admin/audit/verify")).json()
    assert verdict["whole"] is True
    exported = (await client.get("/api/admin/audit/export")).text.splitlines()
    assert len(exported) == verdict["rows"] + 1
    kept = {"known_hash": verdict["head_hash"]}
    assert (await client.get("/api/admin/audit/verify", params=kept)).json()["whole"] is True
    assert (await client.get("/api/admin/audit/verify", params={"known_hash": "0" * 64})).json()["whole"] is False


async def test_lists_come_in_pages(client: httpx.AsyncClient, box: Box) -> None:
    for number in range(5):
        await client.post("/api/admin/keys", json={"name": f"app-{number}"})
    seen, after = [], 0
    while after is not None:
        page = (await client.get("/api/admin/keys", params={"limit": 2, "after": after, "query": "APP"})).json()
        seen += [key["name"] for key in page["items"]]
        after = page["next"]
    assert seen == [f"app-{number}" for number in range(5)]
    assert (await client.get("/api/admin/keys", params={"limit": 0})).status_code == 400


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0ms"), (0.02, "20ms"), (1, "1s"), (1.5, "1.5s"), (59.9994, "59.999s"), (60, "1m0s"), (360, "6m0s"),
     (3_725.1, "1h2m6s")],
)  # fmt: skip
def test_durations_as_openai_writes_them(seconds: float, text: str) -> None:
    assert duration(seconds) == text
