"""Chat completions through the official client and a real socket."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import httpx
import openai as openai_package
import pytest
from openai import AsyncOpenAI

from appliance.schemas.openai_response import ChatCompletion
from tests.appliance.api.box import ANSWER, MODEL, Box
from tests.fakes.engine import FAKE_INFO, FakeEngine

QUESTION: Any = [{"role": "user", "content": "What is 2+2?"}]


def body(**fields: Any) -> dict[str, Any]:
    return {"model": MODEL, "messages": QUESTION, **fields}


async def until(holds: Callable[[], bool]) -> None:
    """Let the box work until something holds; the test's time limit ends a wait in vain."""
    while not holds():
        await asyncio.sleep(0)


async def events_of(response: httpx.Response) -> list[str]:
    """The blocks of an event stream."""
    text = (await response.aread()).decode()
    assert text.endswith("\n\n")
    return text.removesuffix("\n\n").split("\n\n")


async def test_whole_answer(openai: AsyncOpenAI, box: Box) -> None:
    answer = await openai.chat.completions.create(model=MODEL, messages=QUESTION, max_tokens=50, seed=7)
    [choice] = answer.choices
    assert choice.message.content == "It is 4."
    assert choice.message.model_extra == {"reasoning_content": "two and two"}
    assert choice.finish_reason == "stop"
    assert answer.id.startswith("chatcmpl-")
    assert answer.model == MODEL
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 6
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + 6
    assert answer.usage.completion_tokens_details is not None
    assert answer.usage.completion_tokens_details.reasoning_tokens in (2, 3)
    assert answer.usage.prompt_tokens_details is not None
    assert answer.usage.prompt_tokens_details.cached_tokens == 1
    [asked] = box.engine.requests
    assert (asked.max_tokens, asked.sampling.seed) == (50, 7)


async def test_body_is_as_documented(client: httpx.AsyncClient) -> None:
    response = await client.post("/v1/chat/completions", json=body())
    ChatCompletion.model_validate_json(response.content, strict=True)
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["x-request-id"].removeprefix("req_") in response.json()["id"]


async def test_streamed_answer(openai: AsyncOpenAI) -> None:
    stream = await openai.chat.completions.create(
        model=MODEL, messages=QUESTION, stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]
    deltas = [chunk.choices[0].delta for chunk in chunks if chunk.choices]
    assert deltas[0].role == "assistant"
    assert "".join(delta.content or "" for delta in deltas) == "It is 4."
    assert "".join((delta.model_extra or {}).get("reasoning_content", "") for delta in deltas) == "two and two"
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"
    assert len({chunk.id for chunk in chunks}) == 1
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 6
    assert {chunk.usage for chunk in chunks[:-1]} == {None}


async def test_stream_on_the_wire(client: httpx.AsyncClient) -> None:
    async with client.stream("POST", "/v1/chat/completions", json=body(stream=True)) as response:
        events = await events_of(response)
    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.headers["x-accel-buffering"] == "no"
    assert events[-1] == "data: [DONE]"
    chunks = [json.loads(event.removeprefix("data: ")) for event in events[:-1]]
    assert chunks[-1]["choices"][0] == {"index": 0, "delta": {}, "finish_reason": "stop"}
    assert all("usage" not in chunk for chunk in chunks)


async def test_length_is_told(client: httpx.AsyncClient, box: Box) -> None:
    box.use(FakeEngine(("hm", "hm")))
    answer = (await client.post("/v1/chat/completions", json=body(max_tokens=1))).json()
    [choice] = answer["choices"]
    assert choice["finish_reason"] == "length"
    assert choice["message"] == {"role": "assistant", "content": "", "reasoning_content": "hm", "refusal": None}


async def test_error_in_mid_stream_raises_in_the_client(openai: AsyncOpenAI, box: Box) -> None:
    engine = box.use(FakeEngine(("so far", "</think>", "half an answer", "never"), hold_after=3))
    stream = await openai.chat.completions.create(model=MODEL, messages=QUESTION, stream=True)
    said = ""

    async def read() -> None:
        nonlocal said
        async for chunk in stream:
            said += chunk.choices[0].delta.content or ""
            if said:
                await engine.die()

    with pytest.raises(openai_package.APIError, match="ended while it worked") as caught:
        await read()
    assert "half an" in said
    assert caught.value.code == "engine_lost"
    assert caught.value.type == "server_error"


def _breaks(prompt: str) -> Sequence[str]:
    raise ValueError("secret path /etc/x")


@pytest.mark.parametrize("ending", ["dies", "breaks", "stops"])
async def test_failed_stream_ends_with_one_error_event(client: httpx.AsyncClient, box: Box, ending: str) -> None:
    engine = box.use(FakeEngine(_breaks) if ending == "breaks" else FakeEngine(ANSWER, hold_after=1))

    async def end() -> None:
        await engine.wait_active(1)
        await (engine.die() if ending == "dies" else engine.stop(1))

    ending_task = asyncio.create_task(asyncio.sleep(0) if ending == "breaks" else end())
    async with client.stream("POST", "/v1/chat/completions", json=body(stream=True)) as response:
        events = await events_of(response)
    await ending_task
    errors = [event for event in events if '"error"' in event]
    assert errors == events[-1:]
    assert json.loads(errors[0].removeprefix("data: "))["error"]["type"] == "server_error"
    assert "secret" not in errors[0]
    assert box.admission.stats().running == 0


