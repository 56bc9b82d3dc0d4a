"""What a step costs with more rows than sequences: what guessed tokens take. Pure.

A row is a token of the step whose logits are wanted. Per number of sequences and of rows the time of a step is kept as
a multiple of that of the step without guesses, so that both grow together with the conversations. What was not
measured follows the curve that the warm-up took with one sequence.
"""

from __future__ import annotations

import bisect
from dataclasses import dataclass

from appliance.engine.llamacpp.pace import Average

ROWS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32, 40, 48, 64, 96, 128)
"""Numbers of rows that are tried and known apart: backends compute rows in fours and eights."""

UNKNOWN_ROW = 0.2
"""What a row is taken to add, as a part of a step, before anything was measured: little, so that it is tried."""

FORGET_STEPS = 1000
"""What was not measured for so many steps is forgotten and may be tried again: the machine may have been busy."""


@dataclass(slots=True)
class _Known:
    """A multiple of the plain step, and when it was last measured."""

    times: Average
    step: int


class StepCosts:
    """Learns from steps without prompts. ``sequences`` is how many decode, ``rows`` with their guessed tokens."""

    def __init__(self) -> None:
        self._plain_s: dict[int, Average] = {}
        self._times: dict[tuple[int, int], _Known] = {}
        self._curve: list[tuple[int, float]] = []
        self._steps = 0

    def set_curve(self, measured: list[tuple[int, float]]) -> None:
        """What steps of one sequence with so many rows took in the warm-up, ascending from one row."""
        self._curve = []
        for rows, duration_s in measured:
            times = duration_s / measured[0][1]
            # Never less than fewer rows: then one of the two was disturbed.
            floor = self._curve[-1][1] if self._curve else 1.0
            self._curve.append((rows, max(times, floor)))

    def learn(self, sequences: int, rows: int, duration_s: float) -> None:
        """A step took so long."""
        if duration_s <= 0.0 or sequences < 1:
            return
        self._steps += 1
        if rows == sequences:
            self._plain_s.setdefault(sequences, Average()).add(duration_s)
            return
        plain_s = self._plain(sequences)
        if plain_s is None:
            return
        size = ROWS[bisect.bisect_right(ROWS, rows) - 1]
        known = self._times.get((sequences, size))
        if known is None:
            # Begins at what was believed: one odd measurement does not count in full.
            known = self._times[sequences, size] = _Known(Average(self._by_curve(sequences, size)), self._steps)
        known.times.add(duration_s / plain_s)
        known.step = self._steps

    def cost_s(self, sequences: int, rows: int) -> float | None:
        """What a step takes, None while nothing is known of steps with guesses or without."""
        plain_s = self._plain(sequences)
        if plain_s is None or rows <= sequences:
            return plain_s
        known = self._times.get((sequences, rows))
        if known is not None and self._steps - known.step > FORGET_STEPS:
            del self._times[sequences, rows]
            known = None
        if known is not None and known.times.value is not None:
            return plain_s * known.times.value
        return plain_s * self._by_curve(sequences, rows)

    @staticmethod
    def sizes(sequences: int, guessed: int) -> list[int]:
        """Numbers of guessed tokens up to ``guessed`` that give a number of rows of ``ROWS``."""
        return [rows - sequences for rows in ROWS if sequences < rows <= sequences + guessed]

    def _plain(self, sequences: int) -> float | None:
        """From the nearest number that was measured, along the curve."""
        known = [(one, average.value) for one, average in self._plain_s.items() if average.value is not None]
        if not known:
            return None
        nearest, value = min(known, key=lambda one: abs(one[0] - sequences))
        return value * self._at(sequences) / self._at(nearest)

    def _by_curve(self, sequences: int, rows: int) -> float:
        return self._at(rows) / self._at(sequences)

    def _at(self, rows: int) -> float:
        """The curve, between its points and beyond the last in straight lines."""
        points = self._curve or [(1, 1.0)]
        if len(points) == 1:
            points = [points[0], (points[0][0] + 1, points[0][1] + UNKNOWN_ROW)]
        upper = min(max(1, bisect.bisect_left([one for one, _ in points], rows)), len(points) - 1)
        (a, at_a), (b, at_b) = points[upper - 1], points[upper]
        return max(at_a + (at_b - at_a) * (rows - a) / (b - a), 0.01)
