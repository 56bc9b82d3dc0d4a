"""Changes worth telling: a bounded list of events, and a latch that keeps what flickers from filling it."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from drivers.errors import printable
from drivers.telemetry_types import Clock, EventKind, TelemetryEvent
from drivers.types import Severity

MOST_EVENTS = 1000
SETTLE_S = 10.0
"""How long something must hold to count as better: a card that comes and goes is two events in this time at most."""

logger = logging.getLogger(__name__)
_T = TypeVar("_T")
_LEVELS = {Severity.INFO: logging.INFO, Severity.WARNING: logging.WARNING, Severity.ERROR: logging.ERROR}


class EventLog:
    """The newest events, each also one line in the log. Safe for several threads."""

    def __init__(self, clock: Clock, capacity: int = MOST_EVENTS) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._events: deque[TelemetryEvent] = deque(maxlen=capacity)
        self._last_id = 0

    def add(self, kind: EventKind, subject: str, message: str, severity: Severity) -> None:
        """Note that something happened now."""
        message = printable(message)
        with self._lock:
            self._last_id += 1
            self._events.append(TelemetryEvent(self._last_id, self._clock.wall(), kind, subject, message, severity))
        logger.log(_LEVELS[severity], "%s: %s", kind.value, message)

    def since(self, event_id: int) -> tuple[TelemetryEvent, ...]:
        """Events with a greater id, oldest first."""
        with self._lock:
            return tuple(event for event in self._events if event.id > event_id)


class Settled(Generic[_T]):
    """A value of which worse is believed at once and better when it has held for ``settle_s``.

    ``told`` is the value believed. While something better comes and goes, the worst of it counts.
    """

    def __init__(self, told: _T, worse: Callable[[_T, _T], bool], settle_s: float = SETTLE_S) -> None:
        """``worse(a, b)`` says whether ``b`` is worse than ``a``, or something new that is bad."""
        self.told = told
        self._worse = worse
        self._settle_s = settle_s
        self._better: tuple[_T, float] | None = None

    def update(self, value: _T, now_s: float) -> bool:
        """Take a new value; whether ``told`` changed."""
        if value == self.told:
            self._better = None
            return False
        if self._worse(self.told, value):
            self.told, self._better = value, None
            return True
        if self._better is None:
            self._better = (value, now_s)
        candidate, since_s = self._better
        if self._worse(candidate, value):
            candidate = value
            self._better = (candidate, since_s)
        if now_s - since_s < self._settle_s:
            return False
        self.told, self._better = candidate, None
        return True