async def test_failed_whole_answer_has_a_status(openai: AsyncOpenAI, box: Box) -> None:
    engine = box.use(FakeEngine(ANSWER))
    await engine.die()
    with pytest.raises(openai_package.InternalServerError) as caught:
        await openai.chat.completions.create(model=MODEL, messages=QUESTION)
    assert caught.value.status_code == 503
    assert caught.value.code == "engine_lost"
    assert caught.value.response.headers["retry-after"] == "5"
    box.use(FakeEngine(ANSWER))
    answer = await openai.chat.completions.create(model=MODEL, messages=QUESTION)
    assert answer.choices[0].message.content == "It is 4."


async def test_first_token_arrives_before_the_second_exists(openai: AsyncOpenAI, box: Box) -> None:
    engine = box.use(FakeEngine(("first", "</think>", "second"), hold_after=1))
    stream = await openai.chat.completions.create(model=MODEL, messages=QUESTION, stream=True)
    async for chunk in stream:
        if (chunk.choices[0].delta.model_extra or {}).get("reasoning_content"):
            break
    await engine.resume()
    rest = [chunk async for chunk in stream]
    assert rest[-1].choices[0].finish_reason == "stop"


async def test_client_that_leaves_a_stream_ends_the_request(openai: AsyncOpenAI, box: Box) -> None:
    engine = box.use(FakeEngine(("first", "never"), hold_after=1))
    stream = await openai.chat.completions.create(model=MODEL, messages=QUESTION, stream=True)
    await anext(aiter(stream))
    assert len(engine.active) == 1
    await stream.close()
    await engine.wait_active(0)
    await until(lambda: len(engine.aborted) == 1 and box.admission.stats().running == 0)


async def test_client_that_leaves_a_whole_answer_ends_the_request(address: str, box: Box) -> None:
    engine = box.use(FakeEngine(("first", "never"), hold_after=1))
    reader, writer = await asyncio.open_connection(*address.removeprefix("http://").split(":"))
    content = json.dumps(body()).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: box\r\nAuthorization: Bearer {box.key}\r\n"
    writer.write(f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content)
    await engine.wait_active(1)
    writer.close()
    await engine.wait_active(0)
    await until(lambda: len(engine.aborted) == 1 and box.admission.stats().running == 0)
    assert await reader.read() == b""


async def test_waiting_requests_see_their_place(openai: AsyncOpenAI, address: str, box: Box) -> None:
    engine = box.use(FakeEngine(ANSWER, hold_after=0))
    first_two = [asyncio.create_task(openai.chat.completions.create(model=MODEL, messages=QUESTION)) for _ in range(2)]
    await engine.wait_active(2)
    async with (
        httpx.AsyncClient(base_url=address, headers=box.authorization) as client,
        client.stream("POST", "/v1/chat/completions", json=body(stream=True)) as response,
    ):
        assert response.headers["x-r1box-queued"] == "position=1"
        lines = response.aiter_lines()
        assert await anext(lines) == ": queued position=1"
        with pytest.raises(openai_package.RateLimitError) as caught:
            await openai.chat.completions.create(model=MODEL, messages=QUESTION, stream=True)
        assert caught.value.code == "queue_full"
        assert caught.value.type == "rate_limit_error"
        assert int(caught.value.response.headers["retry-after"]) > 0
        await engine.resume()
        rest = [line async for line in lines]
    assert rest[-2] == "data: [DONE]"
    for answer in await asyncio.gather(*first_two):
        assert answer.choices[0].message.content == "It is 4."


async def test_waiting_client_that_leaves_frees_its_place(openai: AsyncOpenAI, address: str, box: Box) -> None:
    engine = box.use(FakeEngine(ANSWER, hold_after=0))
    first_two = [asyncio.create_task(openai.chat.completions.create(model=MODEL, messages=QUESTION)) for _ in range(2)]
    await engine.wait_active(2)
    async with (
        httpx.AsyncClient(base_url=address, headers=box.authorization) as client,
        client.stream("POST", "/v1/chat/completions", json=body(stream=True)) as response,
    ):
        assert await anext(response.aiter_lines()) == ": queued position=1"
        assert box.admission.stats().waiting == 1
    await until(lambda: box.admission.stats().waiting == 0)
    await engine.resume()
    await asyncio.gather(*first_two)
    assert len(engine.requests) == 2


async def test_eight_streams_at_once(openai: AsyncOpenAI, box: Box) -> None:
    async def one() -> str:
        stream = await openai.chat.completions.create(model=MODEL, messages=QUESTION, stream=True)
        return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

    engine = box.use(FakeEngine(ANSWER, info=replace(FAKE_INFO, seats=8), hold_after=2))
    answers = asyncio.gather(*(one() for _ in range(8)))
    await engine.wait_active(8)
    await engine.resume()
    assert await answers == ["It is 4."] * 8
