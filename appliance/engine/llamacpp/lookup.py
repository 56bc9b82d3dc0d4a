"""Guesses how a sequence goes on from what it has said before: prompt lookup. Pure.

Answers repeat their prompts: code that is edited, JSON with the same keys, a text that is quoted, a thought that comes
back to its own words. Where the last tokens of a sequence occurred before, what followed then is the guess (prompt
lookup decoding, A. Saxena 2023; the search is that of LZ77 compressors: a table of short runs, a chain of their
earlier places, the longest match backwards wins). It costs no model, and a wrong guess costs only what is computed to
find out.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass

SHORTEST = 3
"""Tokens that must match before anything is guessed."""

LONGEST = 32
"""A match is not looked at further back."""

CANDIDATES = 12
"""Earlier places that are compared, the latest first."""

_TOKEN_BITS = 21
"""Bits for a token in a key: vocabularies have up to 256,000 tokens."""


@dataclass(frozen=True, slots=True)
class Match:
    """The end of a sequence was seen before position ``position``; ``length`` tokens are the same."""

    position: int
    length: int


class Lookup:
    """The index of one sequence, which only grows. About 150 bytes a token."""

    def __init__(self) -> None:
        self._last: dict[int, int] = {}
        self._earlier = array("i")
        self._followed: Match | None = None
        self._end = 0

    @property
    def indexed(self) -> int:
        """How many tokens of the sequence are in the index."""
        return len(self._earlier)

    def extend(self, tokens: Sequence[int], most: int) -> int:
        """Take up to ``most`` further tokens of the sequence into the index; the result is how many that were."""
        start = len(self._earlier)
        end = min(len(tokens), start + most)
        for position in range(start, end):
            # What the index names is where a run was followed by something, so its own last token is not in it.
            if position < SHORTEST:
                self._earlier.append(-1)
                continue
            key = _key(tokens, position)
            self._earlier.append(self._last.get(key, -1))
            self._last[key] = position
        return max(0, end - start)

    def find(self, tokens: Sequence[int]) -> Match | None:
        """The longest match of the sequence's end, None without one or while the index lags behind."""
        end = len(tokens)
        if end <= SHORTEST or len(self._earlier) < end:
            self._followed = None
            return None
        best = self._follow(tokens)
        position = self._last.get(_key(tokens, end), -1)
        for _ in range(CANDIDATES):
            if position < 0 or (best is not None and best.length >= LONGEST):
                break
            length = _common_suffix(tokens, position, end)
            if best is None or length > best.length:
                best = Match(position, length)
            position = self._earlier[position]
        self._followed, self._end = best, end
        return best

    def _follow(self, tokens: Sequence[int]) -> Match | None:
        """The match before this one, moved on: right as long as the sequence goes on as it says."""
        if self._followed is None:
            return None
        position = self._followed.position + len(tokens) - self._end
        length = _common_suffix(tokens, position, len(tokens))
        return Match(position, length) if length >= SHORTEST else None


def continuation(tokens: Sequence[int], position: int, count: int) -> list[int]:
    """``count`` tokens as they followed at ``position``; where that runs into the end, the guess goes on with itself,
    as what repeats without a gap does."""
    guess = list(tokens[position : position + count])
    distance = len(tokens) - position
    while len(guess) < count:
        guess.append(guess[len(guess) - distance])
    return guess


def _key(tokens: Sequence[int], end: int) -> int:
    key = 0
    for token in tokens[end - SHORTEST : end]:
        key = key << _TOKEN_BITS | token
    return key


def _common_suffix(tokens: Sequence[int], a: int, b: int) -> int:
    """How many tokens before ``a`` and before ``b``, which comes later, are the same; ``LONGEST`` at most."""
    length = 0
    most = min(a, LONGEST)
    while length < most and tokens[a - length - 1] == tokens[b - length - 1]:
        length += 1
    return length
