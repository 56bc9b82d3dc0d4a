"""Anthropic's official client, the real daemon, the tiny R1."""

from __future__ import annotations

import json
from typing import Any

import anthropic
import pytest

from tests.e2e.box import FIXTURES, Box, goldens

PROMPTS: list[dict[str, Any]] = json.loads((FIXTURES / "prompts.json").read_text())["prompts"]
CALL = next(entry for entry in PROMPTS if entry["id"] == "tool-weather")
GOLDEN = next(golden for golden in goldens("fact") if len(golden.messages) == 1)
"""Its tokens count the one that ends the answer, which usage does not."""
GREEDY = {"temperature": 0}
"""The client has no argument for it any more; the API has it."""
THINK: Any = {"type": "adaptive"}
TOOLS: Any = [
    {
        "name": tool["function"]["name"],
        "description": tool["function"].get("description", ""),
        "input_schema": tool["function"]["parameters"],
    }
    for tool in CALL["tools"]
]


def client(box: Box) -> anthropic.AsyncAnthropic:
    return anthropic.AsyncAnthropic(base_url=box.url, api_key=box.key, max_retries=0, timeout=60)


async def test_whole_and_streamed(box: Box, model: str) -> None:
    fields: Any = {
        "model": model,
        "max_tokens": 512,
        "messages": GOLDEN.messages,
        "extra_body": GREEDY,
        "thinking": THINK,
    }
    async with client(box) as claude:
        counted = await claude.messages.count_tokens(model=model, messages=GOLDEN.messages, thinking=THINK)
        whole = await claude.messages.create(**fields)
        async with claude.messages.stream(**fields) as stream:
            streamed = await stream.get_final_message()
    for message in (whole, streamed):
        thought, answer = message.content
        assert (thought.thinking, answer.text) == (GOLDEN.reasoning, GOLDEN.content)
        assert (message.stop_reason, message.usage.output_tokens) == ("end_turn", GOLDEN.completion_tokens - 1)
        assert message.usage.input_tokens + message.usage.cache_read_input_tokens == counted.input_tokens


@pytest.mark.parametrize("streamed", [False, True])
async def test_tools_in_two_rounds(box: Box, model: str, streamed: bool) -> None:
    [(_, question)] = [(m["role"], m["content"]) for m in CALL["messages"]]
    messages: Any = [{"role": "user", "content": question}]
    fields: Any = {"model": model, "max_tokens": 512, "extra_body": GREEDY, "tools": TOOLS, "thinking": THINK}
    async with client(box) as claude:
        if streamed:
            async with claude.messages.stream(messages=messages, **fields) as stream:
                first = await stream.get_final_message()
        else:
            first = await claude.messages.create(messages=messages, **fields)
        assert first.stop_reason == "tool_use"
        calls = [block for block in first.content if block.type == "tool_use"]
        assert [{"name": call.name, "arguments": call.input} for call in calls] == CALL["tool_calls"]
        results: Any = [{"type": "tool_result", "tool_use_id": call.id, "content": "rain, 9 degrees"} for call in calls]
        told: Any = [block.model_dump(exclude_none=True, exclude={"parsed_output"}) for block in first.content]
        second = await claude.messages.create(
            messages=[*messages, {"role": "assistant", "content": told}, {"role": "user", "content": results}], **fields
        )
    assert second.stop_reason in ("end_turn", "max_tokens")
    assert second.usage.input_tokens + second.usage.cache_read_input_tokens > first.usage.input_tokens


async def test_what_does_not_fit_has_the_same_code_on_every_api(box: Box, model: str) -> None:
    async with client(box) as claude:
        with pytest.raises(anthropic.BadRequestError) as caught:
            await claude.messages.create(model=model, max_tokens=5000, messages=GOLDEN.messages)
    other = box.post({"model": model, "max_tokens": 5000, "messages": GOLDEN.messages}).json()["error"]
    error: Any = caught.value.body
    assert (error["error"]["code"], error["error"]["message"]) == (other["code"], other["message"])
    assert other["code"] == "context_length_exceeded"
