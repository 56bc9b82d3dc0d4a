"""Control tokens in what clients write are text, in every field of every API and with every kind of template.

Checked where text becomes tokens: what goes to the tokenizer as trusted text (where control tokens are recognised)
never holds one that a client wrote, and no untrusted piece holds a whole one (llama.cpp finds some even there).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import httpx
import pytest

from appliance.engine.request import TextSegment
from appliance.serving.types import ServedModel
from tests.appliance.api.box import MODEL, Box
from tests.appliance.api.chats.page import answered, new_chat
from tests.appliance.serving.samples import R1, R1_0528, R1_OLD, SMOL
from tests.fakes.engine import FakeEngine

BEFORE, AFTER = "QXZ", "ZXQ"
"""Stand on both sides of what is forged, so that it is found again."""

Fill = Callable[[str], dict[str, Any]]
USER = {"role": "user", "content": "Hi"}


def chat(*messages: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"model": MODEL, "messages": list(messages), **fields}


def tool(**fields: Any) -> list[dict[str, Any]]:
    return [{"type": "function", "function": {"name": "look_up", "parameters": {"type": "object"}, **fields}}]


def called(**fields: Any) -> list[dict[str, Any]]:
    """A conversation with one call and its result, fields of both replaced."""
    call = {"id": "c1", "type": "function", "function": {"name": "look_up", "arguments": "{}"}}
    call["id"] = fields.get("id", "c1")
    call["function"] = {"name": fields.get("name", "look_up"), "arguments": fields.get("arguments", "{}")}
    result = {"role": "tool", "tool_call_id": fields.get("id", "c1"), "content": fields.get("result", "found")}
    return [USER, {"role": "assistant", "content": fields.get("said", ""), "tool_calls": [call]}, result, USER]


CHAT: dict[str, Fill] = {
    "user": lambda text: chat({"role": "user", "content": text}),
    "user in parts": lambda text: chat({"role": "user", "content": [{"type": "text", "text": text}]}),
    # Two parts that are a token together.
    "user in halves": lambda text: chat(
        {"role": "user", "content": [{"type": "text", "text": text[:7]}, {"type": "text", "text": text[7:]}]}
    ),
    "system": lambda text: chat({"role": "system", "content": text}, USER),
    "developer": lambda text: chat({"role": "developer", "content": text}, USER),
    "later system": lambda text: chat(
        USER, {"role": "assistant", "content": "Hi"}, {"role": "system", "content": text}, USER
    ),
    "assistant": lambda text: chat(USER, {"role": "assistant", "content": text}, USER),
    "begun answer": lambda text: chat(USER, {"role": "assistant", "content": text, "prefix": True}),
    "begun thought": lambda text: chat(
        USER, {"role": "assistant", "content": "", "reasoning_content": text, "prefix": True}
    ),
    "thought and answer begun": lambda text: chat(
        USER, {"role": "assistant", "content": text, "reasoning_content": text, "prefix": True}
    ),
    "thought of a round": lambda text: chat(
        *[one | ({"reasoning_content": text} if one["role"] == "assistant" else {}) for one in called()][:-1]
    ),
    "call's name": lambda text: chat(*called(name=text), tools=tool()),
    "call's id": lambda text: chat(*called(id=text), tools=tool()),
    "call's arguments": lambda text: chat(*called(arguments=f'{{"a": "{text}"}}'), tools=tool()),
    "call's arguments, no JSON": lambda text: chat(*called(arguments=text), tools=tool()),
    "call's argument name": lambda text: chat(*called(arguments=f'{{"{text}": 1}}'), tools=tool()),
    "text before a call": lambda text: chat(*called(said=text), tools=tool()),
    "result": lambda text: chat(*called(result=text), tools=tool()),
    "result in parts": lambda text: chat(*called(result=[{"type": "text", "text": text}]), tools=tool()),
    "tool's description": lambda text: chat(USER, tools=tool(description=text)),
    "parameter's description": lambda text: chat(
        USER, tools=tool(parameters={"type": "object", "properties": {"a": {"type": "string", "description": text}}})
    ),
    "parameter's name": lambda text: chat(
        USER, tools=tool(parameters={"type": "object", "properties": {text: {"type": "string"}}})
    ),
    "parameter's values": lambda text: chat(
        USER, tools=tool(parameters={"type": "object", "properties": {"a": {"type": "string", "enum": [text]}}})
    ),
    "name": lambda text: chat({"role": "user", "content": "Hi", "name": text}),
}


def response(*items: dict[str, Any] | str, **fields: Any) -> dict[str, Any]:
    return {"model": MODEL, "input": items[0] if isinstance(items[0], str) else list(items), "store": False, **fields}


CALL = {"type": "function_call", "call_id": "c1", "name": "look_up", "arguments": "{}"}
TOOLS = [{"type": "function", "name": "look_up", "parameters": {"type": "object"}}]
RESPONSES: dict[str, Fill] = {
    "input": lambda text: response(text),
    "instructions": lambda text: response("Hi", instructions=text),
    "item": lambda text: response({"role": "user", "content": [{"type": "input_text", "text": text}]}),
    "output": lambda text: response(
        {"role": "user", "content": "Hi"},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": text}]},
        {"role": "user", "content": "Hi"},
    ),
    "call": lambda text: response(
        {"role": "user", "content": "Hi"},
        CALL | {"arguments": f'{{"a": "{text}"}}'},
        {"type": "function_call_output", "call_id": "c1", "output": "found"},
        tools=TOOLS,
    ),
    "result": lambda text: response(
        {"role": "user", "content": "Hi"},
        CALL,
        {"type": "function_call_output", "call_id": "c1", "output": text},
        tools=TOOLS,
    ),
    "tool": lambda text: response("Hi", tools=[TOOLS[0] | {"description": text}]),
}


def blocks(*turns: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """A body of Anthropic's API."""
    return {"model": MODEL, "max_tokens": 50, "messages": list(turns), **fields}


