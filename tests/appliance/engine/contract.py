"""What every engine must do, as tests.

A module with the fixtures ``engine``, ``started`` and ``prompts`` runs them through a subclass of ``EngineContract``.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from appliance.engine.base import Engine, EngineInfo
from appliance.engine.request import (
    Finished,
    FinishReason,
    GenerationRequest,
    SamplingParams,
    TextSegment,
    TokenDelta,
)

GREEDY = SamplingParams(temperature=0.0)


@dataclass(frozen=True)
class Prompts:
    """Texts for an engine: ``short`` ends by itself, ``endless`` never does, ``answer`` is all that ``short`` gives."""

    short: str
    answer: str
    endless: str


@dataclass(frozen=True)
class Outcome:
    """Everything one request gave."""

    text: str
    tokens: int
    endings: list[Finished]

    @property
    def finished(self) -> Finished:
        assert len(self.endings) == 1, "not exactly one ending"
        return self.endings[0]


async def run(engine: Engine, text: str, request_id: str, *, max_tokens: int = 400) -> Outcome:
    """One request, read to its end."""
    tokens = await engine.tokenize([TextSegment(text)], add_bos=False)
    request = GenerationRequest(
        request_id=request_id, prompt_tokens=tuple(tokens), max_tokens=max_tokens, sampling=GREEDY
    )
    pieces: list[str] = []
    count = 0
    endings: list[Finished] = []
    async for event in engine.generate(request):
        assert not endings, "an event after the ending"
        if isinstance(event, TokenDelta):
            pieces.append(event.text)
            count += event.count
        else:
            endings.append(event)
    return Outcome("".join(pieces), count, endings)


class EngineContract:
    """The tests. ``started`` is the engine's info."""

    async def test_it_says_what_it_can_do(self, engine: Engine, started: EngineInfo) -> None:
        assert started.seats >= 1
        assert started.context_tokens >= 1
        assert started.longest_token_bytes >= 1
        assert started.backends

    async def test_an_answer_ends_once_with_stop_and_counts_its_tokens(self, engine: Engine, prompts: Prompts) -> None:
        outcome = await run(engine, prompts.short, "one")
        assert outcome.text == prompts.answer
        assert outcome.finished.reason is FinishReason.STOP
        assert outcome.finished.completion_tokens == outcome.tokens > 0
        assert outcome.finished.prompt_tokens > 0

    async def test_max_tokens_ends_with_length(self, engine: Engine, prompts: Prompts) -> None:
        outcome = await run(engine, prompts.endless, "two", max_tokens=7)
        assert (outcome.finished.reason, outcome.tokens) == (FinishReason.LENGTH, 7)

    async def test_abort_ends_a_request_once_and_is_idempotent(self, engine: Engine, prompts: Prompts) -> None:
        task = asyncio.create_task(run(engine, prompts.endless, "three", max_tokens=2000))
        while not engine.stats().generated_tokens:
            await asyncio.sleep(0)
        await engine.abort("three")
        await engine.abort("three")
        await engine.abort("nobody")
        outcome = await asyncio.wait_for(task, 30)
        assert outcome.finished.reason is FinishReason.ABORTED

    async def test_closing_the_iterator_ends_the_request(self, engine: Engine, prompts: Prompts) -> None:
        tokens = await engine.tokenize([TextSegment(prompts.endless)], add_bos=False)
        request = GenerationRequest(request_id="four", prompt_tokens=tuple(tokens), max_tokens=2000, sampling=GREEDY)
        events = engine.generate(request)
        async for _ in events:
            break
        await events.aclose()  # type: ignore[attr-defined]
        await asyncio.wait_for(engine.drain(30), 30)
        outcome = await run(engine, prompts.short, "five")
        assert outcome.text == prompts.answer

    async def test_requests_run_together(self, engine: Engine, started: EngineInfo, prompts: Prompts) -> None:
        count = started.seats
        outcomes = await asyncio.gather(*(run(engine, prompts.short, f"many-{number}") for number in range(count)))
        assert [outcome.text for outcome in outcomes] == [prompts.answer] * count

    async def test_stop_ends_what_runs_and_is_idempotent(self, engine: Engine, prompts: Prompts) -> None:
        task = asyncio.create_task(run(engine, prompts.endless, "six", max_tokens=2000))
        while not engine.stats().generated_tokens:
            await asyncio.sleep(0)
        await engine.stop(10)
        await engine.stop(10)
        outcome = await asyncio.wait_for(task, 30)
        assert outcome.finished.reason in (FinishReason.ABORTED, FinishReason.ERROR)
