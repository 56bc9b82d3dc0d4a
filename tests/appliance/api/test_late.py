"""Requests for a model that must be loaded first: who may not ask for it loads nothing, others hear how far it is."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest

from appliance.errors import ModelNotReady
from appliance.security.identity import Policy
from appliance.security.keys import Grant
from tests.appliance.api.box import MODEL, Box

ROUTES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "hello"}]},
    "/v1/completions": {"prompt": "hello"},
    "/v1/responses": {"input": "hello"},
    "/v1/messages": {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 50},
}
OTHER = "org/other"


class Loading:
    """The model is away; its load goes on step by step as it is watched, and ends well or with ``error``."""

    def __init__(self, box: Box) -> None:
        self.fractions = [0.0, 0.4, 0.4, 0.8]
        self.asked: list[str] = []
        self.error: Exception | None = None
        self.left = asyncio.Event()
        self._loaded = asyncio.Event()
        source: Any = box.manager
        source.must_load, source.progress, source.bring_up = self.must_load, self.progress, self.bring_up

    async def must_load(self, model_id: str) -> bool:
        return not self._loaded.is_set()

    def progress(self, model_id: str) -> float | None:
        if len(self.fractions) == 1:
            self._loaded.set()
            return self.fractions[0]
        return self.fractions.pop(0)

    async def bring_up(self, model_id: str) -> None:
        self.asked.append(model_id)
        try:
            await self._loaded.wait()
        except asyncio.CancelledError:
            self.left.set()
            raise
        if self.error is not None:
            raise self.error


@pytest.fixture
def loading(box: Box, monkeypatch: pytest.MonkeyPatch) -> Loading:
    monkeypatch.setattr("appliance.api.late.POLL_S", 0.001)
    return Loading(box)


@pytest.mark.parametrize("route", ROUTES)
async def test_streams_tell_how_far_the_load_is_and_then_the_answer(
    client: httpx.AsyncClient, loading: Loading, route: str
) -> None:
    answer = await client.post(route, json={"model": MODEL, "stream": True, **ROUTES[route]})
    assert answer.status_code == 200
    told = [line for line in answer.text.splitlines() if line.startswith(": loading")]
    assert told == [f": loading model={MODEL} percent={percent}" for percent in (0, 40, 80)]
    events = [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: {")]
    assert answer.text.index("percent=80") < answer.text.index("data: {")
    assert "It is " in "".join(json.dumps(event) for event in events)
    assert loading.asked == [MODEL]


@pytest.mark.parametrize("route", ROUTES)
async def test_a_load_that_fails_is_an_event(client: httpx.AsyncClient, loading: Loading, route: str) -> None:
    loading.error = ModelNotReady(reason="the disk is gone.")
    answer = await client.post(route, json={"model": MODEL, "stream": True, **ROUTES[route]})
    (event,) = [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: {")]
    told = event.get("error", event)
    assert "the disk is gone" in told["message"]
    assert "[DONE]" not in answer.text


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("route", ROUTES)
async def test_a_key_that_may_not_ask_for_a_model_does_not_load_it(
    stranger: httpx.AsyncClient, box: Box, loading: Loading, route: str, stream: bool
) -> None:
    created = await asyncio.to_thread(box.keys.create, "narrow", Grant(policy=Policy(models=(OTHER,))))
    headers = {"Authorization": f"Bearer {created.secret}"}
    answer = await stranger.post(route, json={"model": MODEL, "stream": stream, **ROUTES[route]}, headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "model_not_allowed")
    assert loading.asked == []


@pytest.mark.parametrize("route", ["/v1/chat/completions", "/v1/completions"])
async def test_a_request_that_is_wrong_loads_nothing(client: httpx.AsyncClient, loading: Loading, route: str) -> None:
    wrong = {"model": MODEL, "stream": True, "stop": [""], **ROUTES[route]}
    answer = await client.post(route, json=wrong)
    assert answer.status_code == 400
    assert loading.asked == []


@pytest.mark.parametrize("route", ROUTES)
async def test_a_client_that_leaves_ends_its_own_wait(address: str, box: Box, loading: Loading, route: str) -> None:
    loading.fractions = [0.1] * 10**6
    client = await asyncio.to_thread(httpx.AsyncClient, base_url=address, headers=box.authorization)
    async with client, client.stream("POST", route, json={"model": MODEL, "stream": True, **ROUTES[route]}) as answer:
        async for line in answer.aiter_lines():
            if line.startswith(": loading"):
                break
    await asyncio.wait_for(loading.left.wait(), 5)
