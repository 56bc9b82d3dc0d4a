"""Checks again that models run where they should: every hour, and after the machine slept."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import structlog

_log = structlog.get_logger(__name__)

INTERVAL_S = 3600.0
TICK_S = 20.0
LEAST_SLEEP_S = 2.0


def sleep_clock() -> float:
    """Seconds that this machine has slept since it was started: CLOCK_BOOTTIME counts them, CLOCK_MONOTONIC does
    not."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) - time.clock_gettime(time.CLOCK_MONOTONIC)


class SleepDetector:
    """Tells that the machine has slept since it was last asked."""

    def __init__(self, slept_s: Callable[[], float] = sleep_clock) -> None:
        self._slept_s = slept_s
        self._last_s = slept_s()

    def has_slept(self) -> bool:
        """Whether it slept for more than ``LEAST_SLEEP_S`` since the last call."""
        now_s = self._slept_s()
        slept, self._last_s = now_s - self._last_s >= LEAST_SLEEP_S, now_s
        return slept


async def watch_offload(
    check_all: Callable[[], Awaitable[None]],
    *,
    detector: SleepDetector | None = None,
    interval_s: float = INTERVAL_S,
    now_s: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> None:
    """Call ``check_all`` every ``interval_s`` and soon after the machine woke, until cancelled."""
    detector = detector or SleepDetector()
    checked_s = now_s()
    while True:
        await sleep(TICK_S)
        slept = detector.has_slept()
        if not slept and now_s() - checked_s < interval_s:
            continue
        if slept:
            _log.info("woke_up", action="checking that models still run where they should")
        try:
            await check_all()
        except Exception:  # noqa: BLE001 - the loop top: one check that failed must not end all later ones
            _log.exception("offload_check_failed")
        checked_s = now_s()
