"""Thinking under control as OpenAI's clients see it: fields, header, usage, the log, the route for the impatient."""

from __future__ import annotations

import asyncio
import io
import json
from typing import Any

import httpx
import pytest
from openai import AsyncOpenAI

from appliance.api.openai.thinking import to_thinking
from appliance.errors import InvalidRequest
from appliance.schemas.openai_thinking import ThinkingFields
from appliance.serving.thinking import LANDINGS
from appliance.serving.types import Effort, ThinkingOptions
from tests.appliance.api.box import MODEL, Box
from tests.appliance.api.test_metrics import read
from tests.fakes.engine import FakeEngine, text_of

QUESTION: Any = [{"role": "user", "content": "What is 2+2?"}]
PATH = "/v1/chat/completions"
LONG = (*(f"w{number} " for number in range(40)), "</think>", "\n\n", "It is ", "4.")


def body(**fields: Any) -> dict[str, Any]:
    return {"model": MODEL, "messages": QUESTION, **fields}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, ThinkingOptions()),
        ({"reasoning_effort": "none"}, ThinkingOptions(enabled=False)),
        ({"reasoning_effort": "minimal"}, ThinkingOptions(effort=Effort.MINIMAL)),
        ({"reasoning_effort": "low"}, ThinkingOptions(effort=Effort.LOW)),
        ({"reasoning_effort": "medium"}, ThinkingOptions(effort=Effort.MEDIUM)),
        ({"reasoning_effort": "high"}, ThinkingOptions(effort=Effort.HIGH)),
        ({"reasoning_effort": "xhigh"}, ThinkingOptions(effort=Effort.HIGH)),
        ({"reasoning": {"effort": "xhigh"}, "reasoning_effort": "high"}, ThinkingOptions(effort=Effort.HIGH)),
        ({"max_thinking_tokens": 7, "max_answer_tokens": 9}, ThinkingOptions(budget_tokens=7, answer_tokens=9)),
        ({"thinking": {"type": "enabled", "budget_tokens": 7}}, ThinkingOptions(enabled=True, budget_tokens=7)),
        ({"thinking": {"type": "disabled"}}, ThinkingOptions(enabled=False)),
        ({"reasoning": {"max_tokens": 7, "enabled": True}}, ThinkingOptions(enabled=True, budget_tokens=7)),
        ({"thinking_token_budget": 7}, ThinkingOptions(budget_tokens=7)),
        ({"thinking_budget_tokens": 7}, ThinkingOptions(budget_tokens=7)),
        ({"enable_thinking": True, "thinking_budget": 7}, ThinkingOptions(enabled=True, budget_tokens=7)),
        ({"chat_template_kwargs": {"enable_thinking": False}}, ThinkingOptions(enabled=False)),
        ({"chat_template_kwargs": {"thinking_budget": 7}}, ThinkingOptions(budget_tokens=7)),
    ],
)
def test_every_name_of_a_budget_is_understood(fields: dict[str, Any], expected: ThinkingOptions) -> None:
    assert to_thinking(ThinkingFields.model_validate(fields)) == expected


