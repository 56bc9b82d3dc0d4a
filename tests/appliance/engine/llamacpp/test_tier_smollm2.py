"""A model with grouped queries and 49,152 tokens: what comes back from outside of the cache says what stayed in it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import pytest

from appliance.demo import demo_file
from appliance.engine.llamacpp.messages import Sampling, WorkerConfig
from appliance.engine.llamacpp.runner import Runner
from appliance.engine.llamacpp.step import DecodeStatus, SlotRestore, SlotSave, SlotTokens, SlotTrim, StepPlan

TEXTS = (
    "The keeper of the lighthouse wrote down the weather, the ships and the names of the gulls. On Monday",
    "def totals(records):\n    invoices = 0\n    for record in records:\n        if record.kind ==",
    "Bread needs flour, water, salt and time. The baker gets up at four in the morning, and then",
    "1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144, 233, 377, 610, 987,",
)
GREEDY = Sampling(seed=1, temperature=0.0)
ANSWER = 12


@pytest.fixture(scope="module")
def runner() -> Iterator[Runner]:
    config = WorkerConfig(model_path=str(demo_file()), seats=4, seat_context=256, threads=1, draft_tokens=0)
    made = Runner(config, lambda _fraction: None)
    made.warm_up()
    yield made
    made.close()


def say(runner: Runner, slot: int, position: int, token: int) -> list[int]:
    """What a slot goes on with, token by token."""
    said: list[int] = []
    for step in range(ANSWER):
        entry = SlotTokens(f"s{slot}", slot, position + step, [token], sample=True, sampling=GREEDY)
        result = runner.run(StepPlan(work=[entry]))
        assert result.status is DecodeStatus.DONE
        token = result.sampled[0][0][0]
        said.append(token)
    runner.run(StepPlan(ended=[f"s{slot}"]))
    return said


@pytest.mark.parametrize("text", TEXTS)
def test_a_chat_goes_on_as_if_it_had_stayed(runner: Runner, text: str) -> None:
    tokens = runner.tokenize([(text * 3, True)], add_bos=False)[:150]
    held = len(tokens) - 1
    runner.run(StepPlan(memory=[SlotTrim(slot, 0) for slot in range(4)]))
    prompt = SlotTokens("p", 0, 0, tokens[:held], sample=False, sampling=None)
    assert runner.run(StepPlan(work=[prompt])).status is DecodeStatus.DONE
    cuts = [0, held // 3, held - 9, held]
    spans = list(pairwise(cuts))
    saves = [SlotSave(0, start, end, b"%d" % start) for start, end in spans]
    assert all(runner.run(StepPlan(saves=saves)).saved)
    stayed = say(runner, 0, held, tokens[held])
    restores = [SlotRestore("r", 2, start, end, b"%d" % start, end - start) for start, end in spans]
    assert runner.run(StepPlan(restores=restores)).restored == [True] * 3
    assert say(runner, 2, held, tokens[held]) == stayed
