"""Seats and the queue before them: who runs now, who waits, in which order. First come, first served."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from appliance.errors import QueueFull


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

    def __init__(self, leave: Callable[[Ticket], None]) -> None:
        self._leave = leave
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

    def __init__(self, *, seats: int, max_waiting: int) -> None:
        self._seats = seats
        self._max_waiting = max_waiting
        self._running = 0
        self._queue: deque[Ticket] = deque()
        self._entered = 0
        self._refused = 0

    def enter(self) -> Ticket:
        """A ticket: granted when a seat is free, else the last in the queue. Raises QueueFull."""
        if self._running >= self._seats and len(self._queue) >= self._max_waiting:
            self._refused += 1
            raise QueueFull(seats=self._seats, waiting=len(self._queue))
        self._entered += 1
        ticket = Ticket(self._leave)
        self._queue.append(ticket)
        self._advance()
        return ticket

    def resize(self, seats: int) -> None:
        """Another number of seats from now on. Nobody loses a seat; fewer seats take effect as they become free."""
        if seats != self._seats:
            self._seats = seats
            self._advance()

    def stats(self) -> AdmissionStats:
        return AdmissionStats(
            seats=self._seats,
            running=self._running,
            waiting=len(self._queue),
            max_waiting=self._max_waiting,
            entered=self._entered,
            refused=self._refused,
        )

    def _advance(self) -> None:
        while self._queue and self._running < self._seats:
            ticket = self._queue.popleft()
            self._running += 1
            ticket.grant()
        for position, ticket in enumerate(self._queue, start=1):
            ticket.place(position)

    def _leave(self, ticket: Ticket) -> None:
        if ticket.granted:
            self._running -= 1
        else:
            self._queue.remove(ticket)
        ticket.close()
        self._advance()
