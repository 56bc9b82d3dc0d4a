"""LangChain's ChatOpenAI. It drops fields that OpenAI has not, so the thought comes inline to whoever asks for it."""

from __future__ import annotations

from typing import Any

from common import KEY, LIMITED_KEY, MODEL, QUESTION, RESULT, TOO_LONG, TOOLS, URL, WEATHER, caught, tell
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_openai import ChatOpenAI


def model(key: str = KEY, name: str = MODEL, **fields: Any) -> ChatOpenAI:
    return ChatOpenAI(model=name, base_url=f"{URL}/v1", api_key=key, temperature=0, max_retries=0, timeout=60, **fields)


def seen(message: Any) -> Any:
    content = message.content
    thought, _, answer = content.partition("</think>") if content.startswith("<think>") else ("", "", content)
    usage = message.usage_metadata
    return {
        "content": answer.strip(),
        "reasoning": thought.removeprefix("<think>").strip(),
        "prompt": usage["input_tokens"],
        "completion": usage["output_tokens"],
        "thinking": usage["output_token_details"]["reasoning"],
    }


INLINE = {"default_headers": {"X-R1Box-Reasoning": "inline"}}


def whole() -> Any:
    return seen(model(**INLINE).invoke(QUESTION))


def stream() -> Any:
    total: Any = None
    for chunk in model(stream_usage=True, **INLINE).stream(QUESTION):
        total = chunk if total is None else total + chunk
    return seen(total)


def tools() -> Any:
    bound = model().bind_tools(TOOLS)
    question = HumanMessage(WEATHER)
    first = bound.invoke([question])
    calls = first.tool_calls
    second = bound.invoke([question, first, ToolMessage(RESULT, tool_call_id=calls[0]["id"])])
    return {
        "calls": [{"name": call["name"], "arguments": call["args"]} for call in calls],
        "answer": second.content,
    }


def errors() -> Any:
    limited = model(LIMITED_KEY)
    return {
        "401": caught(lambda: model("r1b_wrong").invoke(QUESTION)),
        "404": caught(lambda: model(name="gone").invoke(QUESTION)),
        "400": caught(lambda: model().invoke(TOO_LONG)),
        "429": caught(lambda: limited.invoke(QUESTION)),
    }


tell({"whole": whole, "stream": stream, "tools": tools, "errors": errors})
