"""The runner on the real library: what it draws is what llama.cpp's own sampling would draw."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.engine.llamacpp.messages import Sampling, WorkerConfig
from appliance.engine.llamacpp.runner import LoadError, Runner
from appliance.engine.llamacpp.step import DecodeStatus, SlotCopy, SlotTokens, SlotTrim, StepPlan

MODEL = Path(__file__).parents[3] / "fixtures" / "tiny_r1" / "gguf" / "Tiny-R1-Q8_0.gguf"
PROMPT = "<｜begin▁of▁sentence｜><｜User｜>Tell me something you were never told.<｜Assistant｜><think>\n"
DRAWS = 400
NO_EFFECT = 1.0000001
"""A repeat penalty of nothing: it makes the runner use llama.cpp's own path over the whole vocabulary."""


@pytest.fixture(scope="module")
def runner() -> Iterator[Runner]:
    made = Runner(WorkerConfig(model_path=str(MODEL), seats=4, seat_context=512, threads=1), lambda _fraction: None)
    made.warm_up()
    yield made
    made.close()


def draw(runner: Runner, sampling: Sampling, name: str) -> int:
    """The token after ``PROMPT``, by a sampler of its own."""
    tokens = runner.tokenize([(PROMPT, True)], add_bos=False)
    entry = SlotTokens(name, 0, 0, tokens, sample=True, sampling=sampling)
    result = runner.run(StepPlan(memory=[SlotTrim(0, 0)], work=[entry]))
    assert result.status is DecodeStatus.DONE
    runner.run(StepPlan(ended=[name]))
    return result.sampled[0][0]


def test_greedy_is_llama_cpps_greedy(runner: Runner) -> None:
    ours = draw(runner, Sampling(seed=1, temperature=0.0), "a")
    theirs = draw(runner, Sampling(seed=1, temperature=0.0, repeat_penalty=NO_EFFECT), "b")
    assert ours == theirs


@pytest.mark.parametrize(
    "settings", [{"temperature": 1.5, "top_p": 0.9}, {"temperature": 2.0, "top_p": 1.0, "top_k": 20}]
)
def test_a_window_draws_the_same_token_for_every_seed(runner: Runner, settings: dict[str, float]) -> None:
    different = [
        seed
        for seed in range(60)
        if draw(runner, Sampling(seed=seed, **settings), f"w{seed}")  # type: ignore[arg-type]
        != draw(runner, Sampling(seed=seed, repeat_penalty=NO_EFFECT, **settings), f"f{seed}")  # type: ignore[arg-type]
    ]
    assert different == []


def test_a_bias_forbids_and_forces(runner: Runner) -> None:
    usual = draw(runner, Sampling(seed=1, temperature=0.0), "usual")
    forbidden = Sampling(seed=1, temperature=0.0, logit_bias=((usual, -100.0),))
    assert draw(runner, forbidden, "forbidden") != usual
    forced = Sampling(seed=1, temperature=1.0, logit_bias=((300, 100.0),))
    assert draw(runner, forced, "forced") == 300


def test_seeds_differ(runner: Runner) -> None:
    drawn = Counter(draw(runner, Sampling(seed=seed, temperature=2.0, top_p=1.0), f"s{seed}") for seed in range(40))
    assert len(drawn) > 1


def test_pieces_are_the_texts_bytes_and_marks_are_silent(runner: Runner) -> None:
    text = "Grüße, 李! \N{ROCKET}"
    tokens = runner.tokenize([(text, True)], add_bos=False)
    assert b"".join(runner.piece(token) for token in tokens) == text.encode()
    mark = runner.tokenize([("<｜User｜>", True)], add_bos=False)
    assert [runner.piece(token) for token in mark] == [b""]


