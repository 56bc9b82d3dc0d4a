from __future__ import annotations

import json
import time
from typing import Any

import pytest

from appliance.api.openai.translate import refuse_wrong, to_chat_request
from appliance.api.validation import parse_body
from appliance.errors import AppError
from appliance.schemas.openai_request import UNSUPPORTED, ChatCompletionRequest
from appliance.serving.types import ChatMessage, ToolCall

USER = {"role": "user", "content": "hello"}


def body(**fields: Any) -> dict[str, Any]:
    return {"model": "m", "messages": [USER], **fields}


def parse(content: Any) -> ChatCompletionRequest:
    return parse_body(ChatCompletionRequest, content if isinstance(content, bytes) else json.dumps(content).encode())


def refusal(content: Any) -> AppError:
    with pytest.raises(AppError) as caught:
        to_chat_request(parse(content), "req_1")
    assert caught.value.http_status == 400
    assert "hello" not in caught.value.message
    return caught.value


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b'{"model": "m", }',
        b"not json",
        b'{"model": "\xff"}',
        b'{"model": "m", "messages": [{"role": "user", "content": "\\ud800"}]}',
        b"[" * 100_000,
        b'{"a":' * 100_000,
    ],
)
def test_what_is_not_json(content: bytes) -> None:
    error = refusal(content)
    assert error.code == "invalid_json"
    assert len(error.message) < 200


@pytest.mark.parametrize("content", [[], [1], "text", 5, None, True])
def test_json_that_is_no_object(content: Any) -> None:
    assert refusal(content).code == "invalid_value"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"model": 5}, "model"),
        ({"model": ""}, "model"),
        ({"messages": []}, "messages"),
        ({"messages": "hello"}, "messages"),
        ({"messages": ["hello"]}, "messages[0]"),
        ({"messages": [USER, {"role": "robot", "content": "hello"}]}, "messages[1].role"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": None}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": ["hello"]}]}, "messages[0].content[0]"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": 5}]}]}, "messages[0].content[0].text"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages[0].content[0].text"),
        ({"messages": [{"role": "assistant"}]}, "messages[0].content"),
        ({"messages": [{"role": "tool", "content": "5"}]}, "messages[0].tool_call_id"),
        ({"messages": [USER] * 10_001}, "messages"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 1.5}, "max_tokens"),
        ({"max_tokens": "5"}, "max_tokens"),
        ({"max_tokens": True}, "max_tokens"),
        ({"max_tokens": 10**30}, "max_tokens"),
        ({"max_tokens": 5, "max_completion_tokens": 6}, "max_tokens"),
        ({"max_completion_tokens": -1}, "max_completion_tokens"),
        ({"temperature": -0.1}, "temperature"),
        ({"temperature": 2.1}, "temperature"),
        ({"temperature": "0.5"}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"temperature": float("inf")}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"top_p": 1.01}, "top_p"),
        ({"top_k": -1}, "top_k"),
        ({"min_p": 2}, "min_p"),
        ({"presence_penalty": -2.5}, "presence_penalty"),
        ({"frequency_penalty": 3}, "frequency_penalty"),
        ({"repeat_penalty": 0}, "repeat_penalty"),
        ({"seed": "x"}, "seed"),
        ({"seed": 2**70}, "seed"),
        ({"stop": 5}, "stop"),
        ({"stop": ""}, "stop"),
        ({"stop": ["a", ""]}, "stop[1]"),
        ({"stop": list("abcde")}, "stop"),
        ({"stream": "yes"}, "stream"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"stream": True, "stream_options": {"include_usage": 1}}, "stream_options.include_usage"),
        ({"logit_bias": {"5": 101}}, "logit_bias.5"),
        ({"logit_bias": {"word": 1}}, "logit_bias.word"),
        ({"logit_bias": [1]}, "logit_bias"),
    ],
)
def test_wrong_values_name_their_parameter(fields: dict[str, Any], param: str) -> None:
    error = refusal(body(**fields))
    assert error.details["param"] == param
    assert error.code == "invalid_value"


@pytest.mark.parametrize(
    "content",
    [
        b'{"model": "m", "messages": [' + b'{"role":"user","content":"hello"},' * 300_000 + b"1]}",
        b'{"model": "m", "messages": [{"role":"user","content":[' + b"1," * 5_000_000 + b"1]}]}",
        b'{"model": "m", "messages": [' + b"1," * 5_000_000 + b"1]}",
        b'{"model": "m", "messages": [{"role":"user","content":"hello"}], "stop":[' + b"1," * 5_000_000 + b"1]}",
        b'{"model": "m",' + b'"k\\\\":1,' * 1_000_000 + b'"messages": []}',
        b'{"model": "m", "messages": [], "logit_bias": {' + b'"1":1,' * 1_000_000 + b'"2":1}}',
    ],
    ids=["messages", "parts", "numbers", "stop", "keys", "bias"],
)
def test_floods_of_values_are_refused_soon(content: bytes) -> None:
    started = time.process_time()
    assert refusal(content).code == "invalid_value"
    assert time.process_time() - started < 10  # without bounds it is minutes