@pytest.mark.parametrize(
    "fields",
    [
        {"max_thinking_tokens": 7, "thinking_token_budget": 8},
        {"thinking": {"type": "disabled"}, "enable_thinking": True},
        {"reasoning_effort": "low", "reasoning": {"effort": "high"}},
        {"reasoning_effort": "none", "enable_thinking": True},
    ],
)
def test_names_that_contradict_each_other_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest, match="different things"):
        to_thinking(ThinkingFields.model_validate(fields))


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"reasoning_effort": "huge"}, "reasoning_effort"),
        ({"max_thinking_tokens": -1}, "max_thinking_tokens"),
        ({"max_answer_tokens": 0}, "max_answer_tokens"),
        ({"thinking": {"type": "adaptive"}}, "thinking.type"),
        ({"thinking": {"type": "enabled", "effort": "low"}}, "thinking.effort"),
        ({"chat_template_kwargs": {"tools_in_user_message": True}}, "chat_template_kwargs.tools_in_user_message"),
        ({"thinking": {"type": "disabled", "budget_tokens": 5}}, "thinking"),
    ],
)
async def test_what_means_nothing_is_refused_by_name(
    client: httpx.AsyncClient, fields: dict[str, Any], param: str
) -> None:
    response = await client.post(PATH, json=body(**fields))
    assert (response.status_code, response.json()["error"]["param"]) == (400, param)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_budget_is_kept_and_its_end_is_told(
    client: httpx.AsyncClient, box: Box, log: io.StringIO, stream: bool
) -> None:
    box.use(FakeEngine(LONG))
    fields = {"stream": True, "stream_options": {"include_usage": True}} if stream else {}
    response = await client.post(PATH, json=body(max_thinking_tokens=8, **fields))
    text = response.text
    last = text.strip().split("\n\n")[-2].removeprefix("data: ") if stream else text
    usage = json.loads(last)["usage"]
    assert (usage["thinking_end"], usage["answer_looped"]) == ("budget", None)
    assert "I have thought long enough" in text
    assert "4." in text
    (row,) = [json.loads(line) for line in log.getvalue().splitlines() if json.loads(line)["event"] == "request"]
    assert row["thinking_end"] == "budget"
    told = await read(client)
    assert told["r1box_thoughts_totalbudget"] == told["r1box_thoughts_landed_total"] == 1
    assert told["r1box_thinking_tokens_total"] == usage["completion_tokens_details"]["reasoning_tokens"]
    assert told["r1box_loops_broken_totalthought"] == told["r1box_loops_broken_totalanswer"] == 0


async def test_an_effort_says_what_it_was_taken_for(client: httpx.AsyncClient, box: Box) -> None:
    response = await client.post(PATH, json=body(reasoning_effort="low"))
    assert response.headers["x-r1box-changed"] == "effort=low:2048"
    response = await client.post(PATH, json=body(reasoning_effort="none"))
    assert "x-r1box-changed" not in response.headers
    assert box.engine.prompts[-1].endswith("<think>\n\n</think>\n\n")


async def test_answer_now_with_the_official_client(openai: AsyncOpenAI, box: Box) -> None:
    engine = box.use(FakeEngine(LONG, hold_after=5))
    stream = await openai.chat.completions.create(
        model=MODEL, messages=QUESTION, stream=True, stream_options={"include_usage": True}
    )
    request_id = stream.response.headers["x-request-id"]
    said, usage, asked = "", None, False
    async for chunk in stream:
        if chunk.choices:
            said += chunk.choices[0].delta.content or ""
        usage = chunk.usage or usage
        if not asked:
            asked = True
            for name in (request_id, chunk.id):
                reply = await openai.post(
                    f"/chat/requests/{name}/answer_now", cast_to=httpx.Response, options={"headers": {}}
                )
                assert reply.json() == {"id": request_id, "object": "r1box.request", "state": "thinking"}
            await engine.resume()
    assert said == "It is 4."
    assert usage is not None
    assert (usage.model_extra or {})["thinking_end"] == "asked"
    control = engine.requests[0].thinking
    assert control is not None
    assert text_of(control.landing_tokens) == LANDINGS["en"]


async def test_nobody_ends_the_thought_of_another_key(
    client: httpx.AsyncClient, stranger: httpx.AsyncClient, box: Box
) -> None:
    engine = box.use(FakeEngine(LONG, hold_after=5))
    other = await asyncio.to_thread(box.keys.create, "other")
    asking = asyncio.create_task(client.post(PATH, json=body()))
    await engine.wait_active(1)
    route = f"/v1/chat/requests/{engine.requests[0].request_id}/answer_now"
    response = await stranger.post(route, headers={"Authorization": f"Bearer {other.secret}"})
    assert (response.status_code, response.json()["error"]["code"]) == (404, "request_not_found")
    assert (await stranger.post(route)).status_code == 401
    assert engine.asked == []
    assert (await client.post(route)).status_code == 200
    await engine.resume()
    assert (await asking).json()["usage"]["thinking_end"] == "asked"
    # It has ended: there is nothing left to be asked.
    assert (await client.post(route)).status_code == 404
    assert (await client.post("/v1/chat/requests/none%20such/answer_now")).status_code == 404
