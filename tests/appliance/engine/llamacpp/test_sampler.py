"""What is drawn has the distribution that it should: against a plain reference, against llama.cpp's own samplers."""

from __future__ import annotations

import ctypes
from collections import Counter
from typing import Any

import llama_cpp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.engine.llamacpp.messages import Sampling
from appliance.engine.llamacpp.sampler import (
    FEW,
    REPEAT_TOKENS,
    WINDOW_TEMPERATURES,
    Draw,
    SamplingFailed,
    TokenSampler,
    draw_key,
    exponentials,
    nucleus,
    pick,
    shortlist,
    token_chance,
)

VOCABULARY = 2_000


def logits_of(seed: int, size: int = VOCABULARY, spread: float = 3.0) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).normal(0.0, spread, size).astype(np.float32)


def softmax(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    weights = np.exp(values - values.max())
    return weights / weights.sum()


def reference(logits: np.ndarray[Any, Any], sampling: Sampling) -> np.ndarray[Any, Any]:
    """Probabilities over the whole vocabulary, the long way: one filter after the other, everything sorted."""
    values = logits.astype(np.float64)
    if sampling.top_k:
        values[np.argsort(-values, kind="stable")[sampling.top_k :]] = -np.inf
    chances = softmax(values / sampling.temperature)
    order = np.argsort(-chances, kind="stable")
    kept, total = [], 0.0
    for token in order:
        kept.append(token)
        total += chances[token]
        if sampling.top_p < 1.0 and total >= sampling.top_p:
            break
    nucleus_only = np.zeros_like(chances)
    nucleus_only[kept] = chances[kept]
    nucleus_only[nucleus_only < sampling.min_p * nucleus_only.max()] = 0.0
    return nucleus_only / nucleus_only.sum()


def by_llama_cpp(logits: np.ndarray[Any, Any], *steps: Any) -> np.ndarray[Any, Any]:
    """Probabilities after samplers of llama.cpp, applied to the whole vocabulary in this order."""
    data = (llama_cpp.llama_token_data * len(logits))(
        *(llama_cpp.llama_token_data(token, float(value), 0.0) for token, value in enumerate(logits))
    )
    array = llama_cpp.llama_token_data_array(data=data, size=len(logits), selected=-1, sorted=False)
    for step in steps:
        llama_cpp.llama_sampler_apply(step, ctypes.byref(array))
        llama_cpp.llama_sampler_free(step)
    values = np.full(len(logits), -np.inf)
    for place in range(array.size):
        values[array.data[place].id] = array.data[place].logit
    return softmax(values)


def drawn(logits: np.ndarray[Any, Any], sampling: Sampling, count: int) -> Counter[int]:
    """How often each token comes first, with as many seeds."""
    numbers: Counter[int] = Counter()
    for seed in range(count):
        numbers[pick(logits, sampling, draw_key(seed, 0))] += 1
    return numbers


sampling_values = st.builds(
    Sampling,
    seed=st.just(1),
    temperature=st.sampled_from([0.1, 0.6, 1.0, 2.0]),
    top_p=st.sampled_from([0.05, 0.5, 0.95, 0.9999, 1.0]),
    top_k=st.sampled_from([0, 1, 5, 40, 700, 5_000]),
    min_p=st.sampled_from([0.0, 0.01, 0.3, 1.0]),
)


@settings(max_examples=200, deadline=None)
@given(seed=st.integers(0, 2**31), spread=st.sampled_from([0.01, 1.0, 4.0]), sampling=sampling_values)
def test_what_is_drawn_from_is_what_the_reference_gives(seed: int, spread: float, sampling: Sampling) -> None:
    """Every token's probability, exact up to rounding; a token on a filter's very border may fall on either side."""
    logits = logits_of(seed, spread=spread)
    expected = reference(logits, sampling)
    tokens, weights = shortlist(logits, sampling, float(logits.max()))
    assert list(tokens) == sorted(set(tokens))
    given_ = np.zeros(VOCABULARY)
    given_[tokens] = weights / weights.sum()
    differing = np.setxor1d(tokens, np.flatnonzero(expected))
    # What is e^-20 times as likely as the best one is left out.
    edge = max(expected[expected > 0].min(), expected.max() * np.exp(-WINDOW_TEMPERATURES))
    certain = [token for token in differing if max(given_[token], expected[token]) > edge * (1 + 1e-4)]
    assert certain == []
    np.testing.assert_allclose(given_, expected, atol=2e-5 + 2 * edge * (edge > 1e-6) * len(differing))


@pytest.mark.parametrize("top_p", [0.3, 0.95, 0.999999])
@pytest.mark.parametrize("size", [1, 7, FEW, 20 * FEW])
def test_a_nucleus_is_the_smallest(top_p: float, size: int) -> None:
    weights = np.exp(np.random.default_rng(size).normal(0, 2, size))
    kept = nucleus(weights, top_p)
    assert list(kept) == sorted(set(kept))
    assert weights[kept].sum() >= top_p * weights.sum() * (1 - 1e-12)
    lightest = kept[weights[kept].argmin()]
    assert weights[kept].sum() - weights[lightest] < top_p * weights.sum()
    left_out = np.setdiff1d(np.arange(size), kept)
    assert not len(left_out) or weights[left_out].max() <= weights[lightest]


def test_filters_are_llama_cpps() -> None:
    for seed in range(5):
        logits = logits_of(seed)
        theirs = by_llama_cpp(
            logits,
            llama_cpp.llama_sampler_init_top_k(300),
            llama_cpp.llama_sampler_init_temp(0.7),
            llama_cpp.llama_sampler_init_top_p(0.95, 1),
            llama_cpp.llama_sampler_init_min_p(0.02, 1),
        )
        sampling = Sampling(seed=1, temperature=0.7, top_k=300, top_p=0.95, min_p=0.02)
        np.testing.assert_allclose(reference(logits, sampling), theirs, atol=1e-6)


def chi_square(numbers: Counter[int], expected: np.ndarray[Any, Any], count: int) -> float:
    """How many standard deviations the counts are from what is expected of them; rare tokens taken together."""
    often = [token for token in np.flatnonzero(expected) if expected[token] * count >= 5]
    pairs = [(numbers[int(token)], expected[token] * count) for token in often]
    rest = count - sum(seen for seen, _ in pairs), count - sum(wanted for _, wanted in pairs)
    if rest[1] >= 5:
        pairs.append(rest)
    value = sum((seen - wanted) ** 2 / wanted for seen, wanted in pairs)
    freedom = len(pairs) - 1
    return float((value - freedom) / np.sqrt(2 * freedom))


@pytest.mark.parametrize(("size", "spread"), [(100, 1.0), (VOCABULARY, 3.0)])
@pytest.mark.parametrize(
    "values",
    [{"temperature": 1.0, "top_p": 1.0}, {"temperature": 0.6, "top_p": 0.95}, {"temperature": 1.3, "min_p": 0.1}],
)
def test_draws_of_many_seeds_and_of_many_places_have_the_distribution(
    values: dict[str, float], size: int, spread: float
) -> None:
    sampling = Sampling(seed=1, **values)  # type: ignore[arg-type]
    logits = logits_of(3, size=size, spread=spread)
    expected = reference(logits, sampling)
    count = 20_000
    assert abs(chi_square(drawn(logits, sampling, count), expected, count)) < 5
    places = Counter(pick(logits, sampling, draw_key(7, place)) for place in range(count))
    assert abs(chi_square(places, expected, count)) < 5


def test_random_numbers_are_even_and_apart() -> None:
    """Over seeds, places and tokens: exp(-x) is evenly spread, and neighbours have nothing to do with each other."""
    tokens = np.arange(40)
    cube = np.array([[exponentials(draw_key(seed, place), tokens) for place in range(40)] for seed in range(40)])
    numbers = np.exp(-cube)
    assert len(np.unique(numbers)) == numbers.size
    counts, _ = np.histogram(numbers, bins=100, range=(0, 1))
    expected = numbers.size / 100
    assert abs(((counts - expected) ** 2 / expected).sum() - 99) < 5 * np.sqrt(198)
    for axis in range(3):
        one, other = (np.take(numbers, range(start, 39 + start), axis).ravel() for start in (0, 1))
        assert abs(np.corrcoef(one, other)[0, 1]) < 0.02


def test_logits_that_are_almost_the_same_draw_almost_always_the_same() -> None:
    """As often as the distributions allow, up to a factor of two: what a batch does to a seed's answer."""
    logits = logits_of(21, spread=2.0)
    moved = logits + np.random.default_rng(3).normal(0, 0.01, VOCABULARY).astype(np.float32)
    sampling = Sampling(seed=1, temperature=1.0, top_p=1.0)
    distance = np.abs(reference(logits, sampling) - reference(moved, sampling)).sum() / 2
    others = sum(pick(logits, sampling, key) != pick(moved, sampling, key) for key in range(4_000))
    assert 0.0 < distance < 0.01
    assert others <= 2 * distance * 4_000 + 20


def test_greedy_takes_the_best_whatever_the_filters_say() -> None:
    logits = logits_of(5)
    for values in ({}, {"top_k": 3}, {"top_p": 0.1}, {"min_p": 0.9}):
        sampling = Sampling(seed=1, temperature=0.0, **values)  # type: ignore[arg-type]
        assert pick(logits, sampling, 999) == logits.argmax()


def test_what_cannot_be_drawn_is_an_error() -> None:
    nothing = np.full(10, -np.inf, np.float32)
    with pytest.raises(SamplingFailed, match="exclude them all"):
        pick(nothing, Sampling(seed=1), 5)
    broken = logits_of(1)
    broken[3] = np.nan
    with pytest.raises(SamplingFailed, match="no number"):
        pick(broken, Sampling(seed=1), 5)


# -- what changes logits ------------------------------------------------------------------------------------------


def changed(sampler: TokenSampler, logits: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The logits as the next draw would see them, by drawing from a copy."""
    seen = logits.copy()
    sampler.draw(seen)
    return seen


def sampler_for(written: list[int], *, recent: tuple[int, ...] = (), **values: Any) -> TokenSampler:
    sampler = TokenSampler(Draw(sampling=Sampling(seed=1, **values), recent=recent), VOCABULARY)
    sampler.catch_up(0, [1, 2, 3])
    for token in written:
        sampler.accept(token)
    return sampler


@settings(max_examples=60, deadline=None)
@given(
    written=st.lists(st.integers(0, 120), max_size=300),
    frequency=st.floats(-2, 2),
    presence=st.floats(-2, 2),
)
def test_frequency_and_presence_are_openais_formula(written: list[int], frequency: float, presence: float) -> None:
    """mu[j] - c[j] * alpha_frequency - (c[j] > 0) * alpha_presence, c over the whole answer."""
    logits = logits_of(9)
    expected = logits.astype(np.float64)
    for token, count in Counter(written).items():
        expected[token] -= count * frequency + presence
    sampler = sampler_for(written, frequency_penalty=frequency, presence_penalty=presence)
    np.testing.assert_allclose(changed(sampler, logits), expected, atol=1e-3)


def test_penalties_are_llama_cpps() -> None:
    written = [int(token) for token in np.random.default_rng(2).integers(0, 50, REPEAT_TOKENS)]
    logits = logits_of(11)
    theirs_sampler = llama_cpp.llama_sampler_init_penalties(VOCABULARY, REPEAT_TOKENS, 1.2, 0.4, 0.3)
    for token in written:
        llama_cpp.llama_sampler_accept(theirs_sampler, token)
    theirs = by_llama_cpp(logits, theirs_sampler)
    ours = sampler_for(written, repeat_penalty=1.2, frequency_penalty=0.4, presence_penalty=0.3)
    np.testing.assert_allclose(softmax(changed(ours, logits).astype(np.float64)), theirs, atol=1e-6)


def test_the_repeat_penalty_sees_the_prompts_end_and_the_last_64_tokens() -> None:
    logits = np.ones(VOCABULARY, np.float32)
    logits[7] = logits[8] = 2.0
    sampler = sampler_for([], recent=(7, 8), repeat_penalty=2.0, temperature=0.0)
    assert {token for token in (7, 8) if changed(sampler, logits)[token] == 1.0} == {7, 8}
    for token in range(100, 100 + REPEAT_TOKENS):
        sampler.accept(token)
    assert changed(sampler, logits)[7] == 2.0


def test_a_bias_moves_its_tokens_alone_and_tokens_out_of_the_vocabulary_are_nothing() -> None:
    logits = logits_of(13)
    sampler = sampler_for([], logit_bias=((5, -100.0), (6, 3.5), (VOCABULARY, 9.0), (-1, 9.0)))
    expected = logits.copy()
    expected[5] -= 100.0
    expected[6] += 3.5
    np.testing.assert_array_equal(changed(sampler, logits), expected)


def test_log_probabilities_are_the_models_own() -> None:
    """Before bias, penalties, temperature and filters."""
    logits = logits_of(17)
    expected = np.log(softmax(logits.astype(np.float64)))
    for values in ({}, {"temperature": 0.1, "top_k": 1}, {"logit_bias": ((3, 100.0),), "frequency_penalty": 2.0}):
        draw = Draw(sampling=Sampling(seed=4, **values), logprobs=5)  # type: ignore[arg-type]
        token, chance = TokenSampler(draw, VOCABULARY).draw(logits.copy())
        assert chance is not None
        assert (chance.token, pytest.approx(expected[token], abs=1e-4)) == (token, chance.logprob)
        assert [one for one, _ in chance.top] == list(np.argsort(-logits, kind="stable")[:5])
        assert [value for _, value in chance.top] == pytest.approx(sorted(expected)[: -5 - 1 : -1], abs=1e-4)


def test_log_probabilities_of_a_certain_token_and_without_the_likeliest() -> None:
    certain = np.full(10, -1e30, np.float32)
    certain[4] = 0.0
    assert token_chance(certain, 4, 0).logprob == 0.0
    assert token_chance(certain, 4, 0).top == ()
    assert len(token_chance(certain, 4, 20).top) == 10


# -- state --------------------------------------------------------------------------------------------------------


def test_a_seed_gives_the_same_again_and_another_seed_something_else() -> None:
    rows = [logits_of(seed) for seed in range(40)]

    def said(seed: int) -> list[int]:
        sampler = TokenSampler(Draw(sampling=Sampling(seed=seed, frequency_penalty=0.5)), VOCABULARY)
        return [sampler.draw(row.copy())[0] for row in rows]

    assert said(1) == said(1)
    assert said(1) != said(2)


@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_the_state_is_that_of_the_sequence_however_it_came_about(data: st.DataObject) -> None:
    """Drawn tokens that were not taken, tokens that others wrote, a sequence computed again in other chunks."""
    written = data.draw(st.lists(st.integers(0, 50), min_size=1, max_size=30))
    values = {"frequency_penalty": 0.7, "presence_penalty": -0.3, "repeat_penalty": 1.1}
    prompt = [3, 4, 5]
    draw = Draw(sampling=Sampling(seed=2, **values), recent=tuple(prompt))
    straight = TokenSampler(draw, VOCABULARY)
    straight.catch_up(0, prompt)
    for token in written:
        straight.accept(token)
    other = TokenSampler(draw, VOCABULARY)
    other.catch_up(0, prompt)
    sequence = list(prompt)
    while len(sequence) < len(prompt) + len(written):
        for _ in range(data.draw(st.integers(0, 2))):
            other.draw(logits_of(len(sequence)))
        more = data.draw(st.integers(1, 5))
        sequence += written[len(sequence) - len(prompt) :][:more]
        start = data.draw(st.integers(0, len(sequence) - 1))
        if start > len(prompt):
            other.catch_up(len(prompt), sequence[len(prompt) : start])
        other.catch_up(start, sequence[start:])
        other.catch_up(max(0, start - 2), sequence[max(0, start - 2) :])
    row = logits_of(99)
    assert other.draw(row.copy()) == straight.draw(row.copy())
    np.testing.assert_array_equal(changed(other, row), changed(straight, row))