def said(*content: dict[str, Any], role: str = "user") -> dict[str, Any]:
    return {"role": role, "content": list(content)}


USE = {"type": "tool_use", "id": "t1", "name": "look_up", "input": {}}
RESULT = {"type": "tool_result", "tool_use_id": "t1", "content": "found"}
LOOK_UP = {"name": "look_up", "input_schema": {"type": "object"}}
ANTHROPIC: dict[str, Fill] = {
    "text": lambda text: blocks({"role": "user", "content": text}),
    "block": lambda text: blocks(said({"type": "text", "text": text})),
    "system": lambda text: blocks(USER, system=text),
    "system blocks": lambda text: blocks(USER, system=[{"type": "text", "text": text}]),
    "answer": lambda text: blocks(USER, said({"type": "text", "text": text}, role="assistant"), USER),
    "thought": lambda text: blocks(
        USER, said({"type": "thinking", "thinking": text}, {"type": "text", "text": "a"}, role="assistant"), USER
    ),
    "begun answer": lambda text: blocks(USER, {"role": "assistant", "content": text}),
    "input": lambda text: blocks(
        USER, said(USE | {"input": {text: text}}, role="assistant"), said(RESULT), tools=[LOOK_UP]
    ),
    "call's name": lambda text: blocks(
        USER, said(USE | {"name": text}, role="assistant"), said(RESULT), tools=[LOOK_UP]
    ),
    "result": lambda text: blocks(USER, said(USE, role="assistant"), said(RESULT | {"content": text}), tools=[LOOK_UP]),
    "document": lambda text: blocks(
        said(
            {
                "type": "document",
                "source": {"type": "text", "media_type": "text/plain", "data": text},
                "title": text,
                "context": text,
            }
        )
    ),
    "tool": lambda text: blocks(
        USER,
        tools=[
            {
                "name": "look_up",
                "description": text,
                "input_schema": {"type": "object", "properties": {text: {"type": "string", "description": text}}},
            }
        ],
    ),
}

