"""Rate and time left of something that is counted in bytes. Pure: moments come from outside."""

from __future__ import annotations

from collections import deque

WINDOW_S = 30.0
_LEAST_S = 1.0


class Pace:
    """Remembers the readings of the last ``WINDOW_S`` seconds of one phase."""

    def __init__(self) -> None:
        self._phase: str | None = None
        self._seen: deque[tuple[float, int]] = deque()

    def note(self, at_s: float, phase: str | None, done_bytes: int | None) -> None:
        """A reading at ``at_s`` of a clock that only goes forward."""
        if done_bytes is None or phase != self._phase or (self._seen and done_bytes < self._seen[-1][1]):
            self._seen.clear()
        self._phase = phase
        if done_bytes is None:
            return
        self._seen.append((at_s, done_bytes))
        while len(self._seen) > 2 and at_s - self._seen[1][0] >= WINDOW_S:
            self._seen.popleft()

    @property
    def bytes_per_s(self) -> float | None:
        """Unknown in the first second; 0 when nothing has moved in the window."""
        if not self._seen:
            return None
        (start_s, start), (end_s, end) = self._seen[0], self._seen[-1]
        return (end - start) / (end_s - start_s) if end_s - start_s >= _LEAST_S else None

    def eta_s(self, total_bytes: int | None) -> float | None:
        """Seconds until ``total_bytes``; unknown while nothing moves."""
        rate = self.bytes_per_s
        if not rate or total_bytes is None:
            return None
        return max(total_bytes - self._seen[-1][1], 0) / rate
