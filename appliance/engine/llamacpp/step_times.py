"""How long steps took, in buckets."""

from __future__ import annotations

import bisect

from appliance.engine.base import STEP_BOUNDS_S


class StepTimes:
    """How long steps took: counts per bucket of ``STEP_BOUNDS_S`` and one for the longer ones."""

    def __init__(self) -> None:
        self.counts = [0] * (len(STEP_BOUNDS_S) + 1)
        self.total_s = self.longest_s = 0.0

    def add(self, duration_s: float) -> None:
        self.counts[bisect.bisect_left(STEP_BOUNDS_S, duration_s)] += 1
        self.total_s += duration_s
        self.longest_s = max(self.longest_s, duration_s)
