"""OpenAI's client against the real daemon with the tiny R1: n, forms, demanded calls, completions, responses."""

from __future__ import annotations

import json
from typing import Any

import pytest
from openai import pydantic_function_tool
from pydantic import BaseModel

from tests.e2e.box import FIXTURES, Box, goldens

PROMPTS: list[dict[str, Any]] = json.loads((FIXTURES / "prompts.json").read_text())["prompts"]
WEATHER = next(entry for entry in PROMPTS if entry["id"] == "tool-weather")
RESULT = next(entry for entry in PROMPTS if entry["id"] == "tool-weather-result")
CITY = next(golden for golden in goldens("json") if "city" in golden.id)
FRANCE = next(golden for golden in goldens("capital") if golden.content == "The capital of France is Paris.")


class City(BaseModel):
    city: str
    country: str
    population: int


class GetWeather(BaseModel):
    """Weather of a city"""

    city: str


async def test_n_answers_are_counted_once_and_the_same_when_greedy(box: Box, model: str) -> None:
    async with box.client() as client:
        answer = await client.chat.completions.create(
            model=model,
            messages=FRANCE.messages,  # type: ignore[arg-type]
            n=3,
            temperature=0,
        )
        one = await client.chat.completions.create(model=model, messages=FRANCE.messages, temperature=0)  # type: ignore[arg-type]
    assert [choice.message.content for choice in answer.choices] == [FRANCE.content] * 3
    assert answer.usage is not None
    assert one.usage is not None
    assert answer.usage.prompt_tokens == one.usage.prompt_tokens
    assert answer.usage.completion_tokens == 3 * one.usage.completion_tokens


async def test_n_streams_have_their_index(box: Box, model: str) -> None:
    texts = {0: "", 1: ""}
    async with box.client() as client:
        chunks: Any = await client.chat.completions.create(
            model=model,
            messages=FRANCE.messages,  # type: ignore[arg-type]
            n=2,
            temperature=0,
            stream=True,
        )
        async for chunk in chunks:
            for choice in chunk.choices:
                texts[choice.index] += choice.delta.content or ""
    assert list(texts.values()) == [FRANCE.content] * 2


async def test_a_pydantic_model_is_parsed(box: Box, model: str) -> None:
    async with box.client() as client:
        answer = await client.chat.completions.parse(
            model=model,
            messages=CITY.messages,  # type: ignore[arg-type]
            response_format=City,
            temperature=0,
        )
    message = answer.choices[0].message
    assert message.parsed == City(city="Oslo", country="Norway", population=717710)
    assert message.reasoning_content == CITY.reasoning  # type: ignore[attr-defined]


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "get_weather"}}])
async def test_a_demanded_call_comes_after_the_thought(box: Box, model: str, choice: Any) -> None:
    """Asked what needs no tool, and asked about the weather: the model has no way but to call. The cities are given:
    left alone the tiny model writes a name for ever."""
    cities = {"type": "object", "properties": {"city": {"enum": ["Paris", "Oslo"]}}, "required": ["city"]}
    tools: Any = [
        {"type": "function", "function": {"name": name, "parameters": cities}} for name in ("get_weather", "get_time")
    ]
    for messages in (FRANCE.messages, WEATHER["messages"]):
        async with box.client() as client:
            answer = await client.chat.completions.create(
                model=model,
                messages=messages,
                tools=tools,
                tool_choice=choice,
                temperature=0,
                max_tokens=400,
            )
        [made] = answer.choices
        assert made.finish_reason == "tool_calls", made
        assert made.message.reasoning_content
        for call in made.message.tool_calls or ():
            assert call.function.name in ("get_weather", "get_time")
            assert json.loads(call.function.arguments)["city"] in ("Paris", "Oslo")


async def test_parsed_tools_of_pydantic_models(box: Box, model: str) -> None:
    async with box.client() as client:
        answer = await client.chat.completions.parse(
            model=model,
            messages=WEATHER["messages"],
            tools=[pydantic_function_tool(GetWeather, name="get_weather")],
            tool_choice="required",
            parallel_tool_calls=False,
            temperature=0,
            max_tokens=400,
        )
    [call] = answer.choices[0].message.tool_calls or ()
    assert isinstance(call.function.parsed_arguments, GetWeather)


async def test_logprobs_are_of_the_answers_text(box: Box, model: str) -> None:
    async with box.client() as client:
        answer = await client.chat.completions.create(
            model=model,
            messages=FRANCE.messages,  # type: ignore[arg-type]
            logprobs=True,
            top_logprobs=2,
            temperature=0,
        )
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None
    tokens = logprobs.content or []
    assert "".join(token.token for token in tokens) == FRANCE.content
    assert all(token.top_logprobs[0].token == token.token and token.logprob <= 0 for token in tokens)


async def test_an_answer_goes_on_from_where_it_was_begun(box: Box, model: str) -> None:
    begun = {"role": "assistant", "reasoning_content": FRANCE.reasoning, "content": "The capital of", "prefix": True}
    async with box.client() as client:
        answer = await client.chat.completions.create(
            model=model,
            messages=[*FRANCE.messages, begun],  # type: ignore[list-item]
            temperature=0,
        )
    assert answer.choices[0].message.content == " France is Paris."


async def test_a_completion_of_a_raw_prompt(box: Box, model: str) -> None:
    prompt = f"<｜User｜>{FRANCE.messages[0]['content']}<｜Assistant｜><think>\n"
    async with box.client() as client:
        made = await client.completions.create(model=model, prompt=[prompt, prompt], max_tokens=100, temperature=0)
        chunks = await client.completions.create(
            model=model, prompt=prompt, max_tokens=100, temperature=0, stream=True, logprobs=1
        )
        parts = [chunk.choices[0] async for chunk in chunks]
    text = f"{FRANCE.reasoning}\n</think>\n\n{FRANCE.content}"
    assert [choice.text for choice in made.choices] == [text, text]
    assert "".join(part.text for part in parts) == text
    assert "".join(token for part in parts if part.logprobs for token in part.logprobs.tokens or ()) == text


async def test_responses_with_a_tool_in_two_rounds(box: Box, model: str) -> None:
    tools: Any = [{"type": "function", **tool["function"]} for tool in RESULT["tools"]]
    async with box.client() as client:
        first = await client.responses.create(
            model=model, input=RESULT["messages"][0]["content"], tools=tools, temperature=0
        )
        thought, call = first.output
        assert (thought.type, call.type) == ("reasoning", "function_call")
        assert (call.name, json.loads(call.arguments)) == ("get_weather", {"city": "Paris"})  # type: ignore[union-attr]
        output: Any = {
            "type": "function_call_output",
            "call_id": call.call_id,  # type: ignore[union-attr]
            "output": RESULT["messages"][2]["content"],
        }
        second = await client.responses.create(
            model=model, input=[output], previous_response_id=first.id, tools=tools, temperature=0
        )
    assert second.output_text == RESULT["content"]


async def test_responses_are_streamed_and_parsed(box: Box, model: str) -> None:
    async with box.client() as client:
        async with client.responses.stream(model=model, input=FRANCE.messages[0]["content"], temperature=0) as stream:
            said = "".join([event.delta async for event in stream if event.type == "response.output_text.delta"])
            made = await stream.get_final_response()
        parsed = await client.responses.parse(
            model=model, input=CITY.messages[0]["content"], text_format=City, temperature=0
        )
    assert said == made.output_text == FRANCE.content
    assert parsed.output_parsed == City(city="Oslo", country="Norway", population=717710)
