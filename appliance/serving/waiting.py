"""How long those in a queue will wait, from how long recent requests kept their seats. Values in, values out.

The estimate, in order: 1. each running request has left what recent ones that took longer than it has so far took
beyond that, on average; one that has taken longer than all of them is taken to be half over; 2. seats become free in
that order, and each is taken by the next in the queue for as long as recent requests took on average.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Sequence

RECENT = 32
"""Requests that count: some minutes' worth on a busy box, so that the estimate follows what people do now."""
FEWEST = 3
"""Before so many have ended nothing is known."""


class SeatTimes:
    """How long the last requests kept their seats."""

    def __init__(self) -> None:
        self._recent_s: deque[float] = deque(maxlen=RECENT)

    def add(self, duration_s: float) -> None:
        """Another one has ended."""
        self._recent_s.append(duration_s)

    def waits_s(self, running_s: Sequence[float], *, seats: int, waiting: int) -> tuple[float, ...] | None:
        """The wait of each place in the queue, the next one's first. ``running_s``: how long those with a seat have had
        it (there may be more of them than ``seats`` after those became fewer). None while nothing is known."""
        if len(self._recent_s) < FEWEST or seats < 1 or len(running_s) < seats:
            return None
        mean_s = sum(self._recent_s) / len(self._recent_s)
        free_at = [self._left_s(taken_s) for taken_s in running_s]
        heapq.heapify(free_at)
        for _ in range(len(running_s) - seats):
            heapq.heappop(free_at)
        waits = []
        for _ in range(waiting):
            at = heapq.heappop(free_at)
            waits.append(at)
            heapq.heappush(free_at, at + mean_s)
        return tuple(waits)

    def _left_s(self, taken_s: float) -> float:
        longer = [recent_s - taken_s for recent_s in self._recent_s if recent_s > taken_s]
        return sum(longer) / len(longer) if longer else taken_s