def test_a_marked_tag_is_shown_when_the_profile_says_so() -> None:
    shown = Runner(
        WorkerConfig(model_path=str(MODEL), seats=1, seat_context=64, threads=1, visible_tokens=("<｜User｜>",)),
        lambda _fraction: None,
    )
    token = shown.tokenize([("<｜User｜>", True)], add_bos=False)[0]
    assert shown.piece(token) == "<｜User｜>".encode()
    shown.close()
    shown.close()


def test_what_llama_cpp_refuses_is_a_status_and_the_runner_goes_on(runner: Runner) -> None:
    invalid = SlotTokens("x", 0, 0, [10**6], sample=True, sampling=Sampling(seed=1))
    assert runner.run(StepPlan(work=[invalid])).status is DecodeStatus.INVALID_BATCH
    assert draw(runner, Sampling(seed=1, temperature=0.0), "after") >= 0


def test_a_cache_that_is_full_is_a_status_that_leaves_the_memory_as_it_was(runner: Runner) -> None:
    for slot in range(4):
        tokens = [7] * 512
        entry = SlotTokens(f"fill{slot}", slot, 0, tokens, sample=False, sampling=None)
        assert runner.run(StepPlan(memory=[SlotTrim(slot, 0)], work=[entry])).status is DecodeStatus.DONE
    one_more = SlotTokens("fill0", 0, 512, [7], sample=False, sampling=None)
    assert runner.run(StepPlan(work=[one_more])).status is DecodeStatus.NO_KV_SLOT
    trims: list[SlotTrim | SlotCopy] = [SlotTrim(slot, 0) for slot in range(4)]
    assert runner.run(StepPlan(memory=trims)).status is DecodeStatus.DONE
    assert draw(runner, Sampling(seed=1, temperature=0.0), "after") >= 0


def test_a_copied_prefix_gives_the_same_token_and_takes_no_cells(runner: Runner) -> None:
    tokens = runner.tokenize([(PROMPT, True)], add_bos=False)
    greedy = Sampling(seed=1, temperature=0.0)
    alone = draw(runner, greedy, "alone")
    entry = SlotTokens("source", 0, 0, tokens, sample=False, sampling=None)
    assert runner.run(StepPlan(memory=[SlotTrim(0, 0)], work=[entry])).status is DecodeStatus.DONE
    for target in range(1, runner.slots):
        copy = [SlotTrim(target, 0), SlotCopy(0, target, len(tokens) - 1)]
        last = SlotTokens(f"copy{target}", target, len(tokens) - 1, tokens[-1:], sample=True, sampling=greedy)
        result = runner.run(StepPlan(memory=copy, work=[last]))
        assert (result.status, result.sampled[0][0]) == (DecodeStatus.DONE, alone)
    # Each slot sees the whole prompt, but the cells are there once: all the others are free for another slot.
    free = 4 * 512 - len(tokens) - (runner.slots - 1)
    for start in range(0, free, 512):
        piece = SlotTokens("fill", 0, len(tokens) + start, [7] * min(512, free - start), sample=False, sampling=None)
        assert runner.run(StepPlan(work=[piece])).status is DecodeStatus.DONE
    one_more = SlotTokens("fill", 0, len(tokens) + free, [7], sample=False, sampling=None)
    assert runner.run(StepPlan(work=[one_more])).status is DecodeStatus.NO_KV_SLOT
    runner.run(StepPlan(memory=[SlotTrim(slot, 0) for slot in range(runner.slots)]))


def test_there_are_more_slots_than_seats_to_keep_idle_chats(runner: Runner) -> None:
    assert (runner.shares, runner.slots) == (True, 4 + 8)


def test_a_file_that_is_no_model_raises(tmp_path: Path) -> None:
    file = tmp_path / "x.gguf"
    file.write_bytes(b"nothing")
    with pytest.raises(LoadError) as failure:
        Runner(WorkerConfig(model_path=str(file), seats=1, seat_context=64, threads=1), lambda _fraction: None)
    assert failure.value.code == "model_load_failed"
