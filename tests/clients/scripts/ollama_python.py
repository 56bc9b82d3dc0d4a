"""Ollama's client for Python, told of the box by its own two variables alone."""

from __future__ import annotations

import os
from typing import Any

from common import KEY, LIMITED_KEY, MODEL, QUESTION, RESULT, TOO_LONG, TOOLS, URL, WEATHER, caught, tell

os.environ |= {"OLLAMA_HOST": URL, "OLLAMA_API_KEY": KEY}

from ollama import Client


def ask(asking: Client | None = None, **fields: Any) -> Any:
    messages = [{"role": "user", "content": QUESTION}]
    options = {"model": MODEL, "messages": messages, "options": {"temperature": 0}, **fields}
    return (asking or Client()).chat(**options)


def whole() -> Any:
    answer = ask()
    return {
        "content": answer.message.content,
        "reasoning": answer.message.thinking,
        "prompt": answer.prompt_eval_count,
        "completion": answer.eval_count,
    }


def stream() -> Any:
    content, reasoning, last = "", "", None
    for part in ask(stream=True):
        content += part.message.content or ""
        reasoning += part.message.thinking or ""
        last = part
    return {
        "content": content,
        "reasoning": reasoning,
        "prompt": last.prompt_eval_count,
        "completion": last.eval_count,
    }


def tools() -> Any:
    messages: list[Any] = [{"role": "user", "content": WEATHER}]
    first = ask(messages=messages, tools=TOOLS).message
    calls = [{"name": c.function.name, "arguments": dict(c.function.arguments)} for c in first.tool_calls]
    result = {"role": "tool", "tool_name": calls[0]["name"], "content": RESULT}
    second = ask(messages=[*messages, first, result], tools=TOOLS)
    return {"calls": calls, "answer": second.message.content}


def errors() -> Any:
    limited = Client(headers={"Authorization": f"Bearer {LIMITED_KEY}"})
    return {
        "401": caught(lambda: ask(Client(headers={"Authorization": "Bearer r1b_wrong"}))),
        "404": caught(lambda: ask(model="gone")),
        "400": caught(lambda: ask(messages=[{"role": "user", "content": TOO_LONG}])),
        "429": caught(lambda: ask(limited)),
    }


tell({"whole": whole, "stream": stream, "tools": tools, "errors": errors})