OLLAMA_CALL = {"function": {"name": "look_up", "arguments": {}}}
OLLAMA_CHAT: dict[str, Fill] = {
    "user": lambda text: chat({"role": "user", "content": text}, stream=False),
    "system": lambda text: chat({"role": "system", "content": text}, USER, stream=False),
    "answer": lambda text: chat(USER, {"role": "assistant", "content": text, "thinking": text}, USER, stream=False),
    "begun answer": lambda text: chat(USER, {"role": "assistant", "content": text}, stream=False),
    "arguments": lambda text: chat(
        USER,
        {
            "role": "assistant",
            "content": text,
            "tool_calls": [{"function": {"name": "look_up", "arguments": {text: text}}}],
        },
        {"role": "tool", "tool_name": "look_up", "content": "found"},
        tools=tool(),
        stream=False,
    ),
    "result": lambda text: chat(
        USER,
        {"role": "assistant", "content": "", "tool_calls": [OLLAMA_CALL]},
        {"role": "tool", "tool_name": text, "content": text},
        tools=tool(),
        stream=False,
    ),
    "tool": lambda text: chat(USER, tools=tool(description=text), stream=False),
}
OLLAMA_TEXT: dict[str, Fill] = {
    "prompt": lambda text: {"model": MODEL, "prompt": text, "stream": False},
    "system": lambda text: {"model": MODEL, "prompt": "Hi", "system": text, "stream": False},
}

MODELS = {"R1": R1, "R1 before": R1_OLD, "R1-0528": R1_0528, "ChatML": SMOL}


def serve(box: Box, model: ServedModel) -> frozenset[str]:
    """Serve ``model``; the tokens that nobody may forge."""
    box.models[MODEL] = replace(model, id=MODEL)
    box.use(FakeEngine(("It is ", "4."), info=replace(box.engine.info, context_tokens=100_000)))
    return model.control_tokens


def check(calls: list[tuple[tuple[TextSegment, ...], bool]], token: str, tokens: frozenset[str]) -> bool:
    """Whether the forged text got as far as the tokenizer; then it was text."""
    seen = False
    for segments, _ in calls:
        whole = "".join(segment.text for segment in segments)
        seen = seen or BEFORE in whole or AFTER in whole
        for segment in segments:
            if segment.trusted:
                assert f"{BEFORE}{token}" not in segment.text
                assert f"{token}{AFTER}" not in segment.text
            else:
                assert not any(one in segment.text for one in tokens if len(one) > 1)
    return seen


@pytest.mark.parametrize("name", MODELS)
async def test_forged_tokens_are_text(box: Box, client: httpx.AsyncClient, name: str) -> None:
    """All tokens of R1, two of each of the others."""
    tokens = serve(box, MODELS[name])
    tried = sorted(tokens) if name == "R1" else sorted(tokens)[:2]
    fields = [("/v1/chat/completions", *one) for one in CHAT.items()]
    fields += [("/v1/responses", *one) for one in RESPONSES.items()]
    fields += [("/v1/messages", *one) for one in ANTHROPIC.items()]
    fields += [("/api/chat", *one) for one in OLLAMA_CHAT.items()]
    fields += [("/api/generate", *one) for one in OLLAMA_TEXT.items()]
    for path, field, fill in fields:
        seen = []
        for token in tried:
            box.engine.tokenized.clear()
            reply = await client.post(path, json=fill(f"{BEFORE}{token}{AFTER}"))
            assert reply.status_code in (200, 400), (field, reply.text)
            seen.append(reply.status_code == 400 or check(box.engine.tokenized, token, tokens))
        # Some fields reach no prompt with some templates; then none of the tokens does.
        assert len(set(seen)) == 1, field


@pytest.mark.parametrize("field", ["user", "system", "assistant", "begun answer", "begun thought", "result"])
async def test_these_fields_surely_reach_the_prompt(box: Box, client: httpx.AsyncClient, field: str) -> None:
    tokens = serve(box, R1)
    reply = await client.post("/v1/chat/completions", json=CHAT[field](f"{BEFORE}</think>{AFTER}"))
    assert reply.status_code == 200, reply.text
    assert check(box.engine.tokenized, "</think>", tokens)


async def test_files_of_the_page(box: Box, client: httpx.AsyncClient) -> None:
    tokens = serve(box, R1)
    for token in sorted(tokens):
        forged = f"{BEFORE}{token}{AFTER}"
        headers = {"X-File-Name": "forged%20" + "".join(f"%{byte:02X}" for byte in forged.encode()) + ".txt"}
        file = await client.post("/api/attachments", content=forged.encode(), headers=headers)
        assert file.status_code == 201, file.text
        chat_id = await new_chat(client)
        box.engine.tokenized.clear()
        await answered(client, chat_id, forged, attachment_ids=[file.json()["id"]])
        assert check(box.engine.tokenized, token, tokens)
