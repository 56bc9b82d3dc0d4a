"""Seats and the queue before them: who runs now, who waits, in which order. First come, first served."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from appliance.errors import QueueFull
from appliance.serving.waiting import SeatTimes

ESTIMATE_HOLDS_S = 0.25
"""All who wake up after a change ask for their wait: one estimate does for them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdmissionStats:
    """``running`` and ``waiting`` are now, the rest since the start."""

    seats: int
    running: int
    waiting: int
    max_waiting: int
    entered: int
    refused: int


class Ticket:
    """A place in the queue, then a seat. The holder gives it back with ``release`` whatever happens.

    waiting (``position`` 1 is next) -> granted (0) -> released; waiting -> released. ``Admission`` alone
    writes it, with ``place``, ``grant`` and ``close``.
    """

    def __init__(self, leave: Callable[[Ticket], None], estimate: Callable[[int], float | None]) -> None:
        self._leave = leave
        self._estimate = estimate
        self._position = 0
        self._granted = False
        self._released = False
        self._waiters: set[asyncio.Future[None]] = set()

    @property
    def granted(self) -> bool:
        """The holder has a seat (false again after ``release``)."""
        return self._granted and not self._released

    @property
    def released(self) -> bool:
        return self._released

    @property
    def position(self) -> int:
        """1 is next; 0 when not waiting."""
        return self._position

    @property
    def wait_s(self) -> float | None:
        """How long until there is a seat, as things are; None while nothing is known, or when not waiting."""
        return self._estimate(self._position) if self._position else None

    async def moved_from(self, position: int) -> int:
        """The position, as soon as it is not ``position``. A cancelled wait changes nothing: the place is kept."""
        while self._position == position:
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.add(waiter)
            try:
                await waiter
            finally:
                self._waiters.discard(waiter)
        return self._position

    def release(self) -> None:
        """Leave the queue, or give the seat to the next. Idempotent."""
        if not self._released:
            self._leave(self)

    def grant(self) -> None:
        self._granted = True
        self.place(0)

    def close(self) -> None:
        self._released = True
        self.place(0)

    def place(self, position: int) -> None:
        if position != self._position:
            self._position = position
            for waiter in self._waiters:
                if not waiter.done():
                    waiter.set_result(None)


class Admission:
    """At most ``seats`` tickets are granted at once; up to ``max_waiting`` more wait in order.

    A seat is handed over in ``release`` itself, before anyone wakes up: a waiter that is cancelled between hand-over
    and waking holds a granted ticket and passes it on by releasing it, so no seat is lost. For one event loop.
    """

    def __init__(self, *, seats: int, max_waiting: int, now_s: Callable[[], float] = time.monotonic) -> None:
        self._seats = seats
        self._max_waiting = max_waiting
        self._now_s = now_s
        self._since_s: dict[Ticket, float] = {}
        self._times = SeatTimes()
        self._estimate: tuple[float, tuple[float, ...] | None] | None = None
        self._queue: deque[Ticket] = deque()
        self._entered = 0
        self._refused = 0

    def enter(self) -> Ticket:
        """A ticket: granted when a seat is free, else the last in the queue. Raises QueueFull, which tells when the
        queue will have a place again if that is known."""
        if len(self._since_s) >= self._seats and len(self._queue) >= self._max_waiting:
            self._refused += 1
            raise QueueFull(seats=self._seats, waiting=len(self._queue), wait_s=self.wait_s(1))
        self._entered += 1
        ticket = Ticket(self._leave, self.wait_s)
        self._queue.append(ticket)
        self._advance()
        return ticket

    def resize(self, seats: int) -> None:
        """Another number of seats from now on. Nobody loses a seat; fewer seats take effect as they become free."""
        if seats != self._seats:
            self._seats = seats
            self._advance()

    def wait_s(self, position: int) -> float | None:
        """How long whoever has this place will wait, or whoever took it now; None while nothing is known."""
        now_s = self._now_s()
        if self._estimate is None or not 0 <= now_s - self._estimate[0] < ESTIMATE_HOLDS_S:
            running_s = [now_s - since_s for since_s in self._since_s.values()]
            waits = self._times.waits_s(running_s, seats=self._seats, waiting=len(self._queue) + 1)
            self._estimate = (now_s, waits)
        waits = self._estimate[1]
        return None if waits is None else waits[position - 1]

    def stats(self) -> AdmissionStats:
        return AdmissionStats(
            seats=self._seats,
            running=len(self._since_s),
            waiting=len(self._queue),
            max_waiting=self._max_waiting,
            entered=self._entered,
            refused=self._refused,
        )

    def _advance(self) -> None:
        self._estimate = None
        while self._queue and len(self._since_s) < self._seats:
            ticket = self._queue.popleft()
            self._since_s[ticket] = self._now_s()
            ticket.grant()
        for position, ticket in enumerate(self._queue, start=1):
            ticket.place(position)

    def _leave(self, ticket: Ticket) -> None:
        since_s = self._since_s.pop(ticket, None)
        if since_s is not None:
            self._times.add(self._now_s() - since_s)
        else:
            self._queue.remove(ticket)
        ticket.close()
        self._advance()
