"""Completions: prompts in all forms, through the official client."""

from __future__ import annotations

from typing import Any

import httpx
import openai as openai_package
import pytest
from openai import AsyncOpenAI

from appliance.engine.request import TokenDelta, TokenLogprob
from tests.appliance.api.box import MODEL, Box
from tests.appliance.api.openai.test_chat import events_of
from tests.fakes.engine import FakeEngine, tokens_of

TEXT = ("Once", " upon", " a </think> time")


@pytest.fixture(autouse=True)
def _writer(box: Box) -> None:
    box.use(FakeEngine(TEXT, cached_tokens=1))


async def test_one_text(openai: AsyncOpenAI, box: Box) -> None:
    made = await openai.completions.create(model=MODEL, prompt="Tell:", stop="!", temperature=0.5, seed=3)
    [choice] = made.choices
    assert (choice.text, choice.finish_reason, choice.index, choice.logprobs) == ("".join(TEXT), "stop", 0, None)
    assert made.id.startswith("cmpl-")
    assert made.object == "text_completion"
    assert made.usage is not None
    assert made.usage.completion_tokens == 3
    assert box.engine.prompts == ["Tell:"]
    [asked] = box.engine.requests
    assert (asked.max_tokens, asked.sampling.seed, asked.thinking) == (16, 3, None)
    assert box.engine.tokenized[-1][1], "the BOS is the tokenizer's matter"


async def test_a_prompt_that_begins_with_the_bos_gets_no_second(openai: AsyncOpenAI, box: Box) -> None:
    await openai.completions.create(model=MODEL, prompt="<s>Tell:")
    assert not box.engine.tokenized[-1][1]


@pytest.mark.parametrize(
    ("prompt", "prompts"),
    [
        (["One", "Two"], ["One", "Two"]),
        (tokens_of("Tokens"), ["Tokens"]),
        ([tokens_of("One"), tokens_of("Two")], ["One", "Two"]),
    ],
)
async def test_prompts_in_all_forms(openai: AsyncOpenAI, box: Box, prompt: Any, prompts: list[str]) -> None:
    made = await openai.completions.create(model=MODEL, prompt=prompt, max_tokens=5)
    assert sorted(box.engine.prompts) == sorted(prompts)
    assert [choice.index for choice in made.choices] == list(range(len(prompts)))
    assert made.usage is not None
    assert made.usage.completion_tokens == 3 * len(prompts)
    assert made.usage.prompt_tokens == sum(len(request.prompt_tokens) for request in box.engine.requests)


async def test_n_texts_of_each_prompt_count_it_once(openai: AsyncOpenAI, box: Box) -> None:
    box.use(FakeEngine(lambda prompt: [prompt[::-1]], info=box.engine.info))
    made = await openai.completions.create(model=MODEL, prompt=["ab"], n=2, seed=5)
    assert [(choice.index, choice.text) for choice in made.choices] == [(0, "ba"), (1, "ba")]
    assert made.usage is not None
    assert made.usage.prompt_tokens == len(box.engine.requests[0].prompt_tokens)
    assert sorted(request.sampling.seed or 0 for request in box.engine.requests) == [5, 6]


async def test_echo_and_stop(openai: AsyncOpenAI) -> None:
    made = await openai.completions.create(model=MODEL, prompt="Tell: ", echo=True, stop=["upon"])
    assert made.choices[0].text == "Tell: Once "


async def test_streamed(openai: AsyncOpenAI) -> None:
    stream = await openai.completions.create(
        model=MODEL, prompt="Tell: ", echo=True, stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]
    assert "".join(chunk.choices[0].text for chunk in chunks if chunk.choices) == "Tell: " + "".join(TEXT)
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 3


async def test_streamed_without_usage_on_the_wire(client: httpx.AsyncClient) -> None:
    body = {"model": MODEL, "prompt": "x", "stream": True}
    async with client.stream("POST", "/v1/completions", json=body) as response:
        events = await events_of(response)
    assert events[-1] == "data: [DONE]"
    assert all("usage" not in event for event in events)


async def test_logprobs(openai: AsyncOpenAI, box: Box) -> None:
    half = "é".encode()
    box.use(
        FakeEngine(
            (
                TokenDelta("Hi", 1, (TokenLogprob(b"Hi", -0.1, ((b"Hi", -0.1), (b"Ho", -3.0))),)),
                TokenDelta("", 1, (TokenLogprob(half[:1], -0.2),)),
                TokenDelta("é", 1, (TokenLogprob(half[1:], -0.3),)),
            )
        )
    )
    made = await openai.completions.create(model=MODEL, prompt="x", logprobs=2)
    logprobs = made.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.tokens == ["Hi", "bytes:\\xc3", "bytes:\\xa9"]
    assert logprobs.token_logprobs == [-0.1, -0.2, -0.3]
    assert logprobs.top_logprobs == [{"Hi": -0.1, "Ho": -3.0}, {}, {}]
    assert logprobs.text_offset == [0, 2, 2]
    assert box.engine.requests[-1].logprobs == 2


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"suffix": "end"}, "suffix", "unsupported_parameter"),
        ({"best_of": 3}, "best_of", "unsupported_parameter"),
        ({"echo": True, "logprobs": 1}, "logprobs", "invalid_value"),
        ({"echo": True, "prompt": [1, 2]}, "echo", "invalid_value"),
        ({"prompt": [2**50]}, "prompt", "invalid_value"),
        ({"prompt": []}, "prompt", "invalid_value"),
        ({"prompt": ["x"] * 20, "n": 2}, "n", "invalid_value"),
        ({"prompt": "x" * 3000}, "messages", "context_length_exceeded"),
        ({"max_tokens": 600}, "messages", "context_length_exceeded"),
        ({"messages": []}, "messages", "unknown_parameter"),
    ],
)
async def test_refusals(openai: AsyncOpenAI, box: Box, fields: dict[str, Any], param: str, code: str) -> None:
    with pytest.raises(openai_package.BadRequestError) as caught:
        await openai.post("/completions", body={"model": MODEL, "prompt": "x", **fields}, cast_to=object)
    assert caught.value.code == code
    if code != "context_length_exceeded":
        assert caught.value.param == param
    assert box.admission.stats().running == 0


async def test_of_several_prompts_all_are_refused_or_none(openai: AsyncOpenAI, box: Box) -> None:
    """Two seats and one place in the queue: the fourth does not fit."""
    with pytest.raises(openai_package.RateLimitError):
        await openai.completions.create(model=MODEL, prompt=["a", "b", "c", "d"])
    stats = box.admission.stats()
    assert (stats.running, stats.waiting) == (0, 0)
