"""What every engine must do, as tests.

A module with the fixtures ``engine``, ``started`` and ``prompts`` runs them through a subclass of ``EngineContract``.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import Any

from appliance.engine.base import Engine, EngineInfo, Feature
from appliance.engine.request import (
    Finished,
    FinishReason,
    GenerationRequest,
    SamplingParams,
    Structure,
    StructureKind,
    TextSegment,
    TokenDelta,
    TokenLogprob,
)

GREEDY = SamplingParams(temperature=0.0)


@dataclass(frozen=True)
class Prompts:
    """Texts for an engine: ``short`` ends by itself, ``endless`` never does, ``answer`` is all that ``short`` gives.
    To ``structured`` a JSON object is the answer when one must be."""

    short: str
    answer: str
    endless: str
    structured: str


@dataclass(frozen=True)
class Outcome:
    """Everything one request gave."""

    text: str
    tokens: int
    endings: list[Finished]
    logprobs: tuple[TokenLogprob, ...] = ()

    @property
    def finished(self) -> Finished:
        assert len(self.endings) == 1, "not exactly one ending"
        return self.endings[0]


async def run(engine: Engine, text: str, request_id: str, *, max_tokens: int = 400, **wanted: Any) -> Outcome:
    """One request, read to its end. ``wanted`` are more fields of it."""
    tokens = await engine.tokenize([TextSegment(text)], add_bos=False)
    wanted.setdefault("sampling", GREEDY)
    request = GenerationRequest(request_id=request_id, prompt_tokens=tuple(tokens), max_tokens=max_tokens, **wanted)
    logprobs: list[TokenLogprob] = []
    pieces: list[str] = []
    count = 0
    endings: list[Finished] = []
    async for event in engine.generate(request):
        assert not endings, "an event after the ending"
        if isinstance(event, TokenDelta):
            pieces.append(event.text)
            count += event.count
            assert len(event.logprobs) in (0, event.count), "not one log probability for each token"
            logprobs += event.logprobs
        else:
            endings.append(event)
    return Outcome("".join(pieces), count, endings, tuple(logprobs))


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

    async def test_log_probabilities_are_of_each_token_and_only_when_asked_for(
        self, engine: Engine, started: EngineInfo, prompts: Prompts
    ) -> None:
        assert Feature.LOGPROBS in started.features
        outcome = await run(engine, prompts.short, "chances", logprobs=2)
        assert outcome.text == prompts.answer
        assert len(outcome.logprobs) == outcome.tokens
        assert b"".join(one.token for one in outcome.logprobs).decode() == prompts.answer
        for one in outcome.logprobs:
            assert one.logprob <= 0.0
            assert len(one.top) == 2
            assert one.top[0] == (one.token, one.logprob)
            assert one.top[0][1] >= one.top[1][1]
        assert (await run(engine, prompts.short, "none", logprobs=None)).logprobs == ()
        assert {one.top for one in (await run(engine, prompts.short, "bare", logprobs=0)).logprobs} == {()}

    async def test_a_structured_answer_has_its_form(
        self, engine: Engine, started: EngineInfo, prompts: Prompts
    ) -> None:
        assert Feature.STRUCTURE in started.features
        schema = (
            '{"type":"object","properties":{"ok":{"type":"boolean"}},"required":["ok"],"additionalProperties":false}'
        )
        for kind, text in ((StructureKind.JSON_SCHEMA, schema), (StructureKind.REGEX, r'\{"ok": (true|false)\}')):
            structure = Structure(kind=kind, text=text)
            outcome = await run(engine, prompts.structured, f"form-{kind}", structure=structure)
            assert outcome.finished.reason is FinishReason.STOP
            assert list(json.loads(outcome.text)) == ["ok"]

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
