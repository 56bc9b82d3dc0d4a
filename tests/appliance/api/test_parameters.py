"""docs/parameters.md is what the APIs do: every row is sent."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import httpx
import pytest
from pydantic import BaseModel

from appliance.schemas.anthropic_request import COUNT_IGNORED, CountTokensRequest, MessagesRequest
from appliance.schemas.anthropic_request import IGNORED as MESSAGE_IGNORED
from appliance.schemas.anthropic_request import UNSUPPORTED as MESSAGE_UNSUPPORTED
from appliance.schemas.ollama_request import (
    CHAT_UNSUPPORTED,
    GENERATE_UNSUPPORTED,
    OPTION_IGNORED,
    SHOW_IGNORED,
    ChatCall,
    GenerateBody,
    Options,
    ShowBody,
)
from appliance.schemas.ollama_request import IGNORED as OLLAMA_IGNORED
from appliance.schemas.openai_completion import COMPLETION_IGNORED, COMPLETION_UNSUPPORTED, CompletionBody
from appliance.schemas.openai_request import IGNORED, UNSUPPORTED, ChatCompletionRequest
from appliance.schemas.openai_responses import RESPONSE_IGNORED, RESPONSE_UNSUPPORTED, ResponseRequest
from tests.appliance.api.box import MODEL, Box
from tests.architecture.tree import ROOT
from tests.fakes.engine import FAKE_INFO, FakeEngine

_ROW = re.compile(r"^\| `([\w.]+)` \| `(.+?)` \| (honoured|ignored|refused) \| (.*) \|$", re.MULTILINE)

QUESTION = [{"role": "user", "content": "Hi"}]
ENDPOINTS: dict[str, tuple[type[BaseModel], tuple[str, ...], dict[str, Any], dict[str, Any]]] = {
    "/v1/chat/completions": (ChatCompletionRequest, IGNORED, UNSUPPORTED, {"messages": QUESTION}),
    "/v1/completions": (CompletionBody, COMPLETION_IGNORED, COMPLETION_UNSUPPORTED, {"prompt": "Hi"}),
    "/v1/responses": (ResponseRequest, RESPONSE_IGNORED, RESPONSE_UNSUPPORTED, {"input": "Hi"}),
    "/v1/messages": (
        MessagesRequest,
        MESSAGE_IGNORED,
        MESSAGE_UNSUPPORTED,
        {"messages": QUESTION, "max_tokens": 500},
    ),
    "/v1/messages/count_tokens": (CountTokensRequest, COUNT_IGNORED, MESSAGE_UNSUPPORTED, {"messages": QUESTION}),
    "/api/chat": (ChatCall, OLLAMA_IGNORED, CHAT_UNSUPPORTED, {"messages": QUESTION}),
    "/api/generate": (GenerateBody, OLLAMA_IGNORED, GENERATE_UNSUPPORTED, {"prompt": "Hi"}),
    "/api/show": (ShowBody, SHOW_IGNORED, {}, {}),
}
OPTIONS = {f"options.{name}" for name in Options.model_fields}
IGNORED_OPTIONS = {f"options.{name}" for name in OPTION_IGNORED}
"""Of ``/api/chat``; those of ``/api/generate`` are the same."""
NEEDS: dict[str, dict[str, Any]] = {
    "stream_options": {"stream": True},
    "top_logprobs": {"logprobs": True},
    "tool_choice": {"tools": [{"type": "function", "function": {"name": "f"}}]},
    "parallel_tool_calls": {"tools": [{"type": "function", "function": {"name": "f"}}]},
    "continue_final_message": {"messages": [*QUESTION, {"role": "assistant", "content": "Well"}]},
    "add_generation_prompt": {
        "messages": [*QUESTION, {"role": "assistant", "content": "Well"}],
        "continue_final_message": True,
    },
}
"""What an example needs beside it."""
SEEN_WHEN_IT_MATTERS = ("trim", "truncate", "deadline_s", "output_config")
"""Of what does not fit, of a box that is full, of an answer that is only counted: other tests have those."""


def rows(path: str) -> list[tuple[str, Any, str]]:
    """(parameter, example, what) of an endpoint's table."""
    text = (ROOT / "docs" / "parameters.md").read_text(encoding="utf-8")
    section = text.partition(f"## POST {path}\n")[2].partition("\n## ")[0]
    return [
        (name, json.loads(example.replace("\\|", "|").replace("MODEL", MODEL)), what)
        for name, example, what, _ in _ROW.findall(section)
    ]


