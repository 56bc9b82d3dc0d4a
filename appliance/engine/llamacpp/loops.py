"""Notices that a model repeats itself. Pure; a few dictionary look-ups per token whatever the length of the text.

Two signs, both over tokens:

- *A cycle*: the text's end is the same ``period`` tokens over and over, ``MAX_PERIOD`` at most.
- *Worn phrases*: nearly all of the last ``SPAN`` tokens end a phrase of ``PHRASE`` tokens that was there several times
  before: the same few sentences in changing order.

Both are blind to what only looks alike. A table, a list, a long multiplication or a search that counts up changes a
token in every row, so it is no cycle, and no phrase with that token was there before. Texts of few different tokens
(zeros, rules, digits, bits) say little by repeating: a cycle of them must be longer, and no phrase of them counts as
worn.
"""

from __future__ import annotations

from dataclasses import dataclass

PHRASE = 12
MAX_PERIOD = 512
WINDOW = 4096
"""How far back phrases are remembered."""

SPAN = 1024
WORN_TOKENS = 922
"""90 % of ``SPAN``."""

WORN_TIMES = 4
"""So often a phrase must have been there before."""

FEW = 6
"""A cycle or phrase with fewer different tokens is a poor one."""

_TIMES_BITS = 13
_TIMES = (1 << _TIMES_BITS) - 1
"""Room for ``WINDOW``."""

_BASE = 1_000_003
_MODULUS = (1 << 61) - 1
_LEAVING = pow(_BASE, PHRASE, _MODULUS)


@dataclass(frozen=True, slots=True)
class LoopLimits:
    """A cycle is a loop when it was there ``repeats`` times and is ``run_tokens`` long in all, ``poor_run_tokens``
    where it has few different tokens. ``phrases``: worn phrases are a loop too."""

    run_tokens: int
    poor_run_tokens: int
    repeats: int
    phrases: bool


THOUGHT_LIMITS = LoopLimits(run_tokens=384, poor_run_tokens=1024, repeats=4, phrases=True)
"""Of a thought nobody asked for repetition, and its end is soft."""

ANSWER_LIMITS = LoopLimits(run_tokens=1536, poor_run_tokens=4096, repeats=8, phrases=False)
"""An answer may have been asked to repeat something, and its end cuts it off."""


class LoopDetector:
    """Watches one text. ``add`` every token, in order."""

    __slots__ = (
        "_count",
        "_hash",
        "_hashes",
        "_limits",
        "_period",
        "_poor",
        "_run",
        "_seen",
        "_tokens",
        "_worn",
        "_worn_count",
    )

    def __init__(self, limits: LoopLimits) -> None:
        self._limits = limits
        self._tokens: list[int] = []
        self._hashes: list[int] = []
        # Of each phrase in the window: where it last ended, and in the low bits how often it was there.
        self._seen: dict[int, int] = {}
        self._worn = bytearray(SPAN)
        self._worn_count = 0
        self._count = 0
        self._hash = 0
        self._period = 0
        self._run = 0
        self._poor: bool | None = None

    @property
    def period(self) -> int:
        """Tokens of the cycle that the text is in, 0 when it is in none."""
        return self._period

    def add(self, token: int) -> bool:
        """Take the next token; True when the text repeats itself."""
        place = self._count
        self._count = place + 1
        value = (self._hash * _BASE + token + 1) % _MODULUS
        if place >= PHRASE:
            value = (value - (self._tokens[(place - PHRASE) % WINDOW] + 1) * _LEAVING) % _MODULUS
        self._hash = value
        if self._period and self._tokens[(place - self._period) % WINDOW] == token:
            self._run += 1
        else:
            self._period, self._poor = 0, None
        times, last = self._remember(place, token, value)
        if not self._period and times and place - last <= MAX_PERIOD:
            self._period, self._run = place - last, PHRASE
        return self._is_cycle(place) or (self._limits.phrases and self._is_worn(place, times))

    def _remember(self, place: int, token: int, value: int) -> tuple[int, int]:
        """Keep the token and the phrase that it ends; how often and where that was before."""
        slot = place % WINDOW
        if place < WINDOW:
            self._tokens.append(token)
            self._hashes.append(value)
        else:
            leaving = self._hashes[slot]
            seen = self._seen.get(leaving, 0)
            if seen & _TIMES > 1:
                self._seen[leaving] = seen - 1
            elif seen:
                del self._seen[leaving]
            self._tokens[slot] = token
            self._hashes[slot] = value
        if place < PHRASE - 1:
            return 0, 0
        before = self._seen.get(value, 0)
        times = before & _TIMES
        self._seen[value] = (place << _TIMES_BITS) + times + 1
        return times, before >> _TIMES_BITS

    def _is_cycle(self, place: int) -> bool:
        period, limits = self._period, self._limits
        if not period:
            return False
        length = self._run + period
        if length < limits.run_tokens or length < limits.repeats * period:
            return False
        if self._poor is None:
            cycle = {self._tokens[(place - back) % WINDOW] for back in range(period)}
            self._poor = len(cycle) < FEW
        return not self._poor or length >= limits.poor_run_tokens

    def _is_worn(self, place: int, times: int) -> bool:
        worn = times >= WORN_TIMES and self._is_rich(place)
        slot = place % SPAN
        self._worn_count += worn - self._worn[slot]
        self._worn[slot] = worn
        return self._worn_count >= WORN_TOKENS

    def _is_rich(self, place: int) -> bool:
        """Whether the phrase that ends here has enough different tokens."""
        start = (place - PHRASE + 1) % WINDOW
        phrase = self._tokens[start : start + PHRASE]
        if len(phrase) < PHRASE:
            phrase += self._tokens[: PHRASE - len(phrase)]
        return len(set(phrase)) >= FEW
