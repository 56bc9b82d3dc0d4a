"""What keys may use, as their clients see it: refusals with numbers, headers, usage and the request log."""

from __future__ import annotations

import asyncio
import csv
import json
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import openai as openai_package
import pytest
from openai import AsyncOpenAI

from appliance.api import metering
from appliance.api.metering import duration
from appliance.engine.request import Priority
from appliance.security.audit import AuditFilter
from appliance.security.identity import KeyPriority, Policy
from appliance.security.keys import CreatedKey, Grant
from appliance.security.roles import Role
from appliance.usage.report import UsageReport
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


async def test_a_persons_limits_hold_for_keys_and_sessions_together(
    client: httpx.AsyncClient, stranger: httpx.AsyncClient, box: Box
) -> None:
    chen = await asyncio.to_thread(make_user, box, "chen", Role.USER)
    keys = [
        await asyncio.to_thread(box.keys.create, name, Grant(user_id=chen, policy=Policy(tokens_per_day=10_000)))
        for name in ("one", "two")
    ]
    changed = await client.patch(f"/api/admin/users/{chen}", json={"requests_per_minute": 3, "tokens_per_day": 100})
    assert (changed.json()["requests_per_minute"], changed.json()["tokens_per_day"]) == (3, 100)
    one, two = ({"Authorization": f"Bearer {key.secret}"} for key in keys)
    body = {**BODY, "max_tokens": 16}
    first = await stranger.post(CHAT, json=body, headers=one)
    used = first.json()["usage"]["total_tokens"]
    # The person's day is shorter than the key's, and both keys draw on it.
    assert first.headers["x-ratelimit-limit-day-tokens"] == "100"
    second = await stranger.post(CHAT, json=body, headers=two)
    assert int(second.headers["x-ratelimit-remaining-day-tokens"]) <= 100 - used
    async with log_in(box, "chen") as browser:
        assert (await browser.post(CHAT, json=body)).status_code == 200
        refused = await browser.post(CHAT, json=body)
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "rate_limit_exceeded")
        assert refused.json()["error"]["message"].startswith("This person may use 3 requests per minute")
    # Another person's are not touched, and a limit goes with null.
    assert (await client.post(CHAT, json=body)).status_code == 200
    await client.patch(f"/api/admin/users/{chen}", json={"requests_per_minute": None})
    long = await stranger.post(CHAT, json={**BODY, "max_tokens": 200}, headers=one)
    assert (long.status_code, long.json()["error"]["code"]) == (429, "quota_exceeded")
    assert "This person may use 100 tokens per day" in long.json()["error"]["message"]
    unlimited = await client.patch(f"/api/admin/users/{chen}", json={"tokens_per_day": None, "language": "zh"})
    assert (unlimited.json()["tokens_per_day"], unlimited.json()["language"]) == (None, "zh")
    assert (await stranger.post(CHAT, json={**BODY, "max_tokens": 200}, headers=one)).status_code == 200
    # What a restart begins with.
    await asyncio.to_thread(box.writer.flush)
    today = await asyncio.to_thread(UsageReport(box.database).used_tokens, datetime.now(UTC).date())
    assert today[f"person:{chen}"] == sum(tokens for name, tokens in today.items() if name in _of(chen, keys))


def _of(user_id: int, keys: list[CreatedKey]) -> set[str]:
    return {f"user:{user_id}", *(f"key:{key.record.id}" for key in keys)}


async def test_usage_by_person_has_names(client: httpx.AsyncClient, stranger: httpx.AsyncClient, box: Box) -> None:
    chen = await asyncio.to_thread(make_user, box, "chen", Role.USER)
    key = await asyncio.to_thread(box.keys.create, "app", Grant(user_id=chen))
    await stranger.post(CHAT, json=BODY, headers={"Authorization": f"Bearer {key.secret}"})
    async with log_in(box, "chen") as browser:
        await browser.post(CHAT, json=BODY)
    await client.post(CHAT, json=BODY)
    rows = await usage(client, box, by="user")
    assert [(row["user_id"], row["user_name"], row["requests"]) for row in rows] == [(None, None, 1), (chen, "chen", 2)]
    text = (await client.get("/api/admin/usage", params={"by": "user", "format": "csv"})).text
    head, *lines = list(csv.reader(text.splitlines()))
    column = head.index("user_name")
    assert [line[column] for line in lines] == ["", "chen"]


