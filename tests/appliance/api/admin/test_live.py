"""Who is answered and who waits, and how an operator ends one of them."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Any

import httpx

from tests.appliance.api.box import ANSWER, MODEL, Box
from tests.fakes.engine import FakeEngine

URL = "/api/admin/requests/live"
BODY = {"model": MODEL, "messages": [{"role": "user", "content": "What is two and two?"}], "stream": True}


async def listed(client: httpx.AsyncClient, count: int) -> dict[str, Any]:
    """The list, as soon as it has that many."""
    while True:
        told: dict[str, Any] = (await client.get(URL)).json()
        if len(told["requests"]) == count:
            return told


async def test_one_is_answered_and_one_waits(client: httpx.AsyncClient, address: str, box: Box) -> None:
    box.use(FakeEngine(ANSWER, hold_after=2))
    box.admission.resize(1)
    box.manager.info = replace(box.engine.info, seats=1)
    async with httpx.AsyncClient(base_url=address, headers=box.authorization, timeout=30) as people:
        first = asyncio.create_task(people.post("/v1/chat/completions", json=BODY))
        await listed(client, 1)
        second = asyncio.create_task(people.post("/v1/chat/completions", json={**BODY, "max_tokens": 50}))
        told = await listed(client, 2)
        while told["requests"][0]["generated_tokens"] < 2:
            told = await listed(client, 2)
        running, waiting = told["requests"]
        assert (told["running"], told["waiting"]) == (1, 1)
        assert (running["state"], running["position"], running["model"]) == ("thinking", None, MODEL)
        assert (running["name"], running["generated_tokens"], running["thinking_tokens"]) == ("tester", 2, 2)
        assert (waiting["state"], waiting["position"], waiting["most_tokens"]) == ("queued", 1, 50)
        assert waiting["prompt_tokens"] == running["prompt_tokens"] > 0
        assert (await client.get(URL, params={"limit": 1})).json()["requests"][0]["id"] == running["id"]

        # Who waits is ended before its turn; who is answered hears it in the stream.
        assert (await client.delete(f"{URL}/{waiting['id']}")).status_code == 204
        assert "ended_by_operator" in (await second).text
        assert (await client.delete(f"{URL}/{running['id']}")).status_code == 204
        text = (await first).text
        errors = [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {") and "error" in line]
        assert errors[-1]["error"]["code"] == "ended_by_operator"
        assert box.engine.aborted == [running["id"]]
    assert (await listed(client, 0))["running"] == 0
    assert box.admission.stats().running == 0
    gone = await client.delete(f"{URL}/{running['id']}")
    assert (gone.status_code, gone.json()["error"]["code"]) == (404, "request_not_running")
    actions = [row.action for row in await asyncio.to_thread(box.accounts.audit.list)]
    assert actions.count("request.cancel") == 2
