"""Anthropic's client for Python."""

from __future__ import annotations

from typing import Any

from anthropic import Anthropic
from common import KEY, LIMITED_KEY, MODEL, QUESTION, RESULT, TOO_LONG, TOOLS, URL, WEATHER, caught, tell

OWN_TOOLS = [
    {
        "name": tool["function"]["name"],
        "description": tool["function"]["description"],
        "input_schema": tool["function"]["parameters"],
    }
    for tool in TOOLS
]


def client(key: str = KEY) -> Anthropic:
    return Anthropic(base_url=URL, api_key=key, max_retries=0, timeout=60)


def options(**fields: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": QUESTION}]
    return {
        "model": MODEL,
        "max_tokens": 512,
        "messages": messages,
        "thinking": {"type": "adaptive"},
        "extra_body": {"temperature": 0},
        **fields,
    }


def ask(asking: Anthropic | None = None, **fields: Any) -> Any:
    return (asking or client()).messages.create(**options(**fields))


def seen(message: Any) -> Any:
    usage = message.usage
    return {
        "content": "".join(block.text for block in message.content if block.type == "text"),
        "reasoning": "".join(block.thinking for block in message.content if block.type == "thinking"),
        "prompt": usage.input_tokens + usage.cache_read_input_tokens,
        "completion": usage.output_tokens,
        "thinking": usage.output_tokens_details.thinking_tokens,
    }


def whole() -> Any:
    return seen(ask())


def stream() -> Any:
    with client().messages.stream(**options()) as streamed:
        return seen(streamed.get_final_message())


def tools() -> Any:
    messages: list[Any] = [{"role": "user", "content": WEATHER}]
    first = ask(messages=messages, tools=OWN_TOOLS)
    calls = [block for block in first.content if block.type == "tool_use"]
    results = [{"type": "tool_result", "tool_use_id": call.id, "content": RESULT} for call in calls]
    told = {"role": "assistant", "content": first.content}
    second = ask(messages=[*messages, told, {"role": "user", "content": results}], tools=OWN_TOOLS)
    return {
        "calls": [{"name": call.name, "arguments": call.input} for call in calls],
        "answer": seen(second)["content"],
    }


def errors() -> Any:
    limited = client(LIMITED_KEY)
    return {
        "401": caught(lambda: ask(client("r1b_wrong"))),
        "404": caught(lambda: ask(model="gone")),
        "400": caught(lambda: ask(messages=[{"role": "user", "content": TOO_LONG}])),
        "429": caught(lambda: ask(limited)),
    }


tell({"whole": whole, "stream": stream, "tools": tools, "errors": errors})
