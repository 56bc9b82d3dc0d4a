"""Log lines about what is refused again and again: the first at once, then their number once a minute.

An attack is to be seen in the log, not to fill it.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

import structlog

TOLD_EVERY_S = 60.0
_MOST = 1_000
"""Addresses that are told apart; of more the one that was quiet for longest is forgotten."""

_log = structlog.get_logger(__name__)


class Tally:
    """``event`` is the log line's name."""

    def __init__(self, event: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._event = event
        self._clock = clock
        self._counts: OrderedDict[tuple[str, str | None], tuple[float, int]] = OrderedDict()

    def note(self, code: str, address: str | None) -> None:
        """One more refusal of this kind to this address."""
        now_s = self._clock()
        key = (code, address)
        told_s, times = self._counts.get(key, (now_s - TOLD_EVERY_S, 0))
        times += 1
        if now_s - told_s >= TOLD_EVERY_S:
            _log.warning(self._event, code=code, address=address, times=times)
            told_s, times = now_s, 0
        self._counts[key] = (told_s, times)
        self._counts.move_to_end(key)
        while len(self._counts) > _MOST:
            self._counts.popitem(last=False)
