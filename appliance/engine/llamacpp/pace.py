"""How many prompt tokens go into a step, so that nobody who is being answered waits long for the next token. Pure.

A step is measured by its worker and the measure is handed in; nothing here looks at a clock. Two things are learned:
what a step costs for the sequences that decode in it, and what chunks of prompt tokens add to it, for each size apart:
llama.cpp's attention on a processor takes 64 tokens in about the time of 24, deep in a sequence in that of 16. All are
averages that follow slowly and take one odd measurement (another program had the core) for a few usual ones at most.
"""

from __future__ import annotations

from dataclasses import dataclass

DECODE_TARGET_S = 0.04
"""A step in which sequences decode should take no longer, as long as prompts move fast enough."""

PROMPT_SHARE = 0.75
"""Beside decoding sequences prompts move at this part at least of the speed that they have alone; where the target does
not allow it the step becomes longer. A stream then slows down, but it never stops."""

PROMPT_SHARE_WITHOUT_FLASH = 0.8
"""In its place without flash attention, where more sizes can be had, so that none is twice what is needed."""

LONGEST_BESIDE_DECODE_S = 0.33
"""Bound for a step that ``PROMPT_SHARE`` makes longer."""

ALONE_TARGET_S = 0.4
"""A step of prompts alone: how long a request that comes during it waits to be looked at."""

SMALLEST_CHUNK = 16
"""Prompt tokens that a step takes however long it gets: prompts always move."""

SMALLEST_USUAL_CHUNK = 64
"""Smaller ones only where this one would make a step longer than ``STALL_S``, and never where nobody decodes.
Measured on a processor with flash attention, 900 tokens deep: 16 tokens 0.20 s, 32 0.47 s, 63 0.76 s, 64 0.31 s, 128
0.56 s."""

USUAL_CHUNK_WITHOUT_FLASH = 32
"""In its place without flash attention, where a token costs about the same in every chunk: 3.6 ms in one of 16, 3.3 in
one of 32, 2.9 in one of 128. So there are chunks between the powers of two as well: 24, 48, 96..."""

STALL_S = 1.0
"""A step that long beside streams is one that people see."""

HARDLY_LONGER = 2.0
"""Where even the quickest chunk makes a step too long, one that takes up to so many times as long may be taken."""

QUICKEST_TOKEN_S = 1e-7
"""No token is believed to cost less: what is not measured for long drifts downwards, and must not reach zero."""

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
    Chunks are the powers of two times ``SMALLEST_CHUNK``, up to ``largest_chunk``. ``even``: a token costs about the
    same in each, as without flash attention; then there are the middles between them too. The smallest are for need.
    """

    def __init__(self, first_chunk: int, largest_chunk: int, *, even: bool = False) -> None:
        self._usual_chunk = USUAL_CHUNK_WITHOUT_FLASH if even else SMALLEST_USUAL_CHUNK
        self._first_chunk = first_chunk
        self._decode_s: dict[int, Average] = {}
        self._token_s: dict[int, Average] = {}
        self._sizes = [SMALLEST_CHUNK]
        while self._sizes[-1] * 2 <= largest_chunk:
            self._sizes.append(self._sizes[-1] * 2)
        if even:
            self._sizes = sorted({*self._sizes, *(size + size // 2 for size in self._sizes[:-1])})
        self._share = PROMPT_SHARE_WITHOUT_FLASH if even else PROMPT_SHARE

    def learn(self, decode_rows: int, prompt_tokens: int, duration_s: float) -> None:
        """A step of ``decode_rows`` sequences that decode and ``prompt_tokens`` tokens of prompts took so long."""
        if duration_s <= 0.0:
            return
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
        known_s = self.chunk_s(size) if size in self._token_s else None
        average = self._token_s.setdefault(size, Average())
        if known_s is not None:
            average.value = known_s / size
        average.add(added_s / prompt_tokens)
        if known_s is not None and average.value is not None:
            self._drift(size, min(1.0, average.value * size / known_s))

    def _drift(self, measured: int, change: float) -> None:
        """What became quicker for one size has likely become so for the others, which are not measured meanwhile.

        Not so what became slower: deep in a sequence a small chunk does and a large one hardly. A size that is thought
        too quick is tried and then known; one that is thought too slow would never be tried again.
        """
        for size, average in self._token_s.items():
            if size != measured and average.value is not None:
                average.value *= change

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
        if nearest is None:
            return None
        # No less than a smaller chunk: what is believed of a size that was not measured for long may be too good.
        # (Not so across the smallest usual one: there the larger one can be the quicker.)
        floor = self._usual_chunk if size >= self._usual_chunk else 0
        smaller = [
            one * average.value for one, average in self._token_s.items() if floor <= one < size and average.value
        ]
        return max([size * max(nearest[1], QUICKEST_TOKEN_S), *smaller])

    def prompt_s(self, tokens: int) -> float | None:
        """What so many tokens of a prompt take at the best speed that was seen, None while nothing is known."""
        speeds = [average.value for average in self._token_s.values() if average.value is not None]
        return tokens * min(speeds) if speeds else None

    def prompt_tokens(self, decode_rows: int) -> int | None:
        """Prompt tokens for a step with so many decoding sequences; None for as many as fit the step."""
        costs = [(size, cost) for size in self._sizes if (cost := self.chunk_s(size)) is not None]
        decode_s = self.decode_s(decode_rows)
        if decode_rows == 0:
            return self._alone(costs) if costs else None
        return self._first_chunk if decode_s is None or not costs else self._beside(decode_s, costs)

    def _alone(self, costs: list[tuple[int, float]]) -> int:
        fitting = [size for size, cost in costs if cost <= ALONE_TARGET_S]
        return max([self._usual_chunk, *fitting])

    def _beside(self, decode_s: float, costs: list[tuple[int, float]]) -> int:
        """The largest chunk in the target that gives prompts their share; else the quickest step that gives it;
        else the one in which they move fastest."""
        usual = [(size, cost) for size, cost in costs if size >= self._usual_chunk]
        if usual and decode_s + usual[0][1] <= STALL_S:
            costs = usual
        longest_s = max(LONGEST_BESIDE_DECODE_S - decode_s, HARDLY_LONGER * min(cost for _, cost in costs))
        possible = [(size, cost, size / (decode_s + cost)) for size, cost in costs if cost <= longest_s]
        # Their speed alone: that of the largest of these, which alone they would have.
        share = self._share * max((size, size / cost) for size, cost, _ in possible)[1]
        enough = [(size, cost) for size, cost, speed in possible if speed >= share]
        in_target = [size for size, cost in enough if decode_s + cost <= DECODE_TARGET_S]
        if in_target:
            return max(in_target)
        if enough:
            return min(enough, key=lambda one: one[1])[0]
        return max(possible, key=lambda one: one[2])[0]


def _nearest(averages: dict[int, Average], count: int) -> tuple[int, float] | None:
    known = [(one, average.value) for one, average in averages.items() if average.value is not None]
    return min(known, key=lambda one: abs(one[0] - count), default=None)
