"""Draws a request's tokens from the model's logits. Pure: numpy alone, no llama.cpp.

In this order: logit_bias, repeat_penalty, frequency and presence penalty, the structure's mask, top-k, temperature,
top-p, min-p, the draw. Temperature before top-p as in the evaluation settings of DeepSeek-R1 (its model card); in
llama.cpp's own default order top-p sees the distribution before the temperature.

llama.cpp's sampler chain gets an array of the whole vocabulary, 12 bytes a token, and its penalties look each of them
up in a hash table: for R1's 150,000 tokens that is longer than a decode step of a small model. Here what changes the
logits touches only the tokens that it is about, and what filters sees only the tokens near the best one.

Each draw takes its random numbers from the seed, its place in the answer and the tokens it is between, and from nothing
else. So it does not depend on what else is in the batch, on how many positions were tried, or on a sequence having been
computed twice; and where the logits differ in their last bits, as they do in another batch, it seldom differs.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from appliance.engine.llamacpp.answer import AnswerWatch, Marks, Part
from appliance.engine.llamacpp.messages import Sampling
from appliance.engine.llamacpp.step import TokenChance

Logits = np.ndarray[Any, np.dtype[np.float32]]
Flags = np.ndarray[Any, np.dtype[np.bool_]]
Tokens = np.ndarray[Any, np.dtype[np.intp]]
Weights = np.ndarray[Any, np.dtype[np.float64]]

WINDOW_TEMPERATURES = 20.0
"""How many temperatures below the best logit a token may lie and still be drawn: below, it is 2e-9 times as likely."""

FEW = 512
"""So many weights are sorted to find the nucleus of top-p, and run each for itself however light they are."""

LIGHT = 1e-3
"""Weight, beside the best token's 1, from which on down tokens run together."""

_TOGETHER = 2**40
"""Number of no token."""

REPEAT_TOKENS = 64
"""How far back ``repeat_penalty`` looks, as in llama.cpp (``repeat_last_n``); the end of the prompt counts."""

_MASK64 = 2**64 - 1
_GOLDEN = 0x9E3779B97F4A7C15


class SamplingFailed(Exception):
    """No token can be drawn; the message is one plain line for the request's ending."""