def test_many_quotes_in_a_text_are_no_flood() -> None:
    text = '"' * 500_000
    assert parse(body(messages=[{"role": "user", "content": text}])).messages[0].content == text


def test_messages_are_plain() -> None:
    assert refusal(body(max_tokens=-1)).message == "'max_tokens' should be greater than or equal to 1."
    assert (
        refusal(body(messages=[{"role": "user", "content": 5}])).message
        == "'messages[0].content' should be a valid string or should be a valid array."
    )


def test_missing_and_unknown_parameters() -> None:
    error = refusal({"messages": [USER]})
    assert (error.code, error.details["param"]) == ("missing_required_parameter", "model")
    error = refusal(body(temprature=1))
    assert (error.code, error.details["param"]) == ("unknown_parameter", "temprature")
    error = refusal(body(messages=[{**USER, "mood": "good"}]))
    assert (error.code, error.details["param"]) == ("unknown_parameter", "messages[0].mood")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("functions", [{}]),
        ("best_of", 2),
        ("functions", [{"deep": [1]}]),
        ("modalities", ["text", "audio"]),
        ("verbosity", "high"),
    ],
)
def test_what_is_not_built_is_refused(name: str, value: Any) -> None:
    error = refusal(body(**{name: value}))
    assert (error.code, error.details["param"]) == ("unsupported_parameter", name)


def test_parts_that_are_not_text_are_refused() -> None:
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    error = refusal(body(messages=[{"role": "user", "content": [{"type": "text", "text": "hello"}, picture]}]))
    assert (error.code, error.details["param"]) == ("unsupported_parameter", "messages[0].content[1]")
    assert "image_url" in error.message
    error = refusal(body(messages=[{"role": "user", "content": [{"type": "text", "text": "hello", "x": 1}]}]))
    assert error.details["param"] == "messages[0].content[0].x"


def test_neutral_values_pass() -> None:
    neutral = {name: values[0] for name, values in UNSUPPORTED.items() if values}
    refuse_wrong(parse(body(**neutral)), UNSUPPORTED)
    refuse_wrong(parse(body(**dict.fromkeys(UNSUPPORTED))), UNSUPPORTED)


def test_harmless_fields_pass() -> None:
    parse(body(user="u", metadata={"a": "1"}, store=True, service_tier="auto", safety_identifier="s"))


def test_everything_arrives() -> None:
    chat = to_chat_request(
        parse(
            body(
                stream=True,
                max_completion_tokens=7,
                stop=["a", "b"],
                temperature=1,
                top_p=1,
                top_k=3,
                min_p=0.1,
                presence_penalty=-2,
                frequency_penalty=2,
                repeat_penalty=1.1,
                seed=-4,
                logit_bias={"5": -100, "6": 1},
            )
        ),
        "req_1",
    )
    assert (chat.request_id, chat.model, chat.max_tokens, chat.stop) == ("req_1", "m", 7, ("a", "b"))
    sampling = chat.sampling
    assert (sampling.temperature, sampling.top_p, sampling.top_k, sampling.min_p) == (1, 1, 3, 0.1)
    assert (sampling.presence_penalty, sampling.frequency_penalty, sampling.repeat_penalty) == (-2, 2, 1.1)
    assert (sampling.seed, sampling.logit_bias) == (-4, ((5, -100), (6, 1)))


def test_nothing_is_invented() -> None:
    chat = to_chat_request(parse(body()), "req_1")
    assert chat.max_tokens is None
    assert chat.stop == ()
    assert {getattr(chat.sampling, name) for name in chat.sampling.__slots__} == {None}


def test_history_as_clients_send_it_back() -> None:
    messages = [
        {"role": "developer", "content": "short"},
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "name": "ann"},
        {
            "role": "assistant",
            "content": "4",
            "reasoning_content": "2+2",
            "refusal": None,
            "annotations": [],
            "audio": None,
            "function_call": None,
            "tool_calls": None,
        },
        {
            "role": "assistant",
            "content": None,
            "reasoning": "look",
            "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
        },
        {"role": "tool", "content": "sunny", "tool_call_id": "c1"},
    ]
    assert to_chat_request(parse(body(messages=messages)), "r").messages == (
        ChatMessage(role="developer", content="short"),
        ChatMessage(role="user", content="ab", name="ann"),
        ChatMessage(role="assistant", content="4", reasoning="2+2"),
        ChatMessage(role="assistant", content="", reasoning="look", tool_calls=(ToolCall("c1", "f", "{}"),)),
        ChatMessage(role="tool", content="sunny", tool_call_id="c1"),
    )
