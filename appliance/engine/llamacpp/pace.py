"""How many prompt tokens go into a step, so that nobody who is being answered waits long for the next token. Pure.

A step is measured by its worker and the measure is handed in; nothing here looks at a clock. Two things are learned:
what a step costs for the sequences that decode in it, and what chunks of prompt tokens add to it, for each size apart:
llama.cpp's attention on a processor takes 64 tokens in about the time of 24, deep in a sequence in that of 16. All are
averages that follow slowly and take one odd measurement (another program had the core) for a few usual ones at most.
"""

from __future__ import annotations

from dataclasses import dataclass

DECODE_TARGET_S = 0.04
"""A step in which sequences decode should take no longer, as long as prompts get their share of it."""

PROMPT_SHARE = 0.7
"""What prompts may take of a step beside decoding sequences when the target leaves them less. Their own wait is then
at most 1/0.7 of what it would be on an idle engine, and a stream slows down to 0.3 of its speed; it never stops."""

LONGEST_BESIDE_DECODE_S = 0.25
"""Bound for a step stretched by ``PROMPT_SHARE``."""

ALONE_TARGET_S = 0.25
"""A step of prompts alone: how long a request that comes during it waits to be looked at."""

SMALLEST_CHUNK = 16
"""Prompt tokens that a step takes however long it gets: prompts always move."""

SMALLEST_CHUNK_ALONE = 64
"""The same where nobody decodes."""

HARDLY_LONGER = 1.5
"""When no chunk is quick enough, one that takes up to so many times the quickest is as good and moves more."""

_WEIGHT = 0.25
_ODD = 3.0


@dataclass(slots=True)
class Average:
    """An exponential average that takes a measurement far above it for ``_ODD`` times itself."""

    value: float | None = None

    def add(self, measured: float) -> None:
        """Take one more measurement."""
        if self.value is None:
            self.value = measured
            return
        self.value += _WEIGHT * (min(measured, _ODD * self.value) - self.value)


class Pace:
    """Learns from steps, and says how many prompt tokens the next one takes.

    ``first_chunk`` is the answer beside decoding sequences until something is known; alone, prompts then fill the step.
    Chunks are the powers of two times ``SMALLEST_CHUNK``, up to ``largest_chunk``.
    """

    def __init__(self, first_chunk: int, largest_chunk: int) -> None:
        self._first_chunk = first_chunk
        self._decode_s: dict[int, Average] = {}
        self._token_s: dict[int, Average] = {}
        self._sizes = [SMALLEST_CHUNK]
        while self._sizes[-1] * 2 <= largest_chunk:
            self._sizes.append(self._sizes[-1] * 2)

    def learn(self, decode_rows: int, prompt_tokens: int, duration_s: float) -> None:
        """A step of ``decode_rows`` sequences that decode and ``prompt_tokens`` tokens of prompts took so long."""
        if prompt_tokens == 0:
            if decode_rows > 0:
                self._decode_s.setdefault(decode_rows, Average()).add(duration_s)
            return
        decode_s = self.decode_s(decode_rows)
        if decode_s is None or prompt_tokens < SMALLEST_CHUNK:
            # Of a prompt's last few tokens the step's own cost would be taken for theirs.
            return
        size = max(size for size in self._sizes if size <= prompt_tokens)
        # Never nothing: of a step that was quicker than decoding alone the tokens cost little, which is all it says.
        added_s = max(duration_s - decode_s, 0.02 * duration_s)
        self._token_s.setdefault(size, Average()).add(added_s / prompt_tokens)

    def decode_s(self, rows: int) -> float | None:
        """What a step of so many decoding sequences takes, None while nothing is known.

        From the nearest number that was measured: more rows cost at most in proportion, fewer no more.
        """
        if rows == 0:
            return 0.0
        nearest = _nearest(self._decode_s, rows)
        if nearest is None:
            return None
        count, value = nearest
        return value * max(1.0, rows / count)

    def chunk_s(self, size: int) -> float | None:
        """What a chunk of this size adds to a step, None while nothing is known of any size."""
        nearest = _nearest(self._token_s, size)
        return None if nearest is None else size * nearest[1]

    def prompt_tokens(self, decode_rows: int) -> int | None:
        """Prompt tokens for a step with so many decoding sequences; None for as many as fit the step."""
        decode_s = self.decode_s(decode_rows)
        if decode_rows == 0:
            return self._largest_within(ALONE_TARGET_S, SMALLEST_CHUNK_ALONE)
        if decode_s is None or not self._token_s:
            return self._first_chunk
        share_s = min(decode_s * PROMPT_SHARE / (1 - PROMPT_SHARE), LONGEST_BESIDE_DECODE_S - decode_s)
        return self._largest_within(max(DECODE_TARGET_S - decode_s, share_s), SMALLEST_CHUNK)

    def _largest_within(self, budget_s: float, smallest: int) -> int | None:
        costs = [(size, cost) for size in self._sizes if size >= smallest and (cost := self.chunk_s(size)) is not None]
        if not costs:
            return None
        budget_s = max(budget_s, HARDLY_LONGER * min(cost for _, cost in costs))
        return max(size for size, cost in costs if cost <= budget_s)


def _nearest(averages: dict[int, Average], count: int) -> tuple[int, float] | None:
    known = [(one, average.value) for one, average in averages.items() if average.value is not None]
    return min(known, key=lambda one: abs(one[0] - count), default=None)