TABLES = {path: rows(path) for path in ENDPOINTS}


def rows_of(path: str, what: str) -> list[tuple[str, Any, str]]:
    return [row for row in TABLES[path] if row[2] == what]


@pytest.mark.parametrize("path", ENDPOINTS)
def test_the_table_is_whole(path: str) -> None:
    model, ignored, unsupported, _ = ENDPOINTS[path]
    table = TABLES[path]
    options = OPTIONS if path == "/api/chat" else set()
    assert sorted(name for name, _, _ in table) == sorted({*model.model_fields, *options})
    assert {name for name, _, what in table if what == "ignored"} == {*ignored, *(options & IGNORED_OPTIONS)}
    assert {name for name, _, what in table if what == "refused"} == set(unsupported)


def needed(path: str, name: str) -> dict[str, Any]:
    needs = NEEDS.get(name, {})
    if path == "/v1/responses":
        named = {"tools": [{"type": "function", "name": "f"}]} if "tools" in needs else {}
        needs = {key: value for key, value in needs.items() if key == "stream"} | named
    if path.startswith("/api/"):
        needs = {"logprobs": {}, "top_logprobs": {"logprobs": True}}.get(name, {})
    if path.startswith("/v1/messages") and "tools" in needs:
        needs = {"tools": [{"name": "f", "input_schema": {"type": "object"}}]}
    return needs


def with_it(body: dict[str, Any], name: str, example: Any) -> dict[str, Any]:
    outer, _, inner = name.rpartition(".")
    return body | ({outer: {inner: example}} if outer else {name: example})


def error_of(response: httpx.Response) -> dict[str, Any]:
    """The error in any protocol's envelope."""
    body: dict[str, Any] = response.json()
    return body["error"] if isinstance(body["error"], dict) else body


@pytest.fixture
def asked(box: Box) -> Box:
    """Enough seats for two answers at once, and room for thoughts of different lengths."""
    info = replace(FAKE_INFO, seats=4, context_tokens=100_000)
    box.use(FakeEngine(("hm", "</think>", "Yes", "."), info=info))
    return box


async def effect(client: httpx.AsyncClient, box: Box, path: str, body: dict[str, Any]) -> Any:
    """What the engine is asked for, and what the client gets, without what is new each time."""
    before = len(box.engine.requests)
    response = await client.post(path, json=body)
    assert response.status_code == 200, response.text
    requests = [replace(request, request_id="r") for request in box.engine.requests[before:]]
    text = re.sub(
        r"(chatcmpl-|cmpl-|resp_|msg_|rs_|fc_)\w+|\"(created|created_at|completed_at|\w+_duration)\":(\d+|\".*?\")",
        "",
        response.text,
    )
    return requests, text, response.headers.get("content-type")


@pytest.mark.parametrize("path", ENDPOINTS)
async def test_honoured(client: httpx.AsyncClient, asked: Box, path: str) -> None:
    wrong = []
    for name, example, _ in rows_of(path, "honoured"):
        body = {"model": MODEL, **ENDPOINTS[path][3], **needed(path, name)}
        if name == "previous_response_id":
            example = (await client.post(path, json=body)).json()["id"]
        response = await client.post(path, json=with_it(body, name, example))
        if response.status_code != 200 or name in response.headers.get("x-r1box-ignored", "").split(", "):
            wrong.append((name, response.text))
            continue
        if name in ("model", "messages", "prompt", "input", "add_generation_prompt") or path == "/api/show":
            continue  # nothing works without them, or they only confirm another one
        changed = await effect(client, asked, path, with_it(body, name, example))
        plain = await effect(client, asked, path, body)
        if changed == plain and name not in SEEN_WHEN_IT_MATTERS:
            wrong.append((name, "it changes nothing"))
    assert wrong == []


