"""The R1 contract, reasoning formats and trimming as clients see them: bodies, headers, usage, the log."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from typing import Any

import httpx
import pytest
from openai import AsyncOpenAI

from appliance.schemas.openai_response import ChatCompletion, ChatCompletionChunk
from appliance.serving.types import ProfileName
from tests.appliance.api.box import MODEL, Box
from tests.appliance.serving.samples import R1, R1_0528, R1_OLD, SMOL
from tests.fakes.engine import FAKE_INFO, FakeEngine

QUESTION: Any = [{"role": "user", "content": "What is 2+2?"}]
PATH = "/v1/chat/completions"
ALL_FORMATS = ["reasoning_content", "reasoning", "both", "inline", "hidden"]
MESSAGES = {
    "reasoning_content": {"content": "It is 4.", "reasoning_content": "two and two"},
    "reasoning": {"content": "It is 4.", "reasoning": "two and two"},
    "both": {"content": "It is 4.", "reasoning_content": "two and two", "reasoning": "two and two"},
    "inline": {"content": "<think>\ntwo and two\n</think>\n\nIt is 4."},
    "hidden": {"content": "It is 4."},
}


def body(**fields: Any) -> dict[str, Any]:
    return {"model": MODEL, "messages": QUESTION, **fields}


def asked(box: Box) -> str:
    """The prompt of the one request."""
    (prompt,) = box.engine.prompts
    return prompt


@pytest.fixture
def r1(box: Box) -> Box:
    """A box whose model is an R1 of January 2025, with that template."""
    box.models[MODEL] = replace(R1_OLD, id=MODEL)
    return box


async def streamed(client: httpx.AsyncClient, **fields: Any) -> tuple[dict[str, str], httpx.Response]:
    """A stream's deltas put together, field by field."""
    response = await client.post(PATH, json=body(stream=True, **fields))
    assert response.status_code == 200, response.text
    joined: dict[str, str] = {}
    for event in response.text.split("\n\n"):
        if event.startswith("data: {"):
            chunk = ChatCompletionChunk.model_validate_json(event.removeprefix("data: "), strict=True)
            for choice in chunk.choices:
                for name, text in choice.delta.model_dump(exclude_unset=True, exclude={"role"}).items():
                    joined[name] = joined.get(name, "") + text
    return joined, response


# -- reasoning formats ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ALL_FORMATS)
@pytest.mark.parametrize("by", ["body", "header"])
async def test_the_thought_goes_where_the_client_wants_it(client: httpx.AsyncClient, name: str, by: str) -> None:
    fields = {"reasoning_format": name} if by == "body" else {}
    client.headers.update({"X-R1Box-Reasoning": name.upper()} if by == "header" else {})
    response = await client.post(PATH, json=body(**fields))
    ChatCompletion.model_validate_json(response.content, strict=True)
    answer = response.json()
    message = answer["choices"][0]["message"]
    assert message == {"role": "assistant", "refusal": None, **MESSAGES[name]}
    joined, _ = await streamed(client, **fields)
    assert joined == MESSAGES[name]
    assert answer["usage"]["completion_tokens_details"]["reasoning_tokens"] > 0, "hidden or not, it is counted"


async def test_by_default_it_is_reasoning_content_and_the_body_goes_before_the_header(
    client: httpx.AsyncClient,
) -> None:
    assert (await streamed(client))[0] == MESSAGES["reasoning_content"]
    client.headers["X-R1Box-Reasoning"] = "hidden"
    assert (await streamed(client, reasoning_format="both"))[0] == MESSAGES["both"]


@pytest.mark.parametrize("stream", [False, True])
async def test_an_unknown_format_is_refused(client: httpx.AsyncClient, box: Box, stream: bool) -> None:
    in_body = await client.post(PATH, json=body(reasoning_format="raw", stream=stream))
    assert (in_body.status_code, in_body.json()["error"]["param"]) == (400, "reasoning_format")
    client.headers["X-R1Box-Reasoning"] = "raw"
    in_header = await client.post(PATH, json=body(stream=stream))
    assert (in_header.status_code, in_header.json()["error"]["param"]) == (400, "X-R1Box-Reasoning")
    assert "hidden" in in_header.json()["error"]["message"]
    assert box.engine.requests == []


@pytest.mark.parametrize("name", ["inline", "hidden"])
async def test_a_thought_without_an_end(client: httpx.AsyncClient, box: Box, name: str) -> None:
    box.use(FakeEngine(("hm", "hm")))
    choice = (await client.post(PATH, json=body(max_tokens=1, reasoning_format=name))).json()["choices"][0]
    assert choice["finish_reason"] == "length"
    assert choice["message"]["content"] == ("<think>\nhm" if name == "inline" else "")


