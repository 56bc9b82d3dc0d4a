"""Tokens per second from a counter that is read now and then, and its last minutes."""

from __future__ import annotations

import math
import re
from collections import deque
from collections.abc import Sequence

KEPT_S = 3600.0
_GENERATED = re.compile(r'^r1box_engine_generated_tokens_total\{model="((?:[^"\\]|\\.)*)"\} (\S+)', re.MULTILINE)


def generated_tokens(metrics: str) -> dict[str, float]:
    """Tokens generated since its engine started, by model, from Prometheus' text format 0.0.4."""
    return {model: float(value) for model, value in _GENERATED.findall(metrics)}


class TokenRate:
    """The rate over all models between readings, kept for an hour. A counter that fell belongs to an engine that was
    started anew: what it shows now came since."""

    def __init__(self) -> None:
        self._last: tuple[float, dict[str, float]] | None = None
        self._points: deque[tuple[float, float]] = deque()

    def read(self, at_s: float, counters: dict[str, float]) -> None:
        """Note a reading. Readings less than a tenth of a second apart count as one."""
        if self._last is not None:
            before_s, before = self._last
            if at_s - before_s < 0.1:
                return
            # A model that was not there before may have counted long before it was seen.
            grown = sum(
                value - before[model] if value >= before[model] else value
                for model, value in counters.items()
                if model in before
            )
            self._points.append((at_s, grown / (at_s - before_s)))
            while self._points[0][0] < at_s - KEPT_S:
                self._points.popleft()
        self._last = (at_s, counters)

    def now(self) -> float | None:
        """Tokens per second over the last readings (three, some seconds); None before there are two."""
        recent = [rate for _, rate in list(self._points)[-3:]]
        return sum(recent) / len(recent) if recent else None

    def buckets(self, now_s: float, count: int, step_s: float) -> tuple[float | None, ...]:
        """Means of ``count`` spans of ``step_s``, the oldest first, the last one ending at the multiple of ``step_s``
        after now, so that a plot moves by whole columns; None where nothing was read."""
        end = math.floor(now_s / step_s) + 1
        sums: list[list[float]] = [[] for _ in range(count)]
        for at_s, rate in self._points:
            place = count - end + math.floor(at_s / step_s)
            if 0 <= place < count:
                sums[place].append(rate)
        return tuple(sum(one) / len(one) if one else None for one in sums)


def plot_rows(values: Sequence[float | None], height: int, top: float, marks: str) -> list[str]:
    """The columns of a plot as ``height`` rows of text, the top row first. ``marks`` are the fillings of a cell from
    the least to a full one; None is an empty column, any value above 0 has at least the least mark."""
    levels = len(marks)
    rows = []
    for row in range(height - 1, -1, -1):
        cells = []
        for value in values:
            filled = 0 if value is None or top <= 0 else min(value / top, 1.0) * height * levels
            steps = max(math.floor(filled + 0.5), 1 if value else 0) - row * levels
            cells.append(" " if steps <= 0 else marks[min(steps, levels) - 1])
        rows.append("".join(cells))
    return rows
