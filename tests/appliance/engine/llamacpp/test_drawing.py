"""Seeds, several answers from one prompt, forms after thoughts that were ended: through the worker process."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import queue
import threading
from collections.abc import AsyncIterator

import pytest

from appliance.engine.llamacpp import messages as wire
from appliance.engine.llamacpp.engine import LlamaCppEngine
from appliance.engine.llamacpp.preparing import Prepared, Preparer
from appliance.engine.llamacpp.sampler import Constraint, SamplingFailed
from appliance.engine.request import (
    FinishReason,
    SamplingParams,
    Structure,
    StructureKind,
    TextSegment,
    ThinkingControl,
    ThinkingEnd,
)
from tests.appliance.engine.contract import run
from tests.appliance.engine.llamacpp.test_engine import START, config

STORY = f"{START}Tell me something you were never told.<｜Assistant｜><think>\n"
LOOP = f"{START}Is this sentence false?<｜Assistant｜><think>\n"
DRAWN = SamplingParams(temperature=2.0, top_p=1.0, frequency_penalty=0.3)
CITY = Structure(kind=StructureKind.REGEX, text=r'\{"city": "[A-Z][a-z]{3,10}"\}')


@pytest.fixture
async def engine() -> AsyncIterator[LlamaCppEngine]:
    made = LlamaCppEngine(config())
    await made.start(60)
    yield made
    await made.stop(5)


async def test_a_seed_gives_the_same_alone_and_among_others(engine: LlamaCppEngine) -> None:
    """Others decode and prefill beside. In another batch logits differ in their last bits, which now and then makes
    another token (docs/engine.md): most answers must be the same, word for word; alone all are."""

    def drawn(seed: int) -> SamplingParams:
        return dataclasses.replace(DRAWN, seed=seed)

    alone = [await run(engine, STORY, f"a{seed}", max_tokens=50, sampling=drawn(seed)) for seed in range(6)]
    together = await asyncio.gather(
        *(run(engine, STORY, f"t{seed}", max_tokens=50, sampling=drawn(seed)) for seed in range(6)),
        *(run(engine, f"{LOOP}{number}" * 3, f"o{number}", max_tokens=80) for number in range(4)),
    )
    again = [await run(engine, STORY, f"b{seed}", max_tokens=50, sampling=drawn(seed)) for seed in range(6)]
    assert [one.text for one in again] == [one.text for one in alone]
    assert sum(one.text == other.text for one, other in zip(together[:6], alone, strict=True)) >= 4
    assert len({one.text for one in alone}) > 3
    free = await asyncio.gather(*(run(engine, STORY, f"f{n}", max_tokens=50, sampling=DRAWN) for n in range(3)))
    assert len({one.text for one in free}) > 1


async def test_several_answers_compute_their_prompt_once(engine: LlamaCppEngine) -> None:
    """What ``n`` of OpenAI's API becomes: as many requests with one prompt."""
    prompt = START + "One two three four five six seven eight nine ten. " * 30 + "<｜Assistant｜><think>\n"
    length = len(await engine.tokenize([TextSegment(prompt)], add_bos=False))
    before = engine.stats()
    answers = await asyncio.gather(
        *(
            run(engine, prompt, f"n{number}", max_tokens=20, sampling=dataclasses.replace(DRAWN, seed=number))
            for number in range(4)
        )
    )
    after = engine.stats()
    computed = (after.prompt_tokens - before.prompt_tokens) - (after.cached_tokens - before.cached_tokens)
    assert after.prompt_tokens - before.prompt_tokens == 4 * length
    assert length > 300
    # One whole prompt, and of each of the others the last token, which gives its logits.
    assert computed == length + 3
    assert len({one.text for one in answers}) > 2


async def thinking(engine: LlamaCppEngine, **values: object) -> ThinkingControl:
    async def tokens(text: str) -> tuple[int, ...]:
        return tuple(await engine.tokenize([TextSegment(text)], add_bos=False))

    return ThinkingControl(
        opened=True,
        open_tokens=await tokens("<think>"),
        close_tokens=await tokens("</think>"),
        landing_tokens=await tokens("\nEnough.\n</think>\n\n"),
        **values,  # type: ignore[arg-type]
    )


