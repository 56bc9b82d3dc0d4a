"""The runner on the real library."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from appliance.engine.llamacpp.messages import Sampling, WorkerConfig
from appliance.engine.llamacpp.runner import LoadError, Runner
from appliance.engine.llamacpp.step import (
    DecodeStatus,
    SlotCopy,
    SlotRestore,
    SlotSave,
    SlotTokens,
    SlotTrim,
    StepPlan,
)

MODEL = Path(__file__).parents[3] / "fixtures" / "tiny_r1" / "gguf" / "Tiny-R1-Q8_0.gguf"
PROMPT = "<｜begin▁of▁sentence｜><｜User｜>Tell me something you were never told.<｜Assistant｜><think>\n"


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
    return result.sampled[0][0][0]


def test_a_bias_forbids_and_forces(runner: Runner) -> None:
    usual = draw(runner, Sampling(seed=1, temperature=0.0), "usual")
    forbidden = Sampling(seed=1, temperature=0.0, logit_bias=((usual, -100.0),))
    assert draw(runner, forbidden, "forbidden") != usual
    forced = Sampling(seed=1, temperature=1.0, logit_bias=((300, 100.0),))
    assert draw(runner, forced, "forced") == 300


def draw_run(runner: Runner, sampling: Sampling, name: str, count: int, draft: list[int]) -> list[int]:
    """The ``count`` tokens after ``PROMPT``: one by one, or with ``draft`` as the guess of every step."""
    tokens = runner.tokenize([(PROMPT, True)], add_bos=False)
    said: list[int] = []
    held = 0
    while len(said) < count:
        everything = [*tokens, *said]
        guess = draft[len(said) : len(said) + 6]
        entry = SlotTokens(name, 0, held, everything[held:], sample=True, sampling=sampling, draft=guess)
        result = runner.run(StepPlan(memory=[SlotTrim(0, held)], work=[entry]))
        assert result.status is DecodeStatus.DONE
        run = [token for token, _ in result.sampled[0]]
        # All but the last are what was guessed, and the last one is not, where there was more to guess.
        assert run[:-1] == guess[: len(run) - 1]
        assert len(run) == len(guess) + 1 or run[-1] != guess[len(run) - 1] or result.sampled[0][-1][1]
        held = len(everything) + len(run) - 1
        said += run
    runner.run(StepPlan(ended=[name]))
    return said[:count]


@pytest.mark.parametrize(
    "settings",
    [
        {"temperature": 0.0},
        {"temperature": 1.5, "top_p": 0.9},
        {"temperature": 1.2, "top_p": 1.0, "frequency_penalty": 0.7, "presence_penalty": 0.3},
    ],
)
def test_guesses_change_no_draw_of_a_request(runner: Runner, settings: dict[str, float]) -> None:
    """The same seed says the same, whether tokens are drawn one by one, behind right guesses or behind wrong ones."""
    for seed in range(12):
        sampling = Sampling(seed=seed, **settings)  # type: ignore[arg-type]
        alone = draw_run(runner, sampling, "alone", 20, [])
        wrong = [token if index % 4 else 700 for index, token in enumerate(alone)]
        assert draw_run(runner, sampling, "right", 20, alone) == alone
        assert draw_run(runner, sampling, "wrong", 20, wrong) == alone


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
        assert (result.status, result.sampled[0][0][0]) == (DecodeStatus.DONE, alone)
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


def test_a_part_of_a_slot_is_saved_and_restored_bit_for_bit(runner: Runner) -> None:
    tokens = runner.tokenize([(PROMPT * 6, True)], add_bos=False)
    greedy = Sampling(seed=1, temperature=0.0)
    whole = SlotTokens("whole", 0, 0, tokens, sample=True, sampling=greedy)
    alone = runner.run(StepPlan(memory=[SlotTrim(0, 0)], work=[whole])).sampled
    middle, end = len(tokens) // 2, len(tokens) - 1
    saves = [SlotSave(0, 0, middle, b"first"), SlotSave(0, middle, end + 1, b"second")]
    saved = runner.run(StepPlan(saves=saves)).saved
    assert saved == [len(runner.blocks[b"first"]), len(runner.blocks[b"second"])]
    assert saved[0] == pytest.approx(runner.bytes_per_token * middle, rel=0.05)
    # Of the second block all but the last token, which is computed again.
    restores = [SlotRestore("r", 3, 0, middle, b"first", middle), SlotRestore("r", 3, middle, end, b"second", end)]
    last = SlotTokens("r", 3, end, tokens[end:], sample=True, sampling=greedy)
    clear = [SlotTrim(slot, 0) for slot in range(4)]
    result = runner.run(StepPlan(memory=[*clear], restores=restores, work=[last]))
    assert (result.status, result.restored, result.sampled) == (DecodeStatus.DONE, [True, True], alone)
    runner.run(StepPlan(saves=[SlotSave(3, 0, middle, b"again"), SlotSave(3, middle, end + 1, b"rest")]))
    assert bytes(runner.blocks[b"again"]) == bytes(runner.blocks[b"first"])
    # The spare sequence holds no cells: all are there for others.
    fill = [SlotTrim(slot, 0) for slot in range(4)]
    for slot in range(4):
        entry = SlotTokens("fill", slot, 0, [7] * 512, sample=False, sampling=None)
        assert runner.run(StepPlan(memory=[*fill] if slot == 0 else [], work=[entry])).status is DecodeStatus.DONE
    runner.run(StepPlan(memory=[*fill]))
    runner.blocks.clear()


def test_bytes_that_are_no_state_are_refused_and_the_slot_stays(runner: Runner) -> None:
    tokens = runner.tokenize([(PROMPT, True)], add_bos=False)
    entry = SlotTokens("x", 0, 0, tokens, sample=True, sampling=Sampling(seed=1, temperature=0.0))
    runner.run(StepPlan(memory=[SlotTrim(0, 0)], work=[entry]))
    runner.run(StepPlan(saves=[SlotSave(0, 0, len(tokens), b"whole")]))
    good = runner.blocks[b"whole"]
    runner.blocks |= {b"short": good[: len(good) // 2].copy(), b"long": np.append(good, good[:9]), b"none": good[:0]}
    for key in (b"short", b"long", b"none", b"unknown"):
        restore = SlotRestore("y", 1, 0, len(tokens), key, len(tokens))
        assert runner.run(StepPlan(memory=[SlotTrim(1, 0)], restores=[restore])).restored == [False]
    wrong_place = SlotRestore("y", 1, 0, len(tokens) + 4, b"whole", len(tokens))
    assert runner.run(StepPlan(restores=[wrong_place])).restored == [False]
    again = SlotTokens("y", 1, 0, tokens, sample=True, sampling=Sampling(seed=1, temperature=0.0))
    assert runner.run(StepPlan(work=[again])).status is DecodeStatus.DONE
    runner.run(StepPlan(memory=[SlotTrim(0, 0), SlotTrim(1, 0)]))
    runner.blocks.clear()
