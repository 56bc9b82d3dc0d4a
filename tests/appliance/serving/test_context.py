"""Exact numbers when it does not fit, a sure bound before counting, the right budget when it does."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.errors import ContextLengthExceeded, InvalidRequest
from appliance.serving.context import (
    answer_tokens,
    fewest_tokens,
    refuse_if_surely_too_long,
    reserved_tokens,
    room_wanted,
)


@pytest.mark.parametrize(
    ("max_tokens", "profile_tokens", "budget"),
    [(None, None, 60), (None, 32, 32), (None, 1000, 60), (60, None, 60), (1, 32, 1), (50, 32, 50)],
)
def test_budget(max_tokens: int | None, profile_tokens: int | None, budget: int) -> None:
    assert (
        answer_tokens(prompt_tokens=40, max_tokens=max_tokens, profile_tokens=profile_tokens, context_tokens=100)
        == budget
    )


def test_last_token_of_the_seat() -> None:
    assert answer_tokens(prompt_tokens=99, max_tokens=None, profile_tokens=None, context_tokens=100) == 1


@pytest.mark.parametrize(
    ("prompt_tokens", "max_tokens", "reserved", "excess"),
    [(100, None, 1, 1), (140, None, 1, 41), (60, 41, 41, 1), (200, 50, 50, 150)],
)
def test_exact_numbers_when_it_does_not_fit(
    prompt_tokens: int, max_tokens: int | None, reserved: int, excess: int
) -> None:
    with pytest.raises(ContextLengthExceeded) as caught:
        answer_tokens(prompt_tokens=prompt_tokens, max_tokens=max_tokens, profile_tokens=None, context_tokens=100)
    details = caught.value.details
    assert details["prompt_tokens"] == prompt_tokens
    assert details["reserved_tokens"] == reserved
    assert details["context_tokens"] == 100
    assert details["excess_tokens"] == excess
    assert details["prompt_label"] == str(prompt_tokens)


@pytest.mark.parametrize("max_tokens", [0, -1])
def test_an_answer_has_at_least_one_token(max_tokens: int) -> None:
    with pytest.raises(InvalidRequest) as caught:
        reserved_tokens(max_tokens)
    assert caught.value.details["param"] == "max_tokens"


@given(
    texts=st.lists(st.text(alphabet="aé答😀", max_size=50), max_size=4),
    longest=st.integers(1, 20),
    limit=st.integers(0, 60),
)
def test_the_bound_is_sure_and_finds_what_bytes_can_show(texts: list[str], longest: int, limit: int) -> None:
    exact_bytes = len("".join(texts).encode())
    bound = fewest_tokens(texts, longest_token_bytes=longest, limit_tokens=limit)
    assert bound * longest < exact_bytes + longest
    assert (bound > limit) == (exact_bytes > limit * longest)


def test_ten_megabytes_are_refused_as_a_minimum() -> None:
    with pytest.raises(ContextLengthExceeded) as caught:
        refuse_if_surely_too_long(["x" * 10_000_000], max_tokens=100, context_tokens=16_384, longest_token_bytes=128)
    assert caught.value.details["prompt_tokens"] == 78_125
    assert "at least 78,125 tokens" in caught.value.message


def test_what_may_fit_is_left_to_the_tokenizer() -> None:
    refuse_if_surely_too_long(["x" * 99 * 4], max_tokens=None, context_tokens=100, longest_token_bytes=4)
    with pytest.raises(ContextLengthExceeded):
        refuse_if_surely_too_long(["x" * 100 * 4], max_tokens=None, context_tokens=100, longest_token_bytes=4)


def test_a_short_prompt_with_a_long_answer_is_left_to_the_exact_count() -> None:
    refuse_if_surely_too_long(["x"], max_tokens=101, context_tokens=100, longest_token_bytes=4)


@pytest.mark.parametrize(
    ("prompt_tokens", "fields", "end"),
    [
        (18_204, {}, "Shorten it by 5,916 tokens."),
        (14_204, {}, "Shorten it by 1,916 tokens or lower max_tokens."),
        (18_204, {"can_trim": True}, "Shorten it by 5,916 tokens or set trim='turns'."),
        (14_204, {"can_trim": True}, "Shorten it by 1,916 tokens, lower max_tokens, or set trim='turns'."),
    ],
)
def test_a_refusal_says_what_helps(prompt_tokens: int, fields: dict[str, bool], end: str) -> None:
    error = ContextLengthExceeded(prompt_tokens=prompt_tokens, reserved_tokens=4096, context_tokens=16_384, **fields)
    assert error.message == (
        f"The conversation has {prompt_tokens:,} tokens and 4,096 are reserved for the answer; a seat of this model "
        f"holds 16,384. {end}"
    )


@pytest.mark.parametrize(("turns", "said"), [(1, "its oldest turn"), (1200, "its 1,200 oldest turns")])
def test_a_refusal_says_what_was_left_out_in_vain(turns: int, said: str) -> None:
    error = ContextLengthExceeded(prompt_tokens=200, reserved_tokens=1, context_tokens=100, without_turns=turns)
    assert f"has 200 tokens even without {said} and 1 are" in error.message


def test_trimming_leaves_room_to_think() -> None:
    assert room_wanted(None, context_tokens=16_384) == 4096
    assert room_wanted(7, context_tokens=16_384) == 7
