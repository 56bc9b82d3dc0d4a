"""Thinking under control through the real daemon, on prompts about which the tiny R1 thinks for ever."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from appliance.engine.llamacpp.loops import THOUGHT_LIMITS
from appliance.engine.llamacpp.thought import ASKED_WINDOW, LANDING_WINDOW, LOOP_WINDOW
from tests.e2e.box import Answer, Box, Home, goldens, loops, start_box, stream

LANDING = "I have thought long enough. I will answer now."
LANDING_TOKENS = 30
"""At most, in the tiny vocabulary."""

UNDECIDABLE, PI, BARBER = loops()
UNKNOWN = "I do not know that. I am only a tiny test model."
ANSWERS = ("This cannot be decided.", "Pi has no last digit.", "There is no such barber.")


@pytest.fixture(scope="module")
def patient(prepared: tuple[Home, str, str]) -> Iterator[Box]:
    """A box that ends no loops, so that budgets are what ends a thought."""
    home, _, key = prepared
    home.environment["R1BOX_LOOP_BREAKER"] = "false"
    try:
        running = start_box(home, "--seats", "2", "--context", "4096", key=key)
    finally:
        del home.environment["R1BOX_LOOP_BREAKER"]
    yield running
    assert running.stop() == 0


def end(answer: Answer) -> str | None:
    """How the thought ended, as the usage tells."""
    told: str | None = answer.usage.model_extra["thinking_end"]
    return told


def thought_tokens(answer: Answer) -> int:
    return int(answer.usage.completion_tokens_details.reasoning_tokens)


@pytest.mark.parametrize(("messages", "content"), list(zip(loops(), ANSWERS, strict=True)))
async def test_a_thought_in_circles_is_brought_to_its_answer(
    box: Box, model: str, messages: list[dict[str, Any]], content: str
) -> None:
    async with box.client() as client:
        answer = await stream(client, model, messages)
    assert (end(answer), answer.finish_reason) == ("loop", "stop")
    assert answer.reasoning.endswith(LANDING)
    assert thought_tokens(answer) <= THOUGHT_LIMITS.run_tokens + 100 + LOOP_WINDOW + LANDING_TOKENS
    # After some 400 tokens of one paragraph the tiny model knows of the barber no more.
    assert answer.content in (content, *([UNKNOWN] if messages == BARBER else []))


@pytest.mark.parametrize(
    ("budget", "fields"), [(100, {"max_thinking_tokens": 100}), (64, {"thinking_token_budget": 64})]
)
async def test_a_budget_is_kept_to_the_token(box: Box, model: str, budget: int, fields: dict[str, int]) -> None:
    async with box.client() as client:
        answers = [await stream(client, model, messages, extra_body=fields) for messages in loops()]
    for answer in answers:
        assert (end(answer), answer.finish_reason) == ("budget", "stop")
        thought, landing, rest = answer.reasoning.partition(LANDING)
        assert (bool(landing), rest) == (True, "")
        assert budget - LANDING_WINDOW <= thought_tokens(answer) - LANDING_TOKENS
        assert thought_tokens(answer) <= budget + LANDING_TOKENS
        assert thought.rstrip("\n").endswith("."), "it was cut within a sentence"
    assert [answer.content for answer in answers] == list(ANSWERS)


@pytest.mark.parametrize(
    ("effort", "budget", "max_tokens"),
    [
        ("minimal", 512, None),
        ("low", 2048, None),
        ("medium", 600 - 150, 600),
        ("high", 600 - 150, 600),
        ("xhigh", 450, 600),
    ],
)
async def test_each_effort_has_its_budget_within_max_tokens(
    patient: Box, model: str, effort: str, budget: int, max_tokens: int | None
) -> None:
    limit = {} if max_tokens is None else {"max_tokens": max_tokens}
    async with patient.client() as client:
        answer = await stream(client, model, UNDECIDABLE, reasoning_effort=effort, **limit)
    assert end(answer) == "budget"
    assert answer.reasoning.endswith(LANDING)
    assert budget - LANDING_WINDOW - LANDING_TOKENS <= thought_tokens(answer) <= budget + LANDING_TOKENS
    assert answer.content
    if max_tokens is not None:
        assert answer.usage.completion_tokens <= max_tokens


def test_an_effort_is_told_in_a_header(box: Box, model: str) -> None:
    body = {"model": model, "messages": PI, "max_tokens": 1, "reasoning_effort": "medium"}
    assert box.post(body).headers["x-r1box-changed"] == "effort=medium:8192"


@pytest.mark.parametrize(
    "fields",
    [
        {"reasoning_effort": "none"},
        {"thinking": {"type": "disabled"}},
        {"enable_thinking": False},
        {"chat_template_kwargs": {"enable_thinking": False}},
    ],
)
async def test_without_thinking_the_answer_comes_at_once(box: Box, model: str, fields: dict[str, Any]) -> None:
    async with box.client() as client:
        answers = [await stream(client, model, messages, extra_body=fields) for messages in loops()]
    assert [(answer.reasoning, answer.content) for answer in answers] == [("", content) for content in ANSWERS]
    assert {thought_tokens(answer) for answer in answers} == {0}


async def test_answer_now_in_mid_thought(patient: Box, model: str) -> None:
    async with patient.client() as client:
        chunks = await client.chat.completions.create(
            model=model,
            messages=PI,  # type: ignore[arg-type]
            temperature=0,
            stream=True,
            stream_options={"include_usage": True},
        )
        request_id = chunks.response.headers["x-request-id"]
        reasoning, content, usage, asked_after = "", "", None, 0
        async for chunk in chunks:
            usage = chunk.usage or usage
            if not chunk.choices:
                continue
            reasoning += getattr(chunk.choices[0].delta, "reasoning_content", None) or ""
            content += chunk.choices[0].delta.content or ""
            if not asked_after and len(reasoning) > 300:
                asked_after = len(reasoning)
                reply = patient.post({}, path=f"/v1/chat/requests/{request_id}/answer_now")
                assert reply.json()["state"] == "thinking", reply.text
    assert usage is not None
    assert (usage.model_extra or {})["thinking_end"] == "asked"
    assert reasoning.endswith(LANDING)
    assert content
    # What was on its way when it was asked, then one window and the landing.
    assert usage.completion_tokens < 4096 - 1024 - ASKED_WINDOW
    gone = patient.post({}, path=f"/v1/chat/requests/{request_id}/answer_now")
    assert (gone.status_code, gone.json()["error"]["code"]) == (404, "request_not_found")


async def test_what_needs_no_help_is_not_touched(box: Box, model: str) -> None:
    """Greedy, token for token: watched thoughts that end by themselves are those of the goldens."""
    known = goldens("capital", "sum", "json", "long_think", "long_answer")
    async with box.client() as client:
        answers = [await stream(client, model, golden.messages) for golden in known]
    for golden, answer in zip(known, answers, strict=True):
        assert (answer.reasoning, answer.content) == (golden.reasoning, golden.content), golden.id
        assert answer.usage.completion_tokens == golden.completion_tokens - 1  # without the end token
        assert end(answer) == "natural"


async def test_loops_are_counted_by_model_and_quantization(box: Box, model: str) -> None:
    def count() -> float:
        reply = httpx.get(f"{box.url}/metrics", headers={"Authorization": f"Bearer {box.key}"}, timeout=10)
        samples = [
            sample
            for family in text_string_to_metric_families(reply.text)
            for sample in family.samples
            if sample.name == "r1box_loops_broken_total"
        ]
        labels = {"model": model, "quantization": "Q8_0", "part": "thought"}
        return next((sample.value for sample in samples if sample.labels == labels), 0)

    before = count()
    async with box.client() as client:
        await stream(client, model, BARBER)
    assert count() == before + 1
