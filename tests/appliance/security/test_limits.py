"""Limits as accounts are kept: whatever comes in whatever order, nobody gets more than theirs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.security.errors import QuotaExceeded, RateLimited
from appliance.security.identity import Policy
from appliance.security.limits import LEAST_ANSWER_TOKENS, Limits, Reservation

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0
        self.start = NOON

    def __call__(self) -> float:
        return self.now_s

    def utc(self) -> datetime:
        return self.start + timedelta(seconds=self.now_s)


def make() -> tuple[Limits, Clock]:
    clock = Clock()
    return Limits(clock, clock.utc), clock


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("open"), st.integers(1, 400), st.integers(1, 400), st.booleans()),
        st.tuples(st.just("end"), st.integers(0, 20), st.floats(0, 1), st.booleans()),
        st.tuples(st.just("wait"), st.floats(0, 90), st.just(0), st.booleans()),
    ),
    max_size=80,
)


@given(STEPS, st.integers(50, 2_000))
@settings(max_examples=200, deadline=None)
def test_the_day_is_never_exceeded_by_a_token(steps: list[tuple[str, float, float, bool]], quota: int) -> None:
    limits, clock = make()
    policy = Policy(tokens_per_day=quota)
    running: list[tuple[Reservation, int]] = []
    used = 0
    for what, first, second, flag in steps:
        if what == "open":
            try:
                kept = limits.reserve(
                    "key:1", policy, prompt_tokens=int(first), answer_tokens=int(second), is_asked=flag
                )
            except QuotaExceeded:
                room = quota - used - sum(r.day_tokens for r, _ in running)
                least = int(second) if flag else min(int(second), LEAST_ANSWER_TOKENS)
                assert int(first) + least > room
                continue
            assert kept.answer_tokens <= int(second)
            assert kept.answer_tokens == int(second) or not flag
            running.append((kept, int(first)))
        elif what == "end" and running:
            kept, prompt = running.pop(int(first) % len(running))
            spent = prompt + int(kept.answer_tokens * second)
            limits.settle(kept, spent)
            limits.settle(kept, 10**6)  # twice is once
            used += spent
        elif what == "wait":
            clock.now_s += first
        assert used + sum(kept.day_tokens for kept, _ in running) <= quota
        state = limits.states("key:1", policy).day
        assert state is not None
        assert state.remaining == quota - used - sum(kept.day_tokens for kept, _ in running)


@given(STEPS, st.integers(50, 2_000))
@settings(max_examples=200, deadline=None)
def test_no_minute_gives_more_than_its_refill_and_one_full_bucket(
    steps: list[tuple[str, float, float, bool]], per_minute: int
) -> None:
    limits, clock = make()
    policy = Policy(tokens_per_minute=per_minute)
    running: list[tuple[Reservation, int, int]] = []
    spent = owed = 0
    for what, first, second, _ in steps:
        if what == "open":
            prompt, answer = int(first), int(second)
            try:
                kept = limits.reserve("k", policy, prompt_tokens=prompt, answer_tokens=answer, is_asked=True)
            except RateLimited as refused:
                clock.now_s += refused.retry_after_s or 0
                # After the wait it was told, the same request gets through.
                kept = limits.reserve("k", policy, prompt_tokens=prompt, answer_tokens=answer, is_asked=True)
            running.append((kept, prompt, answer))
        elif what == "end" and running:
            kept, prompt, answer = running.pop(int(first) % len(running))
            used = prompt + int(answer * second)
            limits.settle(kept, used)
            spent += used
            owed += max(used - kept.minute_tokens, 0)
        elif what == "wait":
            clock.now_s += first
        assert spent - owed <= per_minute * (1 + clock.now_s / 60) + 1e-6


def test_requests_per_minute_refill_evenly() -> None:
    limits, clock = make()
    policy = Policy(requests_per_minute=3)
    for _ in range(3):
        limits.begin("key:1", policy)
    with pytest.raises(RateLimited) as refused:
        limits.begin("key:1", policy)
    assert refused.value.retry_after_s == 20
    limits.begin("key:2", policy)
    clock.now_s = 20
    limits.begin("key:1", policy)
    with pytest.raises(RateLimited):
        limits.begin("key:1", policy)
    clock.now_s = 10_000
    for _ in range(3):
        limits.begin("key:1", policy)
    with pytest.raises(RateLimited):
        limits.begin("key:1", policy)


def test_an_answer_without_a_length_takes_what_the_day_has_left() -> None:
    limits, _ = make()
    policy = Policy(tokens_per_day=1_000)
    kept = limits.reserve("k", policy, prompt_tokens=100, answer_tokens=32_768, is_asked=False)
    assert kept.answer_tokens == 900
    with pytest.raises(QuotaExceeded) as refused:
        limits.reserve("k", policy, prompt_tokens=10, answer_tokens=100, is_asked=True)
    assert refused.value.retry_after_s == 5  # it is only set aside
    limits.settle(kept, 950)
    with pytest.raises(QuotaExceeded) as refused:
        limits.reserve("k", policy, prompt_tokens=40, answer_tokens=100, is_asked=True)
    assert refused.value.retry_after_s == 12 * 3600
    assert "950 are used" in refused.value.message


def test_a_request_larger_than_a_minute_waits_for_a_full_one_and_owes() -> None:
    limits, clock = make()
    policy = Policy(tokens_per_minute=600)
    kept = limits.reserve("k", policy, prompt_tokens=5_000, answer_tokens=100, is_asked=True)
    limits.settle(kept, 5_000)
    with pytest.raises(RateLimited) as refused:
        limits.reserve("k", policy, prompt_tokens=1, answer_tokens=1, is_asked=True)
    assert refused.value.retry_after_s == 441
    clock.now_s = 441
    limits.reserve("k", policy, prompt_tokens=1, answer_tokens=1, is_asked=True)


def test_a_new_day_begins_at_midnight_and_running_requests_stay_set_aside() -> None:
    limits, clock = make()
    policy = Policy(tokens_per_day=100)
    limits.preload(NOON.date(), {"k": 50})
    kept = limits.reserve("k", policy, prompt_tokens=10, answer_tokens=40, is_asked=True)
    clock.now_s = 12 * 3600
    state = limits.states("k", policy).day
    assert state is not None
    assert state.remaining == 50
    limits.settle(kept, 20)
    state = limits.states("k", policy).day
    assert state is not None
    assert state.remaining == 80
    clock.now_s = 0  # a clock that is set back gives nothing anew
    state = limits.states("k", policy).day
    assert state is not None
    assert state.remaining == 80


def test_a_changed_limit_holds_at_once() -> None:
    limits, _ = make()
    limits.begin("k", Policy(requests_per_minute=1))
    limits.begin("k", Policy(requests_per_minute=2))
    limits.begin("k", Policy())
    assert limits.states("k", Policy()).requests is None
