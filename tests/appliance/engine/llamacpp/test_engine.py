"""llama.cpp through its worker process, with the tiny R1: the contract, and what only this engine can do wrong."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest

from appliance.engine.base import EngineInfo
from appliance.engine.llamacpp.engine import LlamaCppEngine
from appliance.engine.llamacpp.loops import ANSWER_LIMITS
from appliance.engine.llamacpp.messages import WorkerConfig
from appliance.engine.request import (
    Finished,
    FinishReason,
    GenerationRequest,
    TextSegment,
    ThinkingControl,
    ThinkingEnd,
)
from appliance.errors import EngineLost, EngineStartFailed
from tests.appliance.engine.contract import GREEDY, EngineContract, Prompts, run

FIXTURES = Path(__file__).parents[3] / "fixtures" / "tiny_r1"
MODEL = FIXTURES / "gguf" / "Tiny-R1-Q8_0.gguf"
START = "<｜begin▁of▁sentence｜><｜User｜>"


def config(**changes: object) -> WorkerConfig:
    values: dict[str, object] = {"model_path": str(MODEL), "seats": 4, "seat_context": 4096, "threads": 1, **changes}
    return WorkerConfig(**values)  # type: ignore[arg-type]


@pytest.fixture
async def engine() -> AsyncIterator[LlamaCppEngine]:
    made = LlamaCppEngine(config())
    yield made
    await made.stop(5)


@pytest.fixture(autouse=True)
async def started(engine: LlamaCppEngine) -> EngineInfo:
    return await engine.start(60)


@pytest.fixture
def prompts() -> Prompts:
    return Prompts(
        short=f"{START}What is the capital of France?<｜Assistant｜><think>\n",
        answer="The user asks for the capital of France. I know that it is Paris.\n</think>\n\n"
        "The capital of France is Paris.",
        endless=f"{START}Is this sentence false?<｜Assistant｜><think>\n",
        structured=f"{START}Is water wet?<｜Assistant｜><think>\nYes.\n</think>\n\n",
    )


class TestLlamaCppEngine(EngineContract):
    """See EngineContract."""


async def test_a_killed_worker_ends_requests_and_calls_and_is_noticed(engine: LlamaCppEngine, prompts: Prompts) -> None:
    tasks = [asyncio.create_task(run(engine, prompts.endless, f"k{n}", max_tokens=4000)) for n in range(4)]
    while engine.stats().active < 4:
        await asyncio.sleep(0)
    pid = engine.stats().pid
    assert pid is not None
    psutil.Process(pid).kill()
    outcomes = await asyncio.wait_for(asyncio.gather(*tasks), 30)
    assert {outcome.finished.reason for outcome in outcomes} == {FinishReason.ERROR}
    assert all(isinstance(outcome.finished.error, EngineLost) for outcome in outcomes)
    assert await asyncio.wait_for(engine.wait_lost(), 5) == "killed by SIGKILL"
    with pytest.raises(EngineLost):
        await engine.tokenize([TextSegment("x")], add_bos=False)


async def test_control_tokens_are_tokens_only_in_trusted_text(engine: LlamaCppEngine) -> None:
    trusted = await engine.tokenize([TextSegment("<｜User｜>")], add_bos=False)
    untrusted = await engine.tokenize([TextSegment("<｜User｜>", trusted=False)], add_bos=False)
    assert len(trusted) == 1
    assert len(untrusted) > 1
    both = await engine.tokenize([TextSegment("<｜User｜>"), TextSegment("<｜User｜>", trusted=False)], add_bos=False)
    assert both == trusted + untrusted


async def test_one_bos_is_added_when_asked_for(engine: LlamaCppEngine) -> None:
    without = await engine.tokenize([TextSegment("Hello"), TextSegment(" you")], add_bos=False)
    with_bos = await engine.tokenize([TextSegment("Hello"), TextSegment(" you")], add_bos=True)
    assert with_bos[1:] == without


async def test_a_second_turn_finds_its_prefix_cached(engine: LlamaCppEngine, prompts: Prompts) -> None:
    await run(engine, prompts.short, "first")
    again = await run(engine, prompts.short, "second")
    assert again.text == prompts.answer
    assert again.finished.cached_tokens == again.finished.prompt_tokens - 1


async def test_what_can_never_run_is_an_error_and_the_worker_stays(engine: LlamaCppEngine, prompts: Prompts) -> None:
    outcome = await run(engine, prompts.short * 800, "long", max_tokens=5)
    assert outcome.finished.reason is FinishReason.ERROR
    assert "a seat holds 4096" in str(outcome.finished.error)
    assert (await run(engine, prompts.short, "after")).text == prompts.answer


async def test_more_requests_than_seats_are_all_answered(engine: LlamaCppEngine, prompts: Prompts) -> None:
    outcomes = await asyncio.gather(*(run(engine, prompts.short, f"n{number}") for number in range(11)))
    assert [outcome.text for outcome in outcomes] == [prompts.answer] * 11
    stats = engine.stats()
    assert (stats.active, stats.waiting, stats.preemptions) == (0, 0, 0)
    assert 0 < stats.decode_s <= stats.busy_s


@pytest.mark.parametrize("kv_type", ["q8_0", "q4_0"])
async def test_quantized_caches_load(kv_type: str, prompts: Prompts) -> None:
    other = LlamaCppEngine(config(kv_type=kv_type, flash_attention=True))
    try:
        await other.start(60)
        outcome = await run(other, prompts.endless, "q", max_tokens=20)
        assert outcome.tokens == 20
    finally:
        await other.stop(5)


async def test_a_file_that_is_no_model_fails_with_llama_cpps_reason_and_leaves_nothing(tmp_path: Path) -> None:
    file = tmp_path / "model.gguf"
    file.write_bytes(b"GGUF" + bytes(1000))
    broken = LlamaCppEngine(config(model_path=str(file)))
    with pytest.raises(EngineStartFailed) as failure:
        await broken.start(60)
    assert failure.value.cause_code == "model_load_failed"
    assert failure.value.log_tail
    pid = broken.stats().pid
    assert pid is not None
    assert not psutil.pid_exists(pid)


async def test_a_start_that_takes_too_long_fails_and_leaves_nothing(tmp_path: Path) -> None:
    fifo = tmp_path / "never.gguf"
    os.mkfifo(fifo)
    slow = LlamaCppEngine(config(model_path=str(fifo)))
    with pytest.raises(EngineStartFailed, match="not ready after 2 s"):
        await slow.start(2)
    pid = slow.stats().pid
    assert pid is not None
    assert not psutil.pid_exists(pid)


async def thinking(engine: LlamaCppEngine, *, opened: bool, budget_tokens: int | None = None) -> ThinkingControl:
    async def tokens(text: str) -> tuple[int, ...]:
        return tuple(await engine.tokenize([TextSegment(text)], add_bos=False))

    return ThinkingControl(
        opened=opened,
        open_tokens=await tokens("<think>"),
        close_tokens=await tokens("</think>"),
        landing_tokens=await tokens("\n\nI have thought long enough. I will answer now.\n</think>\n\n"),
        budget_tokens=budget_tokens,
    )


async def asked(engine: LlamaCppEngine, text: str, **fields: object) -> tuple[str, Finished]:
    prompt = tuple(await engine.tokenize([TextSegment(text)], add_bos=False))
    request = GenerationRequest(request_id="asked", prompt_tokens=prompt, sampling=GREEDY, **fields)  # type: ignore[arg-type]
    text, ending = "", None
    async for event in engine.generate(request):
        if isinstance(event, Finished):
            ending = event
        else:
            text += event.text
    assert ending is not None
    return text, ending


async def test_an_answer_in_circles_is_ended_and_says_so(engine: LlamaCppEngine, prompts: Prompts) -> None:
    """What the model repeats for ever counts as its answer here: the prompt is said to open no thought."""
    control = await thinking(engine, opened=False)
    _, ending = await asked(engine, prompts.endless, max_tokens=4000, thinking=control)
    assert (ending.reason, ending.answer_looped, ending.thinking_end) == (FinishReason.LENGTH, True, None)
    assert ANSWER_LIMITS.run_tokens <= ending.completion_tokens < ANSWER_LIMITS.run_tokens + 200


async def test_thought_and_answer_have_their_own_limits(engine: LlamaCppEngine, prompts: Prompts) -> None:
    control = await thinking(engine, opened=True, budget_tokens=40)
    text, ending = await asked(engine, prompts.endless, max_tokens=4000, thinking=control, answer_tokens=3)
    assert (ending.reason, ending.thinking_end) == (FinishReason.LENGTH, ThinkingEnd.BUDGET)
    assert ending.completion_tokens <= 40 + len(control.landing_tokens) + 3
    assert text.partition("</think>")[2].strip()
    _, ending = await asked(engine, prompts.short, max_tokens=100, answer_tokens=3)
    assert (ending.reason, ending.completion_tokens) == (FinishReason.LENGTH, 3)


async def test_asking_nobody_for_an_answer_is_nothing(engine: LlamaCppEngine, prompts: Prompts) -> None:
    await engine.answer_now("nobody")
    assert (await run(engine, prompts.short, "one")).text == prompts.answer
    await engine.answer_now("one")