@pytest.mark.parametrize("path", ENDPOINTS)
async def test_ignored(client: httpx.AsyncClient, asked: Box, path: str) -> None:
    wrong = []
    for name, example, _ in rows_of(path, "ignored"):
        body = {"model": MODEL, **ENDPOINTS[path][3], **needed(path, name)}
        response = await client.post(path, json=with_it(body, name, example))
        if response.status_code != 200 or response.headers.get("x-r1box-ignored") != name:
            wrong.append((name, response.text))
            continue
        before = len(asked.engine.requests)
        plain = await client.post(path, json=body)
        if before:
            first, second = (replace(request, request_id="r") for request in asked.engine.requests[-2:])
            same = first == second
        else:
            same = plain.content == response.content
        if not same:
            wrong.append((name, "it changes something"))
    assert wrong == []


@pytest.mark.parametrize("path", ENDPOINTS)
async def test_refused(client: httpx.AsyncClient, asked: Box, path: str) -> None:
    body, wrong = {"model": MODEL, **ENDPOINTS[path][3]}, []
    for name, example, _ in rows_of(path, "refused"):
        before = len(asked.engine.requests)
        error = error_of(await client.post(path, json=body | {name: example}))
        if (error["code"], error["param"]) != ("unsupported_parameter", name) or len(asked.engine.requests) > before:
            wrong.append((name, error))
        for neutral in (None, *ENDPOINTS[path][2][name]):
            response = await client.post(path, json=body | {name: neutral})
            if response.status_code != 200:
                wrong.append((name, response.text))
    assert wrong == []


@pytest.mark.parametrize("path", ENDPOINTS)
async def test_what_nobody_knows_is_refused_or_named(client: httpx.AsyncClient, path: str) -> None:
    """Ollama's clients send what other versions know, and Ollama takes it."""
    body = {"model": MODEL, **ENDPOINTS[path][3], "guided_json": {}}
    response = await client.post(path, json=body)
    if path.startswith("/api/"):
        assert (response.status_code, response.headers["x-r1box-ignored"]) == (200, "guided_json")
        return
    error = error_of(response)
    assert (error["code"], error["param"]) == ("unknown_parameter", "guided_json")


async def test_what_is_ignored_within_a_parameter_is_named_too(client: httpx.AsyncClient) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "n", "description": "d", "schema": {"type": "object"}}}
    body = {"model": MODEL, "messages": QUESTION, "stream": True, "response_format": form}
    response = await client.post(
        "/v1/chat/completions", json=body | {"stream_options": {"include_obfuscation": True}, "user": "u"}
    )
    assert response.headers["x-r1box-ignored"] == (
        "user, stream_options.include_obfuscation, response_format.json_schema.description"
    )
    tool = {"type": "function", "function": {"name": "f", "strict": True}}
    response = await client.post("/v1/chat/completions", json={"model": MODEL, "messages": QUESTION, "tools": [tool]})
    assert "strict=not-enforced" in response.headers["x-r1box-changed"], "by an engine whose grammars know no tokens"


async def test_what_litellm_sends_back_of_its_own_is_named(client: httpx.AsyncClient) -> None:
    function = {"name": "f", "arguments": "{}"}
    call = {"id": "c", "type": "function", "function": function, "provider_specific_fields": {"a": 1}}
    told = {"role": "assistant", "content": None, "tool_calls": [call], "provider_specific_fields": {"refusal": None}}
    messages = [*QUESTION, told, {"role": "tool", "tool_call_id": "c", "content": "5"}]
    response = await client.post("/v1/chat/completions", json={"model": MODEL, "messages": messages})
    assert response.status_code == 200, response.text
    assert response.headers["x-r1box-ignored"] == "messages.provider_specific_fields"
