"""The log over HTTP: pages, filters, events, and who may read it."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx

from appliance.security.keys import Grant
from appliance.security.roles import Permission
from tests.appliance.api.box import MODEL, Box

URL = "/api/admin/logs"


async def lines(client: httpx.AsyncClient, **query: Any) -> list[dict[str, Any]]:
    response = await client.get(URL, params=query)
    assert response.status_code == 200, response.text
    items: list[dict[str, Any]] = response.json()["items"]
    return items


async def test_the_lines_of_one_request(client: httpx.AsyncClient) -> None:
    body = {"model": MODEL, "messages": [{"role": "user", "content": "my very own question"}]}
    answer = await client.post("/v1/chat/completions", json=body)
    await client.get("/v1/models")
    found = await lines(client, request_id=answer.headers["x-request-id"])
    assert found
    last = found[-1]
    assert (last["event"], last["level"], last["part"]) == ("request", "info", "api")
    assert (last["fields"]["path"], last["fields"]["status"], last["fields"]["caller"]) == (
        "/v1/chat/completions",
        200,
        "tester",
    )
    assert {line["request_id"] for line in found} == {answer.headers["x-request-id"]}
    everything = json.dumps(await lines(client, limit=2_000))
    assert "/v1/models" in everything
    assert "my very own question" not in everything


async def test_keys_and_passwords_are_not_in_it(
    client: httpx.AsyncClient, stranger: httpx.AsyncClient, box: Box
) -> None:
    await stranger.get("/v1/models", headers={"Authorization": "Bearer r1b_wrongwrongwrong"})
    await stranger.get("/v1/models", params={"key": box.key})
    await stranger.post("/api/auth/login", json={"name": "chen", "password": "hunter2hunter2"})
    text = json.dumps(await lines(client, limit=2_000))
    assert "/api/auth/login" in text
    for secret in (box.key[4:], "wrongwrong", "hunter2"):
        assert secret not in text


async def test_filters_and_pages(client: httpx.AsyncClient) -> None:
    for _ in range(5):
        await client.get("/v1/models")
    assert {line["part"] for line in await lines(client, part="api", level="info")} == {"api"}
    assert await lines(client, level="critical") == []
    assert await lines(client, text="no such words") == []
    first = (await client.get(URL, params={"text": "/V1/MODELS", "limit": 3})).json()
    assert len(first["items"]) == 3
    second = (await client.get(URL, params={"text": "/v1/models", "limit": 3, "before": first["next"]})).json()
    assert (len(second["items"]), second["next"]) == (2, None)
    numbers = [line["seq"] for line in (*second["items"], *first["items"])]
    assert numbers == sorted(set(numbers))
    since = first["items"][1]["at"]
    assert len(await lines(client, text="/v1/models", since=since)) == 2
    for bad in ({"level": "loud"}, {"since": "yesterday"}, {"limit": 0}, {"lines": 3}):
        assert (await client.get(URL, params=bad)).status_code == 400


async def test_following(client: httpx.AsyncClient, address: str, box: Box) -> None:
    await client.get("/v1/models")
    async with httpx.AsyncClient(base_url=address, headers=box.authorization, trust_env=False) as watching:
        query = {"part": "api", "level": "info", "tail": 1}
        async with watching.stream("GET", f"{URL}/events", params=query) as stream:
            assert stream.headers["content-type"].startswith("text/event-stream")
            got: list[dict[str, Any]] = []
            number = ""
            async for line in stream.aiter_lines():
                if line.startswith("id: "):
                    number = line.removeprefix("id: ")
                if line.startswith("data: "):
                    got.append(json.loads(line.removeprefix("data: ")))
                    assert got[-1]["seq"] == int(number)
                    if len(got) == 2:
                        break
                    await client.get("/v1/models/none")
        assert [line["fields"]["path"] for line in got] == ["/v1/models", "/v1/models/none"]
        # A browser that lost its connection comes back with the last number it saw.
        came_back = {"Last-Event-ID": str(got[0]["seq"])}
        async with watching.stream("GET", f"{URL}/events", params=query, headers=came_back) as stream:
            async for line in stream.aiter_lines():
                if line.startswith("data: "):
                    assert json.loads(line.removeprefix("data: "))["seq"] > got[0]["seq"]
                    break


async def test_whoever_sees_no_accounts_sees_no_log(stranger: httpx.AsyncClient, box: Box) -> None:
    others = frozenset(Permission) - {Permission.ACCOUNTS_READ}
    key = (await asyncio.to_thread(box.keys.create, "reader", Grant(scopes=others))).secret
    for path in (URL, f"{URL}/events"):
        assert (await stranger.get(path)).status_code == 401
        refused = await stranger.get(path, headers={"Authorization": f"Bearer {key}"})
        assert (refused.status_code, refused.json()["error"]["code"]) == (403, "forbidden")