async def test_an_answer_has_its_form_after_a_thought_that_was_ended_from_outside(engine: LlamaCppEngine) -> None:
    control = await thinking(engine, budget_tokens=30, breaks_loops=False)
    outcome = await run(engine, LOOP, "landed", structure=CITY, thinking=control, logprobs=1)
    assert outcome.finished.thinking_end is ThinkingEnd.BUDGET
    thought, landing, answer = outcome.text.partition("\nEnough.\n</think>\n\n")
    assert thought
    assert landing
    assert list(json.loads(answer)) == ["city"]
    assert len(outcome.logprobs) == outcome.tokens
    assert b"".join(one.token for one in outcome.logprobs).decode() == outcome.text
    # What was written for the model was not drawn.
    written = [one for one in outcome.logprobs if one.top == ()]
    assert b"".join(one.token for one in written).decode() == landing
    assert {one.logprob for one in written} == {0.0}


async def test_what_cannot_be_compiled_or_sampled_ends_its_own_request_alone(engine: LlamaCppEngine) -> None:
    digits = [(await engine.tokenize([TextSegment(one)], add_bos=False))[0] for one in "0123456789"]
    banned = SamplingParams(temperature=0.0, logit_bias=tuple((token, -float("inf")) for token in digits))
    digit = Structure(kind=StructureKind.REGEX, text="[0-9]")
    bad, stuck, fine = await asyncio.gather(
        run(engine, STORY, "bad", structure=Structure(kind=StructureKind.JSON_SCHEMA, text='{"type": "strin"}')),
        run(engine, STORY, "stuck", structure=digit, sampling=banned),
        run(engine, STORY, "fine", structure=digit),
    )
    assert (bad.finished.reason, stuck.finished.reason) == (FinishReason.ERROR, FinishReason.ERROR)
    assert "Invalid type: strin" in str(bad.finished.error)
    assert "exclude them all" in str(stuck.finished.error)
    assert fine.finished.reason is FinishReason.STOP
    assert fine.text in "0123456789"


async def test_structured_requests_can_be_aborted_at_any_time(engine: LlamaCppEngine) -> None:
    endless = Structure(kind=StructureKind.REGEX, text="[a-z ]{100000}")
    tasks = [asyncio.create_task(run(engine, STORY, f"x{n}", max_tokens=3000, structure=endless)) for n in range(6)]
    while len(engine._streams) < 6:
        await asyncio.sleep(0)
    for number in range(6):
        await engine.abort(f"x{number}")
    outcomes = await asyncio.wait_for(asyncio.gather(*tasks), 60)
    assert {one.finished.reason for one in outcomes} == {FinishReason.ABORTED}


# -- the compiling thread -----------------------------------------------------------------------------------------


class Compiler:
    """Compiles when it is let."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.may_end = threading.Event()

    def __call__(self, structure: Structure) -> Constraint:
        self.begun.set()
        assert self.may_end.wait(30)
        raise SamplingFailed(f"no {structure.text}")


def generate(name: str) -> wire.Generate:
    return wire.Generate(name, [1], 5, wire.Sampling(seed=1), structure=wire.Structure("regex", name))


def test_aborts_meet_requests_before_during_and_after_their_compilation() -> None:
    compiler, delivered = Compiler(), queue.SimpleQueue[Prepared]()
    preparer = Preparer(compiler, delivered.put)
    for name in ("compiling", "waiting", "left alone"):
        preparer.take(generate(name))
    assert compiler.begun.wait(30)
    assert preparer.abort("compiling")
    assert preparer.abort("waiting")
    assert not preparer.abort("unknown")
    compiler.may_end.set()
    outcomes = [delivered.get(timeout=30) for _ in range(3)]
    assert [(one.message.request_id, one.aborted) for one in outcomes] == [
        ("compiling", True),
        ("waiting", True),
        ("left alone", False),
    ]
    assert outcomes[2].problem == "the answer's structure cannot be used: no left alone"
    assert not preparer.abort("left alone")
