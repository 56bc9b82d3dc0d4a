"""Chats through the real daemon, the real llama.cpp and the official client."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from openai import APIError

from tests.e2e.box import Answer, Box, Golden, gather, goldens, loops, stream

KNOWN = goldens("capital", "sum", "fact", "json", "unknown")
TURNS = goldens("three_turns")
LONG = goldens("long_think")


def as_expected(golden: Golden) -> tuple[str, str, str]:
    return golden.reasoning, golden.content, "stop"


def summary(answer: Answer) -> tuple[str, str, str | None]:
    return answer.reasoning, answer.content, answer.finish_reason


def test_the_tiny_r1_knows_enough_to_test_with() -> None:
    assert len(KNOWN) >= 30
    assert len(TURNS) >= 8
    assert LONG
    assert len(loops()) >= 2


async def test_every_known_question_is_answered_right_eight_at_a_time(box: Box, model: str) -> None:
    together = asyncio.Semaphore(8)

    async def ask(golden: Golden) -> Answer:
        async with together:
            return await stream(client, model, golden.messages)

    async with box.client() as client:
        answers = await asyncio.gather(*(ask(golden) for golden in KNOWN + TURNS))
    wrong = {
        golden.id: summary(answer)
        for golden, answer in zip(KNOWN + TURNS, answers, strict=True)
        if summary(answer) != as_expected(golden)
    }
    assert wrong == {}


async def test_eight_streams_run_together_not_one_after_the_other(box: Box, model: str) -> None:
    arrivals: list[int] = []
    golden = LONG[0]
    async with box.client() as client:
        answers = await asyncio.gather(*(stream(client, model, golden.messages, arrivals) for _ in range(8)))
    assert [summary(answer) for answer in answers] == [as_expected(golden)] * 8
    last_start = max(answer.first or 0 for answer in answers)
    assert all(answer.last > last_start for answer in answers), "a stream had ended before another began"


async def test_not_streamed_the_answer_is_the_same_and_thinking_is_counted(box: Box, model: str) -> None:
    golden = KNOWN[0]
    async with box.client() as client:
        reply = await client.chat.completions.create(
            model=model,
            messages=golden.messages,  # type: ignore[arg-type]
            temperature=0,
        )
    message = reply.choices[0].message
    assert (message.reasoning_content, message.content) == (golden.reasoning, golden.content)  # type: ignore[attr-defined]
    usage = reply.usage
    assert usage is not None
    assert usage.completion_tokens_details is not None
    thinking = usage.completion_tokens_details.reasoning_tokens or 0
    # The golden count has the end-of-sentence token, which is no token of the answer.
    assert usage.completion_tokens == golden.completion_tokens - 1
    assert 0 < thinking < usage.completion_tokens


async def test_reasoning_that_a_client_sends_back_does_not_reach_the_model(box: Box, model: str) -> None:
    golden = next(g for g in TURNS if g.kind == "three_turns")
    with_thoughts = [
        {
            **message,
            "reasoning_content": "Old thoughts.",
            "content": f"<think>\nMore.\n</think>\n\n{message['content']}",
        }
        if message["role"] == "assistant"
        else message
        for message in golden.messages
    ]
    async with box.client() as client:
        plain = await stream(client, model, golden.messages)
        answer = await stream(client, model, with_thoughts)
    assert summary(answer) == summary(plain) == as_expected(golden)
    assert answer.usage.prompt_tokens == plain.usage.prompt_tokens


async def test_max_tokens_ends_a_thought_with_length(box: Box, model: str) -> None:
    async with box.client() as client:
        answer = await stream(client, model, loops()[0], max_tokens=40)
    assert (answer.finish_reason, answer.content, answer.usage.completion_tokens) == ("length", "", 40)


async def test_a_stop_string_ends_the_answer_before_it(box: Box, model: str) -> None:
    golden = next(g for g in KNOWN if g.content == "The capital of France is Paris.")
    async with box.client() as client:
        answer = await stream(client, model, golden.messages, stop=["of Fra"])
    assert summary(answer) == (golden.reasoning, "The capital ", "stop")


async def test_the_same_seed_gives_the_same_answer(box: Box, model: str) -> None:
    question = [{"role": "user", "content": "Tell me something you were never told."}]
    async with box.client() as client:
        answers = [await stream(client, model, question, temperature=1.5, seed=11, max_tokens=60) for _ in range(2)]
    assert summary(answers[0]) == summary(answers[1])


async def test_the_next_turn_computes_only_what_is_new(box: Box, model: str) -> None:
    golden = next(g for g in TURNS if g.kind == "three_turns")
    async with box.client() as client:
        await stream(client, model, golden.messages)
        again = await stream(client, model, golden.messages)
    assert again.usage.prompt_tokens_details.cached_tokens == again.usage.prompt_tokens - 1


async def test_a_client_that_leaves_gives_its_seat_back(own_box: Callable[..., Box], model: str) -> None:
    box = own_box("--seats", "1", "--context", "4096")
    async with box.client() as client:
        endless = await client.chat.completions.create(
            model=model,
            messages=loops()[0],  # type: ignore[arg-type]
            temperature=0,
            stream=True,
        )
        async for _ in endless:
            break
        await endless.close()
        golden = KNOWN[0]
        answer = await asyncio.wait_for(stream(client, model, golden.messages), 30)
    assert summary(answer) == as_expected(golden)


async def test_killing_the_worker_ends_each_stream_once_and_it_comes_back(
    own_box: Callable[..., Box], model: str
) -> None:
    box = own_box("--seats", "8", "--context", "4096")
    started = [asyncio.Event() for _ in range(8)]

    async def endless(number: int) -> int:
        chunks = await client.chat.completions.create(
            model=model,
            messages=loops()[number % len(loops())],  # type: ignore[arg-type]
            temperature=0,
            stream=True,
        )
        count = 0
        async for _ in chunks:
            count += 1
            started[number].set()
        return count

    async with box.client() as client:
        streams = [asyncio.create_task(endless(number)) for number in range(8)]
        await asyncio.wait_for(asyncio.gather(*(event.wait() for event in started)), 60)
        worker = box.worker()
        worker.kill()
        endings = await asyncio.wait_for(gather(*streams), 30)
        assert [type(ending) for ending in endings] == [APIError] * 8
        assert {ending.code for ending in endings} == {"engine_lost"}
        await asyncio.to_thread(box.wait_ready)
        answer = await stream(client, model, KNOWN[0].messages)
    assert summary(answer) == as_expected(KNOWN[0])
    assert box.worker().pid != worker.pid
    assert box.readyz()["restarts"] == 1


@pytest.mark.parametrize("kind", ["three_turns", "fact"])
async def test_greedy_answers_do_not_depend_on_who_else_is_served(box: Box, model: str, kind: str) -> None:
    golden = goldens(kind)[-1]
    async with box.client() as client:
        noise = [asyncio.create_task(stream(client, model, loops()[0], max_tokens=300)) for _ in range(5)]
        answers = [await stream(client, model, golden.messages) for _ in range(3)]
        await asyncio.gather(*noise)
    assert [summary(answer) for answer in answers] == [as_expected(golden)] * 3
