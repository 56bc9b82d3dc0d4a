"""OpenAI's client for Python."""

from __future__ import annotations

import json
from typing import Any

from common import KEY, LIMITED_KEY, MODEL, QUESTION, RESULT, TOO_LONG, TOOLS, URL, WEATHER, caught, tell
from openai import OpenAI


def client(key: str = KEY) -> OpenAI:
    return OpenAI(base_url=f"{URL}/v1", api_key=key, max_retries=0, timeout=60)


def ask(asking: OpenAI | None = None, **fields: Any) -> Any:
    messages = [{"role": "user", "content": QUESTION}]
    options = {"model": MODEL, "messages": messages, "temperature": 0, **fields}
    return (asking or client()).chat.completions.create(**options)


def whole() -> Any:
    answer = ask()
    message, usage = answer.choices[0].message, answer.usage
    return {
        "content": message.content,
        "reasoning": message.reasoning_content,
        "prompt": usage.prompt_tokens,
        "completion": usage.completion_tokens,
        "thinking": usage.completion_tokens_details.reasoning_tokens,
    }


def stream() -> Any:
    content, reasoning, usage = "", "", None
    for chunk in ask(stream=True, stream_options={"include_usage": True}):
        usage = chunk.usage or usage
        if chunk.choices:
            delta = chunk.choices[0].delta
            content += delta.content or ""
            reasoning += getattr(delta, "reasoning_content", None) or ""
    return {
        "content": content,
        "reasoning": reasoning,
        "prompt": usage.prompt_tokens,
        "completion": usage.completion_tokens,
        "thinking": usage.completion_tokens_details.reasoning_tokens,
    }


def tools() -> Any:
    messages: list[Any] = [{"role": "user", "content": WEATHER}]
    first = ask(messages=messages, tools=TOOLS).choices[0].message
    calls = [{"name": c.function.name, "arguments": json.loads(c.function.arguments)} for c in first.tool_calls]
    result = {"role": "tool", "tool_call_id": first.tool_calls[0].id, "content": RESULT}
    second = ask(messages=[*messages, first, result], tools=TOOLS)
    return {"calls": calls, "answer": second.choices[0].message.content}


def errors() -> Any:
    limited = client(LIMITED_KEY)
    return {
        "401": caught(lambda: ask(client("r1b_wrong"))),
        "404": caught(lambda: ask(model="gone")),
        "400": caught(lambda: ask(messages=[{"role": "user", "content": TOO_LONG}])),
        "429": caught(lambda: ask(limited)),
    }


tell({"whole": whole, "stream": stream, "tools": tools, "errors": errors})
