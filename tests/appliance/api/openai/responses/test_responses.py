"""Responses through the official client: items, events, state."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import openai as openai_package
import pytest
from openai import AsyncOpenAI
from openai.types.responses import Response

from appliance.engine.request import TokenDelta, TokenLogprob
from appliance.security.keys import Grant
from tests.appliance.api.box import MODEL, Box
from tests.fakes.engine import FakeEngine

TOOL: Any = {"type": "function", "name": "look", "parameters": {"type": "object", "properties": {"at": {}}}}
CALLS = ("hm", "</think>", "\n\nI look.", '<tool_call>{"name": "look", "arguments": {"at"', ': "x"}}</tool_call>')


def shape(response: Response) -> list[tuple[str, Any]]:
    """Type and text of each item."""
    shaped: list[tuple[str, Any]] = []
    for item in response.output:
        if item.type == "function_call":
            shaped.append((item.type, (item.name, item.arguments)))
        else:
            shaped.append((item.type, "".join(part.text for part in item.content or ())))  # type: ignore[union-attr]
    return shaped


async def test_a_whole_response(openai: AsyncOpenAI, box: Box) -> None:
    made = await openai.responses.create(
        model=MODEL, input="What is 2+2?", instructions="Be short.", max_output_tokens=50, metadata={"a": "b"}
    )
    assert made.output_text == "It is 4."
    assert shape(made) == [("reasoning", "two and two"), ("message", "It is 4.")]
    assert {item.status for item in made.output} == {"completed"}  # type: ignore[union-attr]
    assert (made.status, made.error, made.incomplete_details, made.metadata) == ("completed", None, None, {"a": "b"})
    assert (made.max_output_tokens, made.instructions, made.temperature) == (50, "Be short.", 0.6)
    assert made.usage is not None
    assert made.usage.output_tokens == 6
    assert made.usage.output_tokens_details.reasoning_tokens in (2, 3)
    assert made.usage.total_tokens == made.usage.input_tokens + 6
    assert "Be short." in box.engine.prompts[0]
    assert box.engine.requests[0].max_tokens == 50


async def test_every_event_in_its_order(openai: AsyncOpenAI) -> None:
    events = [e async for e in await openai.responses.create(model=MODEL, input="Hi", stream=True)]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    kinds = [event.type.removeprefix("response.") for event in events]
    once = list(dict.fromkeys(kinds))
    assert kinds[:2] == ["created", "in_progress"]
    assert kinds[-1] == "completed"
    assert once == [
        *("created", "in_progress", "output_item.added", "content_part.added", "reasoning_text.delta"),
        *("reasoning_text.done", "content_part.done", "output_item.done", "output_text.delta", "output_text.done"),
        "completed",
    ]
    assert [kinds.count(kind) for kind in ("output_item.added", "output_item.done", "content_part.done")] == [2, 2, 2]
    last: Any = events[-1]
    assert shape(last.response) == [("reasoning", "two and two"), ("message", "It is 4.")]
    texts = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert "".join(texts) == "It is 4."


async def test_the_clients_own_accumulation(openai: AsyncOpenAI, box: Box) -> None:
    box.use(FakeEngine(CALLS))
    async with openai.responses.stream(model=MODEL, input="Hi", tools=[TOOL]) as stream:
        async for _ in stream:
            pass
        made = await stream.get_final_response()
    assert shape(made) == [("reasoning", "hm"), ("message", "I look."), ("function_call", ("look", '{"at": "x"}'))]


async def test_tools_and_their_results(openai: AsyncOpenAI, box: Box) -> None:
    box.use(FakeEngine(CALLS))
    first = await openai.responses.create(model=MODEL, input="Hi", tools=[TOOL], store=False)
    call: Any = first.output[-1]
    assert (call.type, call.name, call.arguments, call.status) == ("function_call", "look", '{"at": "x"}', "completed")
    assert first.tools[0].type == "function"
    box.use(FakeEngine(("</think>", "Seen.")))
    items: Any = [
        {"role": "user", "content": "Hi"},
        *[item.model_dump(exclude_none=True) for item in first.output],
        {"type": "function_call_output", "call_id": call.call_id, "output": "a tree"},
    ]
    second = await openai.responses.create(model=MODEL, input=items, tools=[TOOL], store=False)
    assert second.output_text == "Seen."
    prompt = box.engine.prompts[0]
    assert "<tool_call>" in prompt
    assert "a tree" in prompt
    assert "hm" not in prompt.partition("Hi")[2], "earlier thoughts stay out"


async def test_going_on_from_a_response(openai: AsyncOpenAI, box: Box) -> None:
    first = await openai.responses.create(model=MODEL, input="What is 2+2?", instructions="Be short.")
    second = await openai.responses.create(model=MODEL, input="Sure?", previous_response_id=first.id)
    assert second.previous_response_id == first.id
    prompt = box.engine.prompts[-1]
    assert [prompt.index(text) for text in ("What is 2+2?", "It is 4.", "Sure?")] == sorted(
        prompt.index(text) for text in ("What is 2+2?", "It is 4.", "Sure?")
    )
    assert "Be short." not in prompt, "instructions hold for their own response alone"
    third = await openai.responses.create(model=MODEL, input="And 3+3?", previous_response_id=second.id)
    assert box.engine.prompts[-1].count("It is 4.") == 2
    assert third.status == "completed"


async def test_reading_listing_and_deleting(openai: AsyncOpenAI) -> None:
    made = await openai.responses.create(
        model=MODEL, input=[{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]
    )
    again = await openai.responses.retrieve(made.id)
    assert again.model_dump() == made.model_dump()
    items = await openai.responses.input_items.list(made.id, order="asc", limit=1)
    assert [item.content for item in items.data] == ["a"]  # type: ignore[union-attr]
    assert [item.content async for item in items] == ["a", "b"]  # type: ignore[union-attr]
    await openai.responses.delete(made.id)
    for ask in (openai.responses.retrieve, openai.responses.delete, openai.responses.cancel):
        with pytest.raises(openai_package.NotFoundError) as caught:
            await ask(made.id)
        assert caught.value.code == "response_not_found"
    with pytest.raises(openai_package.BadRequestError) as refused:
        await openai.responses.create(model=MODEL, input="x", previous_response_id=made.id)
    assert (refused.value.code, refused.value.param) == ("previous_response_not_found", "previous_response_id")


async def test_what_is_not_stored_is_not_there(openai: AsyncOpenAI) -> None:
    made = await openai.responses.create(model=MODEL, input="x", store=False)
    assert made.model_extra is None or made.model_extra.get("store") is False
    with pytest.raises(openai_package.NotFoundError):
        await openai.responses.retrieve(made.id)


async def test_another_keys_response_does_not_exist(openai: AsyncOpenAI, box: Box, client: httpx.AsyncClient) -> None:
    made = await openai.responses.create(model=MODEL, input="x")
    other = await asyncio.to_thread(box.keys.create, "other", Grant())
    stranger = {"Authorization": f"Bearer {other.secret}"}
    assert (await client.get(f"/v1/responses/{made.id}", headers=stranger)).status_code == 404
    body = {"model": MODEL, "input": [{"type": "item_reference", "id": made.output[0].id}]}
    assert (await client.post("/v1/responses", json=body, headers=stranger)).status_code == 400
    assert (await client.post("/v1/responses", json=body)).status_code == 200


async def test_a_sealed_thought_comes_back(openai: AsyncOpenAI, box: Box) -> None:
    made = await openai.responses.create(model=MODEL, input="x", include=["reasoning.encrypted_content"], store=False)
    thought: Any = made.output[0]
    assert thought.encrypted_content.startswith("r1b1.")
    back: Any = [
        {"role": "user", "content": "x"},
        {"type": "reasoning", "id": thought.id, "summary": [], "encrypted_content": thought.encrypted_content},
        {"role": "assistant", "content": [{"type": "output_text", "text": "It is 4.", "annotations": []}]},
        {"role": "user", "content": [{"type": "input_text", "text": "y"}]},
    ]
    await openai.responses.create(model=MODEL, input=back)
    assert box.engine.prompts[-1].endswith("<user>x<assistant>It is 4.<user>y<assistant><think>")
    back[1]["encrypted_content"] = "gAAAA"
    with pytest.raises(openai_package.BadRequestError, match="another service"):
        await openai.responses.create(model=MODEL, input=back)


async def test_an_answer_that_was_cut(openai: AsyncOpenAI, box: Box) -> None:
    box.use(FakeEngine(("hm", "</think>", "one ", "two")))
    made = await openai.responses.create(model=MODEL, input="x", max_output_tokens=3)
    assert (made.status, made.incomplete_details and made.incomplete_details.reason) == (
        "incomplete",
        "max_output_tokens",
    )
    assert made.output[-1].status == "incomplete"  # type: ignore[union-attr]
    assert made.output_text == "one "


async def test_a_call_that_was_cut_is_incomplete(openai: AsyncOpenAI, box: Box) -> None:
    box.use(FakeEngine(CALLS))
    made = await openai.responses.create(model=MODEL, input="x", tools=[TOOL], max_output_tokens=4)
    assert made.output[-1].status == "incomplete"  # type: ignore[union-attr]
    assert made.output[-1].type == "function_call"


async def test_a_failure_in_mid_stream(openai: AsyncOpenAI, box: Box) -> None:
    engine = box.use(FakeEngine(("so", "</think>", "half", "never"), hold_after=3))
    events: list[Any] = []
    async for event in await openai.responses.create(model=MODEL, input="x", stream=True):
        events.append(event)
        if event.type == "response.output_text.delta":
            await engine.die()
    assert events[-1].type == "response.failed"
    assert events[-1].response.error.code == "engine_lost"
    assert events[-1].response.output[-1].status == "incomplete"
    assert box.admission.stats().running == 0


async def test_a_failure_of_a_whole_response_has_a_status(openai: AsyncOpenAI, box: Box) -> None:
    await box.use(FakeEngine(())).die()
    with pytest.raises(openai_package.InternalServerError) as caught:
        await openai.responses.create(model=MODEL, input="x")
    assert caught.value.code == "engine_lost"


async def test_effort_bounds_the_thought(openai: AsyncOpenAI, box: Box) -> None:
    made = await openai.responses.create(model=MODEL, input="x", reasoning={"effort": "low"})
    assert made.reasoning is not None
    assert made.reasoning.effort == "low"
    [asked] = box.engine.requests
    assert asked.thinking is not None
    assert asked.thinking.budget_tokens is not None
    assert asked.owner == "key:1"


async def test_logprobs(openai: AsyncOpenAI, box: Box) -> None:
    box.use(FakeEngine(("</think>", TokenDelta("Yes", 1, (TokenLogprob(b"Yes", -0.1, ((b"Yes", -0.1),)),)))))
    made = await openai.responses.create(model=MODEL, input="x", top_logprobs=1)
    part: Any = made.output[-1].content[0]  # type: ignore[union-attr,index]
    assert [(one.token, one.logprob, len(one.top_logprobs)) for one in part.logprobs] == [("Yes", -0.1, 1)]


async def test_thoughts_can_be_hidden(client: httpx.AsyncClient) -> None:
    made = await client.post(
        "/v1/responses", json={"model": MODEL, "input": "x"}, headers={"X-R1Box-Reasoning": "hidden"}
    )
    assert [item["type"] for item in made.json()["output"]] == ["message"]


async def test_what_has_no_effect_is_named(client: httpx.AsyncClient) -> None:
    body = {"model": MODEL, "input": "x", "user": "ann", "reasoning": {"summary": "auto"}}
    made = await client.post("/v1/responses", json=body)
    assert made.headers["x-r1box-ignored"] == "user, reasoning.summary"


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"background": True}, "background", "unsupported_parameter"),
        ({"conversation": "c"}, "conversation", "unsupported_parameter"),
        ({"prompt": {"id": "p"}}, "prompt", "unsupported_parameter"),
        ({"include": ["file_search_call.results"]}, "include[0]", "unsupported_parameter"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type", "invalid_value"),
        ({"input": [{"type": "computer_call", "id": "x"}]}, "input[0]", "unsupported_parameter"),
        ({"input": [{"role": "user", "content": [{"type": "input_image"}]}]}, "input[0].content[0]",
         "unsupported_parameter"),
        ({"input": [{"role": "robot", "content": "x"}]}, "input[0].role", "invalid_value"),
        ({"input": [{"role": "user", "content": "x", "mood": 1}]}, "input[0].mood", "unknown_parameter"),
        ({"input": [{"type": "item_reference", "id": "no"}]}, "input[0].id", "invalid_value"),
        ({"input": []}, "input", "invalid_value"),
        ({"text": {"format": {"type": "xml"}}}, "text.format.type", "invalid_value"),
        ({"text": {"format": {"type": "json_schema", "name": "n"}}}, "text.format.schema",
         "missing_required_parameter"),
        ({"tool_choice": {"type": "function", "name": "no"}}, "tool_choice", "invalid_value"),
        ({"stream_options": {"include_obfuscation": True}}, "stream_options", "invalid_value"),
    ],
)  # fmt: skip
async def test_refusals(openai: AsyncOpenAI, fields: dict[str, Any], param: str, code: str) -> None:
    with pytest.raises(openai_package.BadRequestError) as caught:
        await openai.post("/responses", body={"model": MODEL, "input": "x", **fields}, cast_to=object)
    assert (caught.value.param, caught.value.code) == (param, code)
