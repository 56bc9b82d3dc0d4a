"""Seats and the queue before them: who runs now, who waits, in which order.

Seats go in the fair order of ``engine.fair_queue``: interactive requests before batch ones, then owners (keys and
people) by turns, measured in tokens. With its seat a request is charged its prompt and an answer as long as recent ones
were, and at its end the difference: an owner of many short questions does not get all seats before the first of them is
answered. The queue is bounded, and nobody fills it alone: an owner may have up to
``SHARE`` times as many places as are still free, so that a newcomer always finds one (dynamic thresholds, Choudhury and
Hahne, 1998), and batch requests leave half of all places to people.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from appliance.engine.fair_queue import QUANTUM, FairQueue
from appliance.engine.request import Priority
from appliance.errors import QueueFull
from appliance.serving.errors import QueueShareFull
from appliance.serving.waiting import RECENT, SeatTimes

ESTIMATE_HOLDS_S = 0.25
"""All who ask for their wait after a change get one estimate."""

SHARE = 3
"""Alone an owner may have three quarters of the queue, of two 3/7 each, of ten 3/31 each."""

_ORDER = {Priority.INTERACTIVE: 0, Priority.BATCH: 1}


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

    waiting (``position`` 1 is next) -> granted (0) -> released; waiting -> released. ``Admission`` alone writes it,
    with ``grant`` and ``close``.
    """

    def __init__(
        self,
        admission: Admission,
        *,
        request_id: str,
        owner: str | None,
        priority: Priority,
        prompt_tokens: int,
        expected_tokens: int,
    ) -> None:
        self._admission = admission
        self.request_id = request_id
        self.owner = owner
        self.priority = _ORDER[priority]
        self.expected_tokens = expected_tokens
        self.cost = prompt_tokens + expected_tokens
        self._granted = False
        self._released = False
        self._called = asyncio.Event()

    @property
    def granted(self) -> bool:
        """The holder has a seat (false again after ``release``)."""
        return self._granted and not self._released

    @property
    def released(self) -> bool:
        return self._released

    @property
    def position(self) -> int:
        """1 is next; 0 when not waiting. In a fair queue it may also grow: others' turns come first."""
        return 0 if self._called.is_set() else self._admission.position_of(self)

    @property
    def wait_s(self) -> float | None:
        """How long until there is a seat, as things are; None while nothing is known, or when not waiting."""
        position = self.position
        return self._admission.wait_s(position) if position else None

    async def called(self) -> None:
        """Return when there is a seat, or the ticket is released. A cancelled wait changes nothing: the place is
        kept."""
        await self._called.wait()

    def release(self, answer_tokens: int = 0) -> None:
        """Leave the queue, or give the seat to the next. ``answer_tokens`` came of it. Idempotent."""
        if not self._released:
            self._admission.leave(self, answer_tokens)

    def grant(self) -> None:
        self._granted = True
        self._called.set()

    def close(self) -> None:
        self._released = True
        self._called.set()