class Constraint(Protocol):
    """The structure of one answer, as far as it has been written."""

    def forbidden(self) -> Flags:
        """Which tokens cannot come next, over the vocabulary. Raises SamplingFailed where the structure gives up."""
        ...

    def accept(self, token: int) -> bool:
        """Go on with ``token``; False, and nothing changed, where the structure forbids it."""
        ...

    def reset(self) -> None:
        """Begin again."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Draw:
    """What a request wants of its sampler. ``recent`` is the end of its prompt, as much as ``REPEAT_TOKENS``;
    ``logprobs`` as in ``GenerationRequest``; ``marks`` say what of the output is the answer, None for all of it."""

    sampling: Sampling
    logprobs: int | None = None
    marks: Marks | None = None
    constraint: Constraint | None = None
    recent: tuple[int, ...] = ()


@dataclass(slots=True)
class _Penalties:
    """What has been said: each token of the answer with its count, and the last ``REPEAT_TOKENS`` of everything."""

    sampling: Sampling
    last: deque[int]
    _place: dict[int, int] = field(default_factory=dict)
    _tokens: np.ndarray[Any, np.dtype[np.intp]] = field(default_factory=lambda: np.zeros(64, np.intp))
    _counts: Logits = field(default_factory=lambda: np.zeros(64, np.float32))

    def add(self, token: int, *, in_answer: bool) -> None:
        self.last.append(token)
        if not in_answer:
            return
        place = self._place.setdefault(token, len(self._place))
        if place == len(self._tokens):
            self._tokens = np.concatenate([self._tokens, np.zeros_like(self._tokens)])
            self._counts = np.concatenate([self._counts, np.zeros_like(self._counts)])
        self._tokens[place] = token
        self._counts[place] += 1

    def apply(self, logits: Logits, *, in_answer: bool) -> None:
        sampling = self.sampling
        if sampling.repeat_penalty != 1.0 and self.last:
            recent = np.fromiter(set(self.last), np.intp)
            said = logits[recent]
            logits[recent] = np.where(said > 0, said / sampling.repeat_penalty, said * sampling.repeat_penalty)
        if in_answer and (sampling.frequency_penalty or sampling.presence_penalty):
            count = len(self._place)
            change = self._counts[:count] * np.float32(sampling.frequency_penalty)
            logits[self._tokens[:count]] -= change + np.float32(sampling.presence_penalty)


class TokenSampler:
    """One request's sampler. Not thread-safe; ``draw`` changes the logits that it is given.

    A thought is free: ``logit_bias``, presence and frequency penalty and the structure hold for the answer alone. A
    penalty that counted a thought of thousands of tokens would leave no words for the answer.

    Its state is that of the tokens written so far and of nothing else, whoever wrote them (``catch_up``).
    """

    def __init__(self, draw: Draw, vocabulary_size: int) -> None:
        self._draw = draw
        self._sampling = sampling = draw.sampling
        self._constraint = draw.constraint
        biases = [(token, bias) for token, bias in sampling.logit_bias if 0 <= token < vocabulary_size]
        self._biased = np.array([token for token, _ in biases], np.intp)
        self._biases = np.array([bias for _, bias in biases], np.float32)
        self._prompt_tokens: int | None = None
        self._written: list[int] = []
        self._begin()

    def _begin(self) -> None:
        if self._constraint is not None:
            self._constraint.reset()
        self._watch = AnswerWatch(self._draw.marks)
        self._penalties = _Penalties(self._sampling, deque(self._draw.recent, maxlen=REPEAT_TOKENS))
        self._follows = True
        self._written = []

    # -- what was written -------------------------------------------------------------------------------------------

    def catch_up(self, position: int, tokens: list[int]) -> None:
        """``tokens`` are what the sequence holds from ``position`` on, to its end or to where its prompt is computed.

        At the first call all of them are the prompt. Later ones hold what was drawn here, as a rule: then nothing
        happens. Tokens that somebody else wrote are accepted, and those that were drawn and not taken forgotten.
        """
        if self._prompt_tokens is None:
            self._prompt_tokens = position + len(tokens)
            return
        before = max(0, self._prompt_tokens - position)
        start = position + before - self._prompt_tokens
        real = tokens[before:]
        known = self._written[start : start + len(real)]
        if real[: len(known)] != known:
            said = self._written[:start]
            self._begin()
            for token in said:
                self.accept(token)
            known = []
        for token in real[len(known) :]:
            self.accept(token)

    def accept(self, token: int) -> None:
        """The sequence goes on with ``token``. After one that the structure forbids ``draw`` raises."""
        self._written.append(token)
        before = self._watch.part
        self._penalties.add(token, in_answer=before is not Part.THOUGHT)
        self._watch.accept(token)
        if self._constraint is None or before is Part.THOUGHT:
            return
        if self._watch.part is Part.THOUGHT:
            self._constraint.reset()
            self._follows = True
        elif self._watch.part is not Part.HEAD:
            # At the START a tag of several tokens may have begun, which an answer may begin like.
            self._follows = self._follows and self._constraint.accept(token)

    # -- what comes next --------------------------------------------------------------------------------------------

    def draw(self, logits: Logits) -> tuple[int, TokenChance | None]:
        """The next token, accepted, and its log probability if that is wanted. Raises SamplingFailed."""
        wanted = self._draw.logprobs
        raw = logits.copy() if wanted is not None else logits
        in_answer = self._watch.part is not Part.THOUGHT
        if in_answer:
            logits[self._biased] += self._biases
        self._penalties.apply(logits, in_answer=in_answer)
        if self._constraint is not None and in_answer:
            self._mask(self._constraint, logits)
        token = pick(logits, self._sampling, draw_key(self._sampling.seed, len(self._written)))
        self.accept(token)
        return token, None if wanted is None else token_chance(raw, token, wanted)

    def _mask(self, constraint: Constraint, logits: Logits) -> None:
        beside = np.array(self._watch.beside, np.intp)
        kept = logits[beside]
        if self._follows:
            np.copyto(logits, -np.inf, where=constraint.forbidden()[: len(logits)])
        elif len(beside):
            logits[:] = -np.inf
        else:
            raise SamplingFailed("the answer was continued with text that its structure does not allow")
        logits[beside] = kept


def pick(logits: Logits, sampling: Sampling, key: int) -> int:
    """The token that ``key`` (see ``draw_key``) draws; the best one for temperature 0. Raises SamplingFailed.

    A race of exponential clocks, each as quick as its token is likely (the Gumbel-max trick): the winner has the
    tokens' distribution. Of two distributions that are almost the same it draws different tokens hardly more often than
    must be. One random number along the tokens' cumulated probabilities, as in llama.cpp, would move all borders behind
    a change. (Tiny model, temperature 2, 30 answers alone and in sixes: 30 were the same so, and 18 with that.)
    """
    best = int(logits.argmax())
    highest = float(logits[best])
    if not np.isfinite(highest):
        if highest == -np.inf:
            raise SamplingFailed("no token can come next: the answer's structure and its logit_bias exclude them all")
        raise SamplingFailed("the model computed something that is no number")
    if sampling.temperature <= 0.0:
        return best
    return race(*shortlist(logits, sampling, highest), key)


def race(tokens: Tokens, weights: Weights, key: int) -> int:
    """One of the tokens, each as likely as its weight. Many light ones run as one, and again among themselves when
    that one wins: without filters they are most of the vocabulary and hardly ever drawn."""
    light = weights < LIGHT
    count = int(light.sum())
    if count <= FEW:
        return int(tokens[(weights / exponentials(key, tokens)).argmax()])
    heavy = ~light
    speeds = weights[heavy] / exponentials(key, tokens[heavy])
    together = weights[light].sum() / exponentials(key, np.array([_TOGETHER]))[0]
    place = int(speeds.argmax())
    if speeds[place] >= together:
        return int(tokens[heavy][place])
    return int(tokens[light][(weights[light] / exponentials(key, tokens[light])).argmax()])


def shortlist(logits: Logits, sampling: Sampling, highest: float) -> tuple[Tokens, Weights]:
    """Tokens that can be drawn, by number, and how likely each is in proportion to the best: 0..1."""
    near = np.flatnonzero(logits >= highest - WINDOW_TEMPERATURES * sampling.temperature)
    values = logits[near]
    if 0 < sampling.top_k < len(near):
        kept = np.sort(np.argpartition(values, -sampling.top_k)[-sampling.top_k :])
        near, values = near[kept], values[kept]
    weights = np.exp((values - np.float32(highest)) / np.float32(sampling.temperature)).astype(np.float64)
    if sampling.top_p < 1.0:
        kept = nucleus(weights, sampling.top_p)
        near, weights = near[kept], weights[kept]
    if sampling.min_p > 0.0:
        kept = np.flatnonzero(weights >= sampling.min_p * weights.max())
        near, weights = near[kept], weights[kept]
    return near, weights


def nucleus(weights: Weights, top_p: float) -> Tokens:
    """Places of the fewest heaviest weights that together make ``top_p`` of all, in their order.

    Many weights (a flat distribution) are not sorted but put on levels by their first bits, 64 for each power of two;
    only those on the level where the sum is reached are sorted. 152,000 weights take 2 ms so, and 24 ms sorted.
    """
    goal = top_p * weights.sum()
    if len(weights) <= FEW:
        order = np.argsort(-weights, kind="stable")
        count = int(weights[order].cumsum().searchsorted(goal, side="left")) + 1
        return np.sort(order[:count])
    bits = weights.view(np.int64) >> 46
    levels = bits.max() - bits
    sums = np.bincount(levels, weights=weights).cumsum()
    level = min(int(sums.searchsorted(goal, side="left")), len(sums) - 1)
    border = np.flatnonzero(levels == level)
    border = border[np.argsort(-weights[border], kind="stable")]
    before = sums[level - 1] if level else 0.0
    count = int((before + weights[border].cumsum()).searchsorted(goal, side="left")) + 1
    return np.sort(np.concatenate([np.flatnonzero(levels < level), border[:count]]))


def token_chance(logits: Logits, token: int, top: int) -> TokenChance:
    """The token's log probability and those of the ``top`` likeliest, by the logits as the model computed them."""
    highest = float(logits.max())
    total = highest + float(np.log(np.exp(logits - np.float32(highest)).sum(dtype=np.float64)))
    likeliest: tuple[tuple[int, float], ...] = ()
    if top > 0:
        top = min(top, len(logits))
        places = np.argpartition(logits, -top)[-top:]
        places = places[np.lexsort((places, -logits[places]))]
        likeliest = tuple((int(place), float(logits[place]) - total) for place in places)
    return TokenChance(token, float(logits[token]) - total, likeliest)


def draw_key(seed: int, place: int) -> int:
    """The key of the draw at a place of an answer."""
    return _mix(_mix(seed) + (place + 1) * _GOLDEN)


def exponentials(key: int, tokens: Tokens) -> Weights:
    """An exponentially distributed number for each token: splitmix64 (Steele, Lea, Flood 2014), which gives any place
    of its sequence without those before it."""
    mixed = (tokens.astype(np.uint64) + np.uint64(1)) * np.uint64(_GOLDEN) + np.uint64(key)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed ^= mixed >> np.uint64(31)
    return -np.log(((mixed >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53)


def _mix(value: int) -> int:
    value &= _MASK64
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK64
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK64
    return value ^ (value >> 31)
