"""``/metrics``: readable by Prometheus' own parser, true to what engine and queue say, and behind a key."""

from __future__ import annotations

import httpx
from prometheus_client.parser import text_string_to_metric_families

from appliance.engine.base import EngineState, EngineStatus
from tests.appliance.api.box import MODEL, Box
from tests.fakes.engine import FAKE_INFO


async def read(client: httpx.AsyncClient) -> dict[str, float]:
    response = await client.get("/metrics")
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
    return {
        sample.name + "".join(value for name, value in sample.labels.items() if name != "model"): sample.value
        for family in text_string_to_metric_families(response.text)
        for sample in family.samples
    }


async def test_a_stranger_gets_nothing(stranger: httpx.AsyncClient) -> None:
    assert (await stranger.get("/metrics")).status_code == 401


async def test_engine_and_queue_are_told(client: httpx.AsyncClient, box: Box) -> None:
    before = await read(client)
    body = {"model": MODEL, "messages": [{"role": "user", "content": "2 + 2?"}]}
    assert (await client.post("/v1/chat/completions", json=body)).status_code == 200
    after = await read(client)
    assert after["r1box_requests_admitted_total"] == before["r1box_requests_admitted_total"] + 1
    assert after["r1box_engine_generated_tokens_total"] > before["r1box_engine_generated_tokens_total"]
    assert (after["r1box_requests_running"], after["r1box_requests_waiting"]) == (0, 0)
    assert after["r1box_seat_context_tokens"] == FAKE_INFO.context_tokens
    assert (after["r1box_engine_stateready"], after["r1box_engine_statefailed"]) == (1, 0)


async def test_without_an_engine_there_are_no_engine_counters(client: httpx.AsyncClient, box: Box) -> None:
    box.manager.told = EngineStatus(state=EngineState.FAILED, error="gone", restarts=3)
    told = await read(client)
    assert (told["r1box_engine_statefailed"], told["r1box_engine_restarts"]) == (1, 3)
    assert "r1box_engine_generated_tokens_total" not in told
