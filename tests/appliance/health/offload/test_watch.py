"""Checks every hour and after sleep, with clocks that stand in a test's hand."""

from __future__ import annotations

import asyncio

import pytest

from appliance.health.offload.watch import TICK_S, SleepDetector, sleep_clock, watch_offload


class Hands:
    """Time passes by sleeping; ``naps`` are ticks in which the machine slept for ten minutes."""

    def __init__(self, *naps: int, ticks: int) -> None:
        self.now_s = 0.0
        self.slept_s = 0.0
        self.ticks = 0
        self.checks: list[int] = []
        self._naps = naps
        self._last = ticks

    async def sleep(self, seconds: float) -> None:
        self.ticks += 1
        if self.ticks > self._last:
            raise asyncio.CancelledError
        self.now_s += seconds
        if self.ticks in self._naps:
            self.slept_s += 600.0

    async def check(self) -> None:
        self.checks.append(self.ticks)
        if len(self.checks) == 1:
            raise ValueError("the first check fails")


async def run(hands: Hands) -> list[int]:
    detector = SleepDetector(lambda: hands.slept_s)
    with pytest.raises(asyncio.CancelledError):
        await watch_offload(hands.check, detector=detector, now_s=lambda: hands.now_s, sleep=hands.sleep)
    return hands.checks


async def test_every_hour_whatever_becomes_of_one_check() -> None:
    hour = int(3600 / TICK_S)
    assert await run(Hands(ticks=3 * hour + 5)) == [hour, 2 * hour, 3 * hour]


async def test_soon_after_the_machine_slept() -> None:
    assert await run(Hands(4, 9, ticks=20)) == [4, 9]


def test_a_machine_that_does_not_sleep() -> None:
    detector = SleepDetector()
    assert not detector.has_slept()
    assert sleep_clock() > -1.0
