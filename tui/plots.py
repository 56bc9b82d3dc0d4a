"""Plots of characters."""

from __future__ import annotations

import math
from collections.abc import Sequence


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
