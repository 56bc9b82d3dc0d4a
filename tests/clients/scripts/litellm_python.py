"""LiteLLM, by the protocol that the variable PROTOCOL names: it speaks all three."""

from __future__ import annotations

import json
import os
from typing import Any

import litellm
from common import KEY, LIMITED_KEY, MODEL, QUESTION, RESULT, TOO_LONG, TOOLS, URL, WEATHER, caught, tell

PROTOCOL = os.environ["PROTOCOL"]
BASE = f"{URL}/v1" if PROTOCOL == "openai" else URL
litellm.suppress_debug_info = True


def ask(**fields: Any) -> Any:
    name = fields.pop("model", MODEL)
    messages = [{"role": "user", "content": QUESTION}]
    options = {"messages": messages, "temperature": 0, "max_tokens": 512, "api_base": BASE, "api_key": KEY, **fields}
    if PROTOCOL == "anthropic":
        options.setdefault("thinking", {"type": "enabled", "budget_tokens": 1_024})
        options["max_tokens"] = 1_500
        options["allowed_openai_params"] = ["thinking"]
    return litellm.completion(model=f"{PROTOCOL}/{name}", num_retries=0, max_retries=0, timeout=60, **options)


def whole() -> Any:
    answer = ask()
    message = answer.choices[0].message
    return {
        "content": message.content,
        "reasoning": getattr(message, "reasoning_content", None),
        "prompt": answer.usage.prompt_tokens,
        "completion": answer.usage.completion_tokens,
    }


def stream() -> Any:
    content, reasoning, usage = "", "", None
    for chunk in ask(stream=True, stream_options={"include_usage": True}):
        usage = getattr(chunk, "usage", None) or usage
        delta = chunk.choices[0].delta
        content += delta.content or ""
        reasoning += getattr(delta, "reasoning_content", None) or ""
    return {
        "content": content,
        "reasoning": reasoning,
        "prompt": usage.prompt_tokens,
        "completion": usage.completion_tokens,
    }


def tools() -> Any:
    messages: list[Any] = [{"role": "user", "content": WEATHER}]
    first = ask(messages=messages, tools=TOOLS).choices[0].message
    calls = [{"name": c.function.name, "arguments": json.loads(c.function.arguments)} for c in first.tool_calls]
    result = {"role": "tool", "tool_call_id": first.tool_calls[0].id, "content": RESULT}
    second = ask(messages=[*messages, first.model_dump(), result], tools=TOOLS)
    return {"calls": calls, "answer": second.choices[0].message.content}


def errors() -> Any:
    return {
        "401": caught(lambda: ask(api_key="r1b_wrong")),
        "404": caught(lambda: ask(model="gone")),
        "400": caught(lambda: ask(messages=[{"role": "user", "content": TOO_LONG}])),
        "429": caught(lambda: ask(api_key=LIMITED_KEY)),
    }


tell({"whole": whole, "stream": stream, "tools": tools, "errors": errors})
