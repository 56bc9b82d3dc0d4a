"""Tools through the real daemon, the tiny R1 and the official client: it was trained on these conversations."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest

from tests.e2e.box import FIXTURES, Box

ENTRIES: list[dict[str, Any]] = [
    e for e in json.loads((FIXTURES / "prompts.json").read_text())["prompts"] if "tools" in e
]
CALLS = [e for e in ENTRIES if e["kind"] == "tool_call"]
NO_CALLS = [e for e in ENTRIES if e["kind"] == "no_tool_call"]
RESULTS = [e for e in ENTRIES if e["kind"] == "tool_result"]


def ids(entry: dict[str, Any]) -> str:
    return str(entry["id"])


async def ask(box: Box, model: str, entry: dict[str, Any], **options: Any) -> Any:
    async with box.client() as client:
        return await client.chat.completions.create(
            model=model, messages=entry["messages"], tools=entry["tools"], temperature=0, **options
        )


def called(message: Any) -> list[dict[str, Any]]:
    return [
        {"name": call.function.name, "arguments": json.loads(call.function.arguments)}
        for call in message.tool_calls or ()
    ]


@pytest.mark.parametrize("entry", CALLS, ids=ids)
async def test_it_calls(box: Box, model: str, entry: dict[str, Any]) -> None:
    answer = await ask(box, model, entry)
    [choice] = answer.choices
    assert called(choice.message) == entry["tool_calls"]
    assert choice.message.content == (entry["content"] or None)
    assert choice.message.reasoning_content == entry["reasoning"]
    assert choice.finish_reason == "tool_calls"
    assert answer.usage.prompt_tokens == entry["prompt_tokens"]
    assert len({call.id for call in choice.message.tool_calls}) == len(entry["tool_calls"])


@pytest.mark.parametrize("entry", CALLS, ids=ids)
async def test_it_calls_in_a_stream(box: Box, model: str, entry: dict[str, Any]) -> None:
    calls: dict[int, list[str]] = {}
    content, finish_reason, pieces = "", None, 0
    async with box.client() as client:
        chunks: Any = await client.chat.completions.create(
            model=model, messages=entry["messages"], tools=entry["tools"], temperature=0, stream=True
        )
        async for chunk in chunks:
            choice = chunk.choices[0]
            content += choice.delta.content or ""
            finish_reason = choice.finish_reason or finish_reason
            for call in choice.delta.tool_calls or ():
                pieces += 1
                if call.function.name:
                    assert call.id.startswith("call_")
                    calls[call.index] = [call.function.name, ""]
                calls[call.index][1] += call.function.arguments
    assert [{"name": n, "arguments": json.loads(a)} for n, a in calls.values()] == entry["tool_calls"]
    assert pieces > 2 * len(calls), "arguments come in pieces"
    assert (content, finish_reason) == (entry["content"], "tool_calls")


@pytest.mark.parametrize("entry", RESULTS, ids=ids)
async def test_it_answers_from_results(box: Box, model: str, entry: dict[str, Any]) -> None:
    answer = await ask(box, model, entry)
    [choice] = answer.choices
    assert (choice.message.content, choice.finish_reason) == (entry["content"], "stop")
    assert answer.usage.prompt_tokens == entry["prompt_tokens"]


async def test_two_rounds_as_an_agent_makes_them(box: Box, model: str) -> None:
    """The assistant's message goes back as it came, its thought included."""
    entry = next(e for e in RESULTS if e["id"] == "tool-two-results")
    question = entry["messages"][:1]
    async with box.client() as client:
        first = await client.chat.completions.create(
            model=model, messages=question, tools=entry["tools"], temperature=0
        )
        message = first.choices[0].message
        outputs = [
            {"role": "tool", "tool_call_id": call.id, "content": result}
            for call, result in zip(message.tool_calls or (), ("21", "-3"), strict=True)
        ]
        second = await client.chat.completions.create(
            model=model,
            messages=[*question, message.model_dump(exclude_none=True), *outputs],
            tools=entry["tools"],
            temperature=0,
        )
    assert second.choices[0].message.content == entry["content"]


