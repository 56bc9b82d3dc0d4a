"""What is the same on every API that answers, each in its own form: refusals with numbers, trimming, deadlines, the R1
contract, how a thought ended. One serving layer is under all of them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import httpx
import pytest

from tests.appliance.api.box import ANSWER, MODEL, Box
from tests.fakes.engine import FAKE_INFO, FakeEngine

LONG = "long " * FAKE_INFO.context_tokens
QUESTION = "What is 2+2?"


def _usage(reply: dict[str, Any]) -> dict[str, Any]:
    usage: dict[str, Any] = reply["usage"]
    return usage


def _last(text: str, kind: str) -> dict[str, Any]:
    """The data of the last event of that type."""
    events = [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {")]
    return next(dict(event) for event in reversed(events) if event.get("type") == kind)


@dataclass(frozen=True)
class Protocol:
    """How one API is asked. ``turns`` puts turns of the user (with answers between) into a body; ``trim`` lets the
    oldest go; ``warm`` is its temperature of 1.2; ``facts`` finds what was told beside the answer, ``told`` the same in
    a stream's text."""

    path: str
    turns: Callable[[list[str]], dict[str, Any]]
    trim: dict[str, Any]
    warm: dict[str, Any]
    facts: Callable[[dict[str, Any]], dict[str, Any]]
    told: Callable[[str], dict[str, Any]]
    more: dict[str, Any] = field(default_factory=dict)
    busy: int = 503
    has_turns: bool = True

    def body(self, *texts: str, **fields: Any) -> dict[str, Any]:
        return {"model": MODEL, **self.turns(list(texts)), "stream": False, **self.more, **fields}


def _messages(texts: list[str]) -> Iterator[dict[str, Any]]:
    for number, text in enumerate(texts):
        if number:
            yield {"role": "assistant", "content": "Well."}
        yield {"role": "user", "content": text}


def _chat(texts: list[str]) -> dict[str, Any]:
    return {"messages": list(_messages(texts))}


PROTOCOLS = {
    one.path: one
    for one in (
        Protocol(
            "/v1/chat/completions",
            _chat,
            {"trim": "turns"},
            {"temperature": 1.2},
            _usage,
            lambda text: _usage(json.loads(text.split("data: ")[-2])),
        ),
        Protocol(
            "/v1/responses",
            lambda texts: {"input": list(_messages(texts))},
            {"truncation": "auto"},
            {"temperature": 1.2},
            _usage,
            lambda text: _usage(_last(text, "response.completed")["response"]),
        ),
        Protocol(
            "/v1/messages",
            _chat,
            {"trim": "turns"},
            {"temperature": 1.2},
            _usage,
            lambda text: _usage(_last(text, "message_delta")),
            more={"max_tokens": 100},
            busy=529,
        ),
        Protocol(
            "/api/chat",
            _chat,
            {"truncate": True},
            {"options": {"temperature": 1.2}},
            lambda reply: dict(reply["r1box"]),
            lambda text: dict(json.loads(text.splitlines()[-1])["r1box"]),
        ),
        Protocol(
            "/api/generate",
            lambda texts: {"prompt": texts[-1]},
            {},
            {"options": {"temperature": 1.2}},
            lambda reply: dict(reply["r1box"]),
            lambda text: dict(json.loads(text.splitlines()[-1])["r1box"]),
            has_turns=False,
        ),
    )
}
every = pytest.mark.parametrize("one", PROTOCOLS.values(), ids=PROTOCOLS)


def error_of(response: httpx.Response) -> dict[str, Any]:
    body: dict[str, Any] = response.json()
    return body["error"] if isinstance(body["error"], dict) else body | {"message": body["error"]}


@every
async def test_what_does_not_fit_is_refused_with_its_numbers(
    client: httpx.AsyncClient, box: Box, one: Protocol
) -> None:
    response = await client.post(one.path, json=one.body(LONG))
    error = error_of(response)
    assert (response.status_code, error["code"]) == (400, "context_length_exceeded")
    assert f"a seat of this model holds {FAKE_INFO.context_tokens}" in error["message"]
    assert "Shorten it by" in error["message"]
    assert box.engine.requests == []


@every
async def test_trimming_is_asked_for_and_declared(client: httpx.AsyncClient, one: Protocol) -> None:
    if not one.has_turns:
        return
    response = await client.post(one.path, json=one.body(LONG, QUESTION, **one.trim))
    assert response.status_code == 200, response.text
    assert response.headers["x-r1box-trimmed"].startswith("turns=1 tokens")
    assert one.facts(response.json())["trimmed"]["turns"] == 1


@every
async def test_how_the_thought_ended(client: httpx.AsyncClient, one: Protocol) -> None:
    whole = await client.post(one.path, json=one.body(QUESTION))
    assert one.facts(whole.json())["thinking_end"] == "natural"
    fields: dict[str, Any] = {"stream": True}
    if one.path == "/v1/chat/completions":
        fields["stream_options"] = {"include_usage": True}
    streamed = await client.post(one.path, json=one.body(QUESTION, **fields))
    assert one.told(streamed.text)["thinking_end"] == "natural"


@every
async def test_the_temperature_is_kept_in_its_band(client: httpx.AsyncClient, box: Box, one: Protocol) -> None:
    model = box.models[MODEL]
    box.models[MODEL] = replace(model, profile=replace(model.profile, temperature_band=(0.5, 0.7)))
    response = await client.post(one.path, json=one.body(QUESTION, **one.warm))
    assert "temperature=1.2->0.7" in response.headers["x-r1box-changed"]
    assert box.engine.requests[-1].sampling.temperature == 0.7


@every
async def test_a_request_that_would_wait_too_long_is_given_up(
    client: httpx.AsyncClient, box: Box, one: Protocol
) -> None:
    engine = box.use(FakeEngine(ANSWER, hold_after=1))
    running = [asyncio.create_task(client.post(one.path, json=one.body(QUESTION))) for _ in range(FAKE_INFO.seats)]
    while box.admission.stats().running < FAKE_INFO.seats:
        await asyncio.sleep(0)
    response = await client.post(one.path, json=one.body(QUESTION, deadline_s=0))
    assert (response.status_code, error_of(response)["code"]) == (one.busy, "no_seat_in_time")
    assert int(response.headers["retry-after"]) >= 1
    await engine.resume()
    assert [answered.status_code for answered in await asyncio.gather(*running)] == [200] * FAKE_INFO.seats