class Admission:
    """At most ``seats`` tickets are granted at once; up to ``max_waiting`` more wait.

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
        self._queue: FairQueue[Ticket] = FairQueue()
        self._waiting = 0
        self._places: Counter[str | None] = Counter()
        """How many places each owner has."""
        self._positions: dict[Ticket, int] | None = None
        """As far as they were asked for since the last change: to reckon them takes the whole queue."""
        self._usual_tokens = float(QUANTUM)
        """What answers came to lately, a moving mean."""
        self._entered = 0
        self._refused = 0

    def enter(
        self,
        *,
        request_id: str = "",
        owner: str | None = None,
        priority: Priority = Priority.INTERACTIVE,
        prompt_tokens: int = 1,
        most_tokens: int | None = None,
    ) -> Ticket:
        """A ticket: granted when a seat is free, else a place in the queue. ``most_tokens`` bounds the answer. Raises
        as ``check``."""
        self.check(owner, priority)
        self._entered += 1
        usual = round(self._usual_tokens)
        ticket = Ticket(
            self,
            request_id=request_id,
            owner=owner,
            priority=priority,
            prompt_tokens=prompt_tokens,
            expected_tokens=usual if most_tokens is None else min(usual, most_tokens),
        )
        self._queue.add(ticket)
        self._waiting += 1
        self._places[owner] += 1
        self._advance()
        return ticket

    def check(self, owner: str | None, priority: Priority) -> None:
        """Raises what ``enter`` would: QueueFull, QueueShareFull, which tell when to try again if that is known."""
        if len(self._since_s) < self._seats:
            return
        free = self._max_waiting - self._waiting
        mine = self._places[owner]
        if free <= 0:
            self._refused += 1
            raise QueueFull(seats=self._seats, waiting=self._waiting, wait_s=self.wait_s(1))
        if owner is not None and mine >= SHARE * free:
            self._refused += 1
            first = next(ticket for ticket in self._order() if ticket.owner == owner)
            raise QueueShareFull(seats=self._seats, waiting=self._waiting, mine=mine, wait_s=first.wait_s)
        if priority is Priority.BATCH and self._waiting >= (self._max_waiting + 1) // 2:
            self._refused += 1
            raise QueueShareFull(seats=self._seats, waiting=self._waiting, mine=None, wait_s=self.wait_s(1))

    def bound(self, max_waiting: int) -> None:
        """How many may wait from now on; those that wait already stay."""
        self._max_waiting = max_waiting

    def resize(self, seats: int) -> None:
        """Another number of seats from now on. Nobody loses a seat; fewer seats take effect as they become free."""
        if seats != self._seats:
            self._seats = seats
            self._advance()

    def position_of(self, ticket: Ticket) -> int:
        """The place of a ticket that waits."""
        return self._order()[ticket]

    def wait_s(self, position: int) -> float | None:
        """How long whoever has this place will wait, or whoever took it now; None while nothing is known."""
        now_s = self._now_s()
        if self._estimate is None or not 0 <= now_s - self._estimate[0] < ESTIMATE_HOLDS_S:
            running_s = [now_s - since_s for since_s in self._since_s.values()]
            waits = self._times.waits_s(running_s, seats=self._seats, waiting=self._waiting + 1)
            self._estimate = (now_s, waits)
        waits = self._estimate[1]
        return None if waits is None else waits[position - 1]

    def stats(self) -> AdmissionStats:
        return AdmissionStats(
            seats=self._seats,
            running=len(self._since_s),
            waiting=self._waiting,
            max_waiting=self._max_waiting,
            entered=self._entered,
            refused=self._refused,
        )

    def leave(self, ticket: Ticket, answer_tokens: int) -> None:
        """Take a ticket back."""
        since_s = self._since_s.pop(ticket, None)
        if since_s is not None:
            self._times.add(self._now_s() - since_s)
            self._queue.charge(ticket, answer_tokens - ticket.expected_tokens)
            self._usual_tokens += (answer_tokens - self._usual_tokens) / RECENT
        else:
            self._queue.remove(ticket)
            self._forget_place(ticket)
        ticket.close()
        self._advance()

    def _advance(self) -> None:
        self._estimate = self._positions = None
        while self._waiting and len(self._since_s) < self._seats:
            ticket = self._queue.pop()
            self._forget_place(ticket)
            self._since_s[ticket] = self._now_s()
            ticket.grant()

    def _order(self) -> dict[Ticket, int]:
        if self._positions is None:
            self._positions = {ticket: place for place, ticket in enumerate(self._queue.order(), start=1)}
        return self._positions

    def _forget_place(self, ticket: Ticket) -> None:
        self._waiting -= 1
        self._places[ticket.owner] -= 1
        if not self._places[ticket.owner]:
            del self._places[ticket.owner]