async def test_one_call_is_enough_without_parallel_calls(box: Box, model: str) -> None:
    entry = next(e for e in CALLS if len(e["tool_calls"]) == 2)
    answer = await ask(box, model, entry, parallel_tool_calls=False)
    [choice] = answer.choices
    assert called(choice.message) == entry["tool_calls"][:1]
    assert choice.finish_reason == "tool_calls"
    assert answer.usage.completion_tokens < entry["completion_tokens"] - 10


async def test_none_means_words_alone(box: Box, model: str) -> None:
    entry = next(e for e in CALLS if e["id"] == "tool-weather")
    answer = await ask(box, model, entry, tool_choice="none")
    assert answer.choices[0].message.tool_calls is None
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.prompt_tokens < 40, "tools that may not be called are not described"


def strict(tools: list[dict[str, Any]], **properties: Any) -> list[dict[str, Any]]:
    """The tools made strict, some properties of the first one otherwise."""
    made: list[dict[str, Any]] = json.loads(json.dumps(tools))
    for tool in made:
        tool["function"]["strict"] = True
    made[0]["function"]["parameters"]["properties"] |= properties
    return made


@pytest.mark.parametrize("entry", [*CALLS, *NO_CALLS], ids=ids)
async def test_strict_tools_leave_the_model_its_choice(box: Box, model: str, entry: dict[str, Any]) -> None:
    """What it would say anyway keeps the schemas, so the answer is the same, call or words."""
    async with box.client() as client:
        raw = await client.chat.completions.with_raw_response.create(
            model=model, messages=entry["messages"], tools=strict(entry["tools"]), temperature=0
        )
    assert "strict" not in raw.headers.get("x-r1box-changed", "")
    [choice] = raw.parse().choices
    assert called(choice.message) == entry.get("tool_calls", [])
    assert (choice.message.content or "") == entry["content"]
    assert choice.message.reasoning_content == entry["reasoning"]


async def test_strict_tools_are_called_by_their_schemas_alone(box: Box, model: str) -> None:
    """The tiny model has learned to say a city; the schema leaves it others."""
    entry = next(e for e in CALLS if e["id"] == "tool-weather")
    [learned] = entry["tool_calls"][0]["arguments"].values()
    [name] = entry["tool_calls"][0]["arguments"]
    cities = {"type": "string", "enum": ["Xylo", "Qwest"]}
    async with box.client() as client:
        answer = await client.chat.completions.create(
            model=model, messages=entry["messages"], tools=strict(entry["tools"], **{name: cities}), temperature=0
        )
        again = await client.chat.completions.create(
            model=model,
            messages=entry["messages"],
            tools=strict(entry["tools"], **{name: {"type": "integer", "minimum": 100, "maximum": 999}}),
            temperature=0,
            stream=True,
        )
        streamed = "".join(
            [call.function.arguments or "" async for chunk in again for call in chunk.choices[0].delta.tool_calls or ()]
        )
    [choice] = answer.choices
    [call] = called(choice.message)
    assert call["name"] == entry["tool_calls"][0]["name"]
    assert call["arguments"][name] in cities["enum"]
    assert learned not in cities["enum"]
    assert choice.finish_reason == "tool_calls"
    assert choice.message.reasoning_content == entry["reasoning"], "the thought before it is free"
    assert 100 <= json.loads(streamed)[name] <= 999


async def test_a_strict_schema_that_cannot_be_kept_is_refused(box: Box, model: str) -> None:
    entry = next(e for e in CALLS if e["id"] == "tool-weather")
    async with box.client() as client:
        with pytest.raises(openai.BadRequestError) as caught:
            await client.chat.completions.create(
                model=model,
                messages=entry["messages"],
                tools=strict(entry["tools"], extra={"type": "string", "pattern": "(?=a)"}),
            )
    assert "tools[0].function.parameters" in str(caught.value.param)


async def test_an_answer_cut_in_a_call_is_no_call(box: Box, model: str) -> None:
    entry = next(e for e in CALLS if e["id"] == "tool-weather")
    answer = await ask(box, model, entry, max_tokens=entry["completion_tokens"] - 8)
    [choice] = answer.choices
    assert (choice.finish_reason, choice.message.tool_calls) == ("length", None)
    assert "get_weather" in choice.message.content
