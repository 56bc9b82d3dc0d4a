"""The pace alone: what it learns from steps that were measured, and how many prompt tokens it then allows."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from appliance.engine.llamacpp.pace import (
    ALONE_TARGET_S,
    DECODE_TARGET_S,
    LONGEST_BESIDE_DECODE_S,
    SMALLEST_CHUNK,
    SMALLEST_USUAL_CHUNK,
    Pace,
)


def learned(*, row_s: float, token_s: float, times: int = 20) -> Pace:
    """A pace on a machine where every row and every prompt token takes the same time."""
    pace = Pace(first_chunk=128, largest_chunk=512)
    for _ in range(times):
        for rows in (1, 4, 8):
            pace.learn(rows, 0, rows * row_s)
            for tokens in (16, 32, 64, 128, 256, 512):
                pace.learn(rows, tokens, rows * row_s + tokens * token_s)
    return pace


def test_before_anything_is_known_the_first_chunk_counts_and_alone_there_is_no_bound() -> None:
    pace = Pace(first_chunk=128, largest_chunk=512)
    assert (pace.prompt_tokens(3), pace.prompt_tokens(0)) == (128, None)


def test_a_step_beside_streams_stays_in_its_target() -> None:
    pace = learned(row_s=0.001, token_s=0.0002)
    tokens = pace.prompt_tokens(4)
    assert tokens == 128
    assert 4 * 0.001 + tokens * 0.0002 <= DECODE_TARGET_S < 4 * 0.001 + 2 * tokens * 0.0002


def test_a_slow_machine_stretches_the_step_so_that_prompts_get_their_share() -> None:
    pace = learned(row_s=0.01, token_s=0.001)
    tokens = pace.prompt_tokens(4)
    # 40 ms of decoding leave nothing of the target; 128 tokens in 168 ms are 76 % of their speed alone.
    assert tokens == 128
    assert 4 * 0.01 + tokens * 0.001 <= LONGEST_BESIDE_DECODE_S


def test_prompts_always_move() -> None:
    tokens = learned(row_s=0.5, token_s=0.1).prompt_tokens(8)
    assert tokens in (SMALLEST_CHUNK, 2 * SMALLEST_CHUNK)
    assert learned(row_s=0.5, token_s=0.1).prompt_tokens(0) == SMALLEST_USUAL_CHUNK


def test_prompts_alone_take_bigger_chunks_but_leave_room_to_look_up() -> None:
    tokens = learned(row_s=0.01, token_s=0.001).prompt_tokens(0)
    assert tokens == 256
    assert tokens * 0.001 <= ALONE_TARGET_S


def test_small_chunks_are_only_for_machines_on_which_the_usual_one_would_stall_streams() -> None:
    assert learned(row_s=0.01, token_s=0.01).prompt_tokens(4) == SMALLEST_USUAL_CHUNK
    slow = learned(row_s=0.01, token_s=0.02).prompt_tokens(4)
    assert slow is not None
    assert slow < SMALLEST_USUAL_CHUNK


def test_where_a_larger_chunk_takes_hardly_longer_it_is_taken() -> None:
    pace = Pace(first_chunk=128, largest_chunk=512)
    pace.learn(8, 0, 0.3)
    for size, added_s in ((16, 0.3), (32, 0.5), (64, 0.31), (128, 0.7)):
        pace.learn(8, size, 0.3 + added_s)
    assert pace.prompt_tokens(8) == 64


def test_a_quick_step_is_not_taken_when_prompts_would_crawl() -> None:
    pace = Pace(first_chunk=128, largest_chunk=512)
    pace.learn(4, 0, 0.02)
    for size, added_s in ((16, 0.04), (32, 0.08), (64, 0.09), (128, 0.18), (256, 0.36)):
        pace.learn(4, size, 0.02 + added_s)
    # 16 tokens in 60 ms would be the quickest step, at half of the speed of 64 in 110 ms.
    assert pace.prompt_tokens(4) == 64


def test_numbers_that_were_not_measured_follow_from_the_nearest() -> None:
    pace = Pace(first_chunk=128, largest_chunk=512)
    pace.learn(2, 0, 0.02)
    pace.learn(8, 0, 0.04)
    assert [pace.decode_s(rows) for rows in (0, 1, 2, 3, 8, 16)] == [0.0, 0.02, 0.02, 0.03, 0.04, 0.08]
    pace.learn(0, 64, 0.064)
    assert pace.chunk_s(256) == 0.256


def test_one_odd_measurement_changes_little() -> None:
    pace = learned(row_s=0.001, token_s=0.0002)
    before = pace.decode_s(4)
    pace.learn(4, 0, 10.0)
    after = pace.decode_s(4)
    assert before is not None
    assert after is not None
    assert before < after <= 1.6 * before


@pytest.mark.parametrize("slower", [0.2, 1.0, 5.0])
def test_it_finds_its_way_on_a_machine_that_changes(slower: float) -> None:
    pace = learned(row_s=0.001, token_s=0.0002)
    for _ in range(40):
        tokens = pace.prompt_tokens(4)
        assert tokens is not None
        pace.learn(4, 0, 0.004 * slower)
        pace.learn(4, tokens, (0.004 + 0.0002 * tokens) * slower)
    wanted = learned(row_s=0.001 * slower, token_s=0.0002 * slower).prompt_tokens(4)
    assert wanted is not None
    assert wanted // 2 <= tokens <= wanted * 2


def test_the_rest_of_a_prompt_says_nothing_about_the_price_of_a_token() -> None:
    pace = learned(row_s=0.001, token_s=0.0002)
    before = pace.chunk_s(64)
    pace.learn(4, 1, 0.1)
    assert pace.chunk_s(64) == before


@example(steps=[(1, 0, 1e-9), (1, 16, 5e-324), (1, 16, 5e-324)], rows=1)
@given(
    st.lists(st.tuples(st.integers(0, 64), st.integers(0, 512), st.floats(0.0, 100.0)), max_size=30),
    st.integers(0, 64),
)
def test_whatever_was_measured_there_is_a_sound_answer(steps: list[tuple[int, int, float]], rows: int) -> None:
    pace = Pace(first_chunk=128, largest_chunk=512)
    for step in steps:
        pace.learn(*step)
    tokens = pace.prompt_tokens(rows)
    assert tokens is None or SMALLEST_CHUNK <= tokens <= 512