# -- the contract -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
async def test_what_was_changed_is_told_in_a_header_and_in_the_log(
    client: httpx.AsyncClient, r1: Box, log: io.StringIO, stream: bool
) -> None:
    history = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "<think>t</think>Ho", "reasoning_content": "t"},
        *QUESTION,
    ]
    response = await client.post(PATH, json=body(messages=history, temperature=1.2, stream=stream))
    assert response.status_code == 200
    changed = "temperature=1.2->0.7, history-reasoning=stripped:1, system=folded, think=opened"
    assert response.headers["x-r1box-changed"] == changed
    assert "x-r1box-trimmed" not in response.headers
    (line,) = [line for line in map(json.loads, log.getvalue().splitlines()) if line.get("path") == PATH]
    assert line["changed"] == changed
    assert "trimmed" not in line
    assert r1.engine.requests[0].sampling.temperature == 0.7
    assert asked(r1).endswith(
        "<｜User｜>[instructions begin]\nBe brief.\n[instructions end]\n\nHi"
        "<｜Assistant｜>Ho<｜end▁of▁sentence｜><｜User｜>What is 2+2?<｜Assistant｜><think>\n"
    )


@pytest.mark.parametrize("stream", [False, True])
async def test_what_was_not_changed_is_not_told(
    client: httpx.AsyncClient, box: Box, log: io.StringIO, stream: bool
) -> None:
    box.models[MODEL] = replace(R1, id=MODEL)
    response = await client.post(PATH, json=body(temperature=0.6, top_p=0.5, stream=stream))
    assert not [name for name in response.headers if name.startswith("x-r1box")]
    (line,) = [line for line in map(json.loads, log.getvalue().splitlines()) if line.get("path") == PATH]
    assert "changed" not in line


@pytest.mark.parametrize(
    ("model", "temperature", "changed"),
    [
        (R1, 0.7, "temperature=2->0.7, system=folded"),
        (R1_0528, 0.7, "temperature=2->0.7"),
        (SMOL, 2.0, None),
    ],
    ids=[*ProfileName],
)
async def test_each_model_by_its_own_contract(
    client: httpx.AsyncClient, box: Box, model: Any, temperature: float, changed: str | None
) -> None:
    box.models[MODEL] = replace(model, id=MODEL)
    messages = [{"role": "system", "content": "Be brief."}, *QUESTION]
    response = await client.post(PATH, json=body(messages=messages, temperature=2))
    assert response.headers.get("x-r1box-changed") == changed
    assert box.engine.requests[0].sampling.temperature == temperature


SENT_BACK: list[dict[str, Any]] = [
    {"content": "Ho", "reasoning_content": "secret"},
    {"content": "Ho", "reasoning": "secret"},
    {"content": "Ho", "reasoning_content": "secret", "reasoning": "secret"},
    {"content": "Ho", "reasoning": {"text": "secret"}},
    {"content": "Ho", "reasoning_content": ["secret"]},
    {"content": "Ho", "reasoning_details": [{"type": "reasoning.text", "text": "secret"}]},
    {"content": "Ho", "thinking": "secret"},
    {"content": "Ho", "thinking_blocks": [{"type": "thinking", "thinking": "secret", "signature": "s"}]},
    {"content": "<think>\nsecret\n</think>\n\nHo"},
    {"content": "secret\n</think>\n\nHo"},
    {"content": '<details type="reasoning" done="true">\n> secret\n</details>\nHo'},
    {"content": [{"type": "thinking", "thinking": "secret", "signature": "s"}, {"type": "text", "text": "Ho"}]},
    {"content": [{"type": "reasoning", "text": "secret"}, {"type": "text", "text": "Ho"}]},
    {"content": [{"type": "redacted_thinking", "data": "secret"}, {"type": "text", "text": "Ho"}]},
    {"content": [{"type": "text", "text": "<think>secret</think>"}, {"type": "text", "text": "Ho"}]},
    {"content": None, "reasoning_content": "secret"},
    {"reasoning_content": "secret"},
    {"content": "", "reasoning": "secret"},
]


@pytest.mark.parametrize("sent", SENT_BACK, ids=range(len(SENT_BACK)))
@pytest.mark.parametrize("model", [R1, R1_0528, SMOL], ids=[*ProfileName])
async def test_a_thought_that_is_sent_back_is_never_an_error(
    client: httpx.AsyncClient, box: Box, sent: dict[str, Any], model: Any
) -> None:
    box.models[MODEL] = replace(model, id=MODEL)
    history = [{"role": "user", "content": "Hi"}, {"role": "assistant", **sent}, *QUESTION]
    response = await client.post(PATH, json=body(messages=history))
    assert response.status_code == 200, response.text
    if model is not SMOL:
        assert "secret" not in asked(box)
        assert f"<｜Assistant｜>{'Ho' if sent.get('content') else ''}<｜end▁of▁sentence｜>" in asked(box)
        assert response.headers["x-r1box-changed"] == "history-reasoning=stripped:1"