async def test_prompts_are_kept_only_where_that_is_switched_on(
    client: httpx.AsyncClient, box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def kept(answer: httpx.Response) -> list[dict[str, Any]]:
        await asyncio.to_thread(box.writer.flush)
        url = f"/api/admin/requests/{answer.headers['x-request-id']}/text"
        return list((await client.get(url)).json()["items"])

    def everything() -> str:
        with box.database.connect() as connection:
            tables = ("prompt_log", "request_log", "usage_day", "audit_event")
            return str([connection.exec_driver_sql(f"SELECT * FROM {name}").all() for name in tables])

    secret = {**BODY, "messages": [{"role": "user", "content": "my own question"}]}
    assert await kept(await client.post(CHAT, json=secret)) == []
    assert "my own question" not in await asyncio.to_thread(everything)
    box.metering.keeps_text = True
    for stream in (False, True):
        answer = await client.post(CHAT, json={**secret, "stream": stream})
        [text] = await kept(answer)
        assert json.loads(text["prompt"]) == {"role": "user", "content": "my own question"}
        assert text["answer"] == "<think>two and two</think>It is 4."
        assert text["is_cut"] is False
    monkeypatch.setattr(metering, "MOST_CHARS", 8)
    [text] = await kept(await client.post(CHAT, json=secret))
    assert (text["is_cut"], text["prompt"], text["answer"]) == (True, '{"role":', "<think>t")
    # Whoever looked is in the audit log.
    rows = await asyncio.to_thread(box.accounts.audit.list, AuditFilter(action="prompt.read"))
    assert len(rows) == 4
    box.metering.keeps_text = False
    assert await kept(await client.post(CHAT, json=secret)) == []


async def test_what_is_old_or_too_much_goes(client: httpx.AsyncClient, box: Box) -> None:
    box.metering.keeps_text = True
    for _ in range(4):
        await client.post(CHAT, json=BODY)
    await asyncio.to_thread(box.writer.flush)
    report = UsageReport(box.database)

    def size() -> int:
        with box.database.connect() as connection:
            return int(connection.exec_driver_sql("SELECT coalesce(sum(size_bytes), 0) FROM prompt_log").scalar() or 0)

    whole = await asyncio.to_thread(size)
    assert await asyncio.to_thread(lambda: report.trim_texts(keep_days=30, keep_bytes=whole)) == 0
    assert await asyncio.to_thread(lambda: report.trim_texts(keep_days=30, keep_bytes=whole // 2)) == 2
    assert await asyncio.to_thread(size) == whole // 2
    later = datetime.now(UTC) + timedelta(days=40)
    assert await asyncio.to_thread(lambda: report.trim_texts(keep_days=30, keep_bytes=whole, now=later)) == 2
    # As with store_prompts switched off: nothing stays.
    await client.post(CHAT, json=BODY)
    await asyncio.to_thread(box.writer.flush)
    assert await asyncio.to_thread(lambda: report.trim_texts(keep_days=30, keep_bytes=0)) == 1

    lines = (await client.get("/api/admin/requests/export")).text.splitlines()
    assert [json.loads(line)["finish"] for line in lines] == ["stop"] * 5
    today = datetime.now(UTC).date()
    assert await asyncio.to_thread(lambda: report.trim_days(keep_days=31, today=today)) == 0
    assert await asyncio.to_thread(lambda: report.trim_days(keep_days=31, today=today + timedelta(days=32))) == 1
