"""A draft model beside a model, on the real llama.cpp: a smaller quantization of the tiny R1 guesses for it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from appliance.demo import demo_file
from appliance.engine.llamacpp.messages import Sampling, WorkerConfig
from appliance.engine.llamacpp.runner import Runner
from appliance.engine.llamacpp.runner.draft import LEAST_CATCH_UP_TOKENS
from appliance.engine.llamacpp.scheduler import Scheduler, SchedulerLimits
from appliance.engine.llamacpp.sequence import Sequence
from appliance.engine.llamacpp.speculation import Speculation
from appliance.engine.llamacpp.step import SlotTokens, StepPlan

TINY = Path(__file__).parents[3] / "fixtures" / "tiny_r1"
MODEL, DRAFT = (TINY / "gguf" / f"Tiny-R1-{name}.gguf" for name in ("Q8_0", "Q4_K_M"))
GOLDENS: list[dict[str, Any]] = json.loads((TINY / "prompts.json").read_text(encoding="utf-8"))["prompts"]
PROMPTS = [
    f"<｜begin▁of▁sentence｜><｜User｜>{golden['messages'][-1]['content']}<｜Assistant｜><think>\n"
    for golden in GOLDENS
    if golden["kind"] in ("fact", "capital", "sum") and len(golden["messages"]) == 1
][:24]
SEATS, CONTEXT = 4, 512


def config(draft: Path | None) -> WorkerConfig:
    return WorkerConfig(
        model_path=str(MODEL),
        seats=SEATS,
        seat_context=CONTEXT,
        threads=1,
        draft_model_path="" if draft is None else str(draft),
    )


@pytest.fixture(scope="module")
def runner() -> Iterator[Runner]:
    made = Runner(config(DRAFT), lambda _fraction: None)
    yield made
    made.close()


def serve(runner: Runner, draft: int, sampling: Sampling, times: float = 1.0) -> tuple[dict[str, list[int]], Scheduler]:
    """All prompts, in steps of which a pass of the draft model takes ``times`` a tenth."""
    measured = runner.warm_up()
    scheduler = Scheduler(SchedulerLimits(SEATS, runner.slots, CONTEXT, 512, 128, outputs=runner.outputs, draft=draft))
    scheduler.begin_with(
        [
            dataclasses.replace(one, duration_s=0.01 if one.duration_s else 0.0, draft_pass_s=0.001 * times)
            if one.draft_pass_s is not None
            else dataclasses.replace(one, duration_s=0.01)
            for one in measured
        ]
    )
    said: dict[str, list[int]] = {}
    for number, text in enumerate(PROMPTS):
        prompt = runner.tokenize([(text, True)], add_bos=False)
        scheduler.add(Sequence(str(number), prompt, 60, sampling=sampling))
    while scheduler.has_work:
        plan = scheduler.schedule()
        result = runner.run(plan)
        for request_id, guess in result.drafts.items():
            asked = {entry.request_id: entry.propose for entry in plan.work}
            assert 0 < len(guess) <= asked[request_id]
        draft_s = 0.001 * times * result.draft_passes
        timed = dataclasses.replace(result, duration_s=0.01 + draft_s, draft_s=draft_s)
        for event in scheduler.update(timed):
            assert not event.message
            if event.token is not None:
                said.setdefault(event.request_id, []).append(event.token)
        scheduler.check_integrity()
    runner.run(scheduler.schedule())
    return said, scheduler


def without_lookup(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Speculation, "guesses", lambda _self, decoding, _rooms, _limit: [[] for _ in decoding])


def test_answers_are_the_same_with_a_draft_model_and_most_of_its_guesses_are_right(
    runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_lookup(monkeypatch)
    greedy = Sampling(seed=1, temperature=0.0)
    plain, _ = serve(runner, 0, greedy)
    guessed, scheduler = serve(runner, 24, greedy)
    assert guessed == plain
    assert len(plain) == len(PROMPTS)
    speculation = scheduler.speculation
    assert speculation.model_drafted == speculation.drafted
    # The same model, quantized a little more coarsely, is nearly always right.
    assert speculation.model_accepted > 0.8 * speculation.model_drafted > 200


def test_a_seed_says_the_same_with_a_draft_model(runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    without_lookup(monkeypatch)
    warm = Sampling(seed=7, temperature=1.1, top_p=0.95)
    plain, _ = serve(runner, 0, warm)
    guessed, scheduler = serve(runner, 24, warm)
    assert guessed == plain
    assert scheduler.speculation.model_accepted > 50


def test_a_draft_model_as_slow_as_the_model_is_not_asked(runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    without_lookup(monkeypatch)
    _, scheduler = serve(runner, 24, Sampling(seed=1, temperature=0.0), times=10.0)
    assert scheduler.speculation.drafted == 0


def test_a_long_prompt_is_caught_up_with_in_pieces(runner: Runner) -> None:
    runner.warm_up()
    tokens = runner.tokenize([(PROMPTS[0] * 12, True)], add_bos=False)[:400]
    runner.run(StepPlan(ended=["x"]))
    entry = SlotTokens("x", 0, 0, tokens, sample=True, sampling=Sampling(seed=1, temperature=0.0))
    runner.run(StepPlan(work=[entry]))
    assert runner._draft is not None
    pieces = []
    for _ in range(40):
        made = runner._draft.propose([dataclasses.replace(entry, propose=3, history=tokens)])
        pieces.append(made.caught_up)
        if made.drafts:
            break
    assert made.drafts
    assert pieces[0] == LEAST_CATCH_UP_TOKENS - 1
    assert sum(pieces) >= len(tokens) - 1 - len(pieces)
    # What it holds now it does not compute again, and what the sequence said instead of its guess it drops.
    said = [*tokens, made.drafts["x"][0], 7]
    again = runner._draft.propose([dataclasses.replace(entry, propose=3, history=said)])
    assert again.caught_up <= 1
    runner.run(StepPlan(ended=["x"]))


def test_more_sequences_than_places_take_them_from_each_other(runner: Runner) -> None:
    assert runner._draft is not None
    for number in range(2 * SEATS):
        tokens = list(range(300, 310 + number))
        entry = SlotTokens(f"many{number}", 0, 0, tokens, True, None, propose=2, history=tokens)
        runner._draft.propose([entry])
    runner.run(StepPlan(ended=[f"many{number}" for number in range(2 * SEATS)]))


def test_a_model_of_another_vocabulary_is_not_used_and_said_why() -> None:
    other = Runner(config(demo_file()), lambda _fraction: None)
    try:
        assert other._draft is None
        assert "vocabulary" in other.ready().draft_problem
        assert all(one.draft_pass_s is None for one in other.warm_up())
    finally:
        other.close()


def test_a_draft_model_that_is_not_there_is_no_reason_to_fail(tmp_path: Path) -> None:
    other = Runner(config(tmp_path / "missing.gguf"), lambda _fraction: None)
    try:
        assert other.ready().draft_problem == "llama.cpp cannot load the draft model"
    finally:
        other.close()
