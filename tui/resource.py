"""One thing of the daemon that is asked for again and again, and how well it is known at this moment.

    Loading -> Ready <-> Stale          Loading -> Failed -> Ready

Only ``Resource.ask`` writes. ``state()`` judges by the clock too, so a daemon that hangs makes its values stale while
the question still waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from time import monotonic
from typing import Generic, Protocol, TypeVar

from tui.client import Problem

T = TypeVar("T")
POLL_S = 2.0


class Clock(Protocol):
    """Where the time comes from; tests have their own."""

    def seconds(self) -> float: ...

    def now(self) -> datetime: ...


class SystemClock:
    """This machine's clocks."""

    def seconds(self) -> float:
        """Seconds that only grow."""
        return monotonic()

    def now(self) -> datetime:
        """The time of day, aware."""
        return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Loading:
    """Nothing is known yet; asked for ``age_s`` seconds."""

    age_s: float


@dataclass(frozen=True, slots=True)
class Ready(Generic[T]):
    """Known, ``age_s`` seconds old."""

    value: T
    age_s: float


@dataclass(frozen=True, slots=True)
class Stale(Generic[T]):
    """What was known ``age_s`` seconds ago. ``problem`` is why there is nothing newer; None while an answer is late."""

    value: T
    age_s: float
    problem: Problem | None


@dataclass(frozen=True, slots=True)
class Failed:
    """Never known. ``age_s`` seconds ago this problem was met last."""

    problem: Problem
    age_s: float


State = Loading | Ready[T] | Stale[T] | Failed


def known(state: State[T]) -> T | None:
    """The value, fresh or not; None when there is none."""
    return state.value if isinstance(state, Ready | Stale) else None


class Resource(Generic[T]):
    """Asks ``fetch`` every ``every_s`` seconds while ``poll`` runs, and at once after ``wake``. ``changed`` is called
    after each answer, in the event loop."""

    def __init__(
        self,
        fetch: Callable[[], Awaitable[T | Problem]],
        clock: Clock,
        *,
        every_s: float = POLL_S,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        self._fetch, self._clock, self._every_s = fetch, clock, every_s
        self._changed = changed
        self._began_s = clock.seconds()
        self._value: tuple[T, float] | None = None
        self._problem: tuple[Problem, float] | None = None
        self._woken = asyncio.Event()
        self._asking_since_s = self._began_s

    def state(self) -> State[T]:
        """What is known at this moment."""
        now_s = self._clock.seconds()
        if self._value is not None:
            value, at_s = self._value
            problem = None if self._problem is None else self._problem[0]
            # Nobody asked while another screen was shown: that is no delay of the daemon's.
            late_s = now_s - max(at_s, self._asking_since_s)
            if problem is not None or late_s > 2 * self._every_s + 1:
                return Stale(value, now_s - at_s, problem)
            return Ready(value, now_s - at_s)
        if self._problem is not None:
            return Failed(self._problem[0], now_s - self._problem[1])
        return Loading(now_s - self._began_s)

    def put(self, value: T) -> None:
        """A value that came another way, with the answer of an action."""
        self._value, self._problem = (value, self._clock.seconds()), None
        self._changed()

    def fail(self, problem: Problem) -> None:
        """There was no answer."""
        self._problem = (problem, self._clock.seconds())
        self._changed()

    def _begin(self) -> None:
        self._asking_since_s = self._clock.seconds()

    async def ask(self) -> None:
        """Ask once."""
        answer = await self._fetch()
        if isinstance(answer, Problem):
            self.fail(answer)
        else:
            self.put(answer)

    async def poll(self) -> None:
        """Ask until cancelled."""
        self._begin()
        while True:
            await self.ask()
            self._woken.clear()
            try:
                await asyncio.wait_for(self._woken.wait(), self._every_s)
            except TimeoutError:
                continue

    def wake(self) -> None:
        """Ask now rather than later."""
        self._woken.set()