@pytest.mark.parametrize(
    ("message", "param"),
    [
        ({"role": "user", "content": [{"type": "thinking", "thinking": "x"}]}, "messages[0].content[0]"),
        ({"role": "assistant", "content": None}, "messages[0].content"),
        ({"role": "user", "content": None, "reasoning_content": "x"}, "messages[0].content"),
    ],
)
async def test_what_is_no_thought_of_an_assistant_is_still_refused(
    client: httpx.AsyncClient, message: dict[str, Any], param: str
) -> None:
    response = await client.post(PATH, json=body(messages=[message, *QUESTION]))
    assert (response.status_code, response.json()["error"]["param"]) == (400, param)


# -- trimming ---------------------------------------------------------------------------------------------------------


def long_talk(turns: int = 12) -> list[dict[str, str]]:
    said = [{"role": "system", "content": "Be brief."}]
    for number in range(turns):
        said += [
            {"role": "user", "content": f"q{number:02}" + "x" * 240},
            {"role": "assistant", "content": f"a{number:02}"},
        ]
    return [*said, *QUESTION]


async def test_without_being_asked_it_is_refused_with_exact_numbers(client: httpx.AsyncClient, r1: Box) -> None:
    r1.use(FakeEngine(("x",), info=replace(FAKE_INFO, longest_token_bytes=64)))
    response = await client.post(PATH, json=body(messages=long_talk(), max_tokens=100))
    assert response.status_code == 400
    error = response.json()["error"]
    assert (error["code"], error["param"]) == ("context_length_exceeded", "messages")
    assert "100 are reserved for the answer; a seat of this model holds 512." in error["message"]
    assert error["message"].endswith("or set trim='turns'.")
    assert r1.engine.requests == []


async def test_trimming_is_declared_in_header_usage_and_log(
    openai: AsyncOpenAI, client: httpx.AsyncClient, r1: Box, log: io.StringIO
) -> None:
    r1.use(FakeEngine(("t", "</think>", "4"), info=replace(FAKE_INFO, longest_token_bytes=64)))
    messages: Any = long_talk()
    raw = await openai.chat.completions.with_raw_response.create(
        model=MODEL, messages=messages, max_tokens=100, extra_body={"trim": "turns"}
    )
    usage = raw.parse().usage
    assert usage is not None
    trimmed: Any = (usage.model_extra or {})["trimmed"]
    declared = f"turns={trimmed['turns']} tokens={trimmed['tokens']}"
    assert raw.headers["x-r1box-trimmed"] == declared
    assert trimmed["turns"] > 0
    assert trimmed["tokens"] > trimmed["turns"] * 60
    assert trimmed["tokens_is_minimum"] is False
    assert usage.prompt_tokens + 100 <= FAKE_INFO.context_tokens
    assert [f"q{number:02}" in asked(r1) for number in range(12)] == [
        number >= trimmed["turns"] for number in range(12)
    ]
    assert asked(r1).count("Be brief.") == asked(r1).count("What is 2+2?") == 1
    fields = {"messages": messages, "max_tokens": 100, "trim": "turns", "stream": True}
    response = await client.post(PATH, json=body(**fields, stream_options={"include_usage": True}))
    assert response.headers["x-r1box-trimmed"] == declared
    last = [json.loads(event[6:]) for event in response.text.split("\n\n") if event.startswith("data: {")][-1]
    assert last["usage"]["trimmed"] == trimmed
    lines = [line for line in map(json.loads, log.getvalue().splitlines()) if line.get("path") == PATH]
    assert [line["trimmed"] for line in lines] == [declared, declared]


async def test_a_minimum_is_called_one(client: httpx.AsyncClient, box: Box) -> None:
    messages = [{"role": "user", "content": "x" * 9000}, {"role": "assistant", "content": "a"}, *QUESTION]
    response = await client.post(PATH, json=body(messages=messages, trim="turns"))
    assert response.headers["x-r1box-trimmed"].startswith("turns=1 tokens_at_least=22")
    assert response.json()["usage"]["trimmed"]["tokens_is_minimum"] is True


async def test_what_fits_is_left_whole(client: httpx.AsyncClient) -> None:
    response = await client.post(PATH, json=body(trim="turns"))
    assert "x-r1box-trimmed" not in response.headers
    assert response.json()["usage"]["trimmed"] is None


@pytest.mark.parametrize("value", ["middle", True, ["turns"]])
async def test_there_is_no_other_way_of_trimming(client: httpx.AsyncClient, value: Any) -> None:
    response = await client.post(PATH, json=body(trim=value))
    assert (response.status_code, response.json()["error"]["param"]) == (400, "trim")
