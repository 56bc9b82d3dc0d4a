"""The order of seats when keys compete: fair by tokens, people before batch, bounded, and nobody is forgotten.

``Site`` is a box in small: admission before an engine whose own queue is the same ``FairQueue``, with time that moves
from one ending to the next. That is how the two work together in the daemon.
"""

from __future__ import annotations

import heapq
import itertools
from collections import Counter, defaultdict
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.engine.fair_queue import QUANTUM, FairQueue
from appliance.engine.llamacpp.sequence import BATCH, INTERACTIVE, Sequence
from appliance.engine.request import Priority
from appliance.errors import QueueFull
from appliance.serving.admission import Admission, Ticket
from appliance.serving.errors import QueueShareFull

MODES = {Priority.INTERACTIVE: INTERACTIVE, Priority.BATCH: BATCH}


@dataclass(eq=False)
class Asked:
    """A request that was let in."""

    number: int
    owner: str
    priority: Priority
    prompt_tokens: int
    answer_tokens: int
    ticket: Ticket
    seated: int | None = None


@dataclass
class Site:
    """Requests, seats and an engine's queue. ``seated`` are the requests in the order of their seats in the engine."""

    seats: int
    max_waiting: int = 10_000
    seated: list[Asked] = field(default_factory=list)
    waiting: list[Asked] = field(default_factory=list)
    asked: int = 0

    def __post_init__(self) -> None:
        self.admission = Admission(seats=self.seats, max_waiting=self.max_waiting)
        self.engine: FairQueue[Sequence] = FairQueue()
        self._inside: dict[str, Asked] = {}
        self._ends: list[tuple[int, int]] = []
        self._running: dict[int, Asked] = {}
        self._now = 0

    def ask(self, owner: str, prompt: int, answer: int, priority: Priority = Priority.INTERACTIVE) -> Asked:
        number, self.asked = self.asked, self.asked + 1
        ticket = self.admission.enter(request_id=str(number), owner=owner, priority=priority, prompt_tokens=prompt)
        asked = Asked(number, owner, priority, prompt, answer, ticket)
        self.waiting.append(asked)
        self._settle()
        return asked

    def cancel(self, asked: Asked) -> None:
        """The client leaves the queue."""
        self.waiting.remove(asked)
        asked.ticket.release()
        self._settle()

    def end_next(self) -> Asked:
        """Time goes on to the next ending."""
        self._now, number = heapq.heappop(self._ends)
        asked = self._running.pop(number)
        sequence = Sequence(
            str(number), [1] * asked.prompt_tokens, 1, owner=asked.owner, priority=MODES[asked.priority]
        )
        self.engine.charge(sequence, asked.answer_tokens)
        asked.ticket.release(asked.answer_tokens)
        self._settle()
        return asked

    def drain(self) -> None:
        while self._running:
            self.end_next()

    def _settle(self) -> None:
        """Whoever has a seat goes to the engine, whose queue gives the slots."""
        granted = [asked for asked in self.waiting if asked.ticket.granted]
        for asked in granted:
            self.waiting.remove(asked)
            self._inside[str(asked.number)] = asked
            self.engine.add(
                Sequence(
                    str(asked.number), [1] * asked.prompt_tokens, 1, owner=asked.owner, priority=MODES[asked.priority]
                )
            )
        while len(self._running) < self.seats and len(self.engine):
            asked = self._inside.pop(self.engine.pop().request_id)
            asked.seated = len(self.seated)
            self.seated.append(asked)
            self._running[asked.number] = asked
            heapq.heappush(self._ends, (self._now + asked.prompt_tokens + 10 * asked.answer_tokens, asked.number))
        stats = self.admission.stats()
        assert stats.running <= self.seats
        assert stats.running == len(self._running)
        assert stats.waiting == len(self.waiting)


def test_a_thousand_requests_of_several_keys_come_in_fair_order() -> None:
    site = Site(seats=4)
    busy = [site.ask("holder", 10, 100) for _ in range(4)]
    for _ in range(700):
        site.ask("flood", 100, 300)
    for _ in range(100):
        site.ask("night", 100, 300, Priority.BATCH)
    for _ in range(100):
        site.ask("ward", 100, 300)
    for _ in range(100):
        site.ask("lab", 100, 300)
    assert site.admission.stats().waiting == 1000
    site.drain()
    served = site.seated[len(busy) :]
    assert len(served) == 1000
    # While all three have something to ask they get the same: of the first 300 seats each has its hundred, near enough.
    shares = Counter(asked.owner for asked in served[:300])
    assert all(95 <= shares[owner] <= 105 for owner in ("flood", "ward", "lab"))
    # The two with a hundred are through long before the flood, and batch comes after all of it.
    assert max(asked.seated or 0 for asked in served if asked.owner in ("ward", "lab")) < 330
    assert {asked.owner for asked in served[-100:]} == {"night"}
    for owner in ("flood", "night", "ward", "lab"):
        numbers = [asked.number for asked in served if asked.owner == owner]
        assert numbers == sorted(numbers)


def test_positions_are_the_order_that_comes_true() -> None:
    site = Site(seats=1)
    site.ask("holder", 10, 10)
    for owner, count in (("a", 30), ("b", 10), ("c", 3)):
        for _ in range(count):
            site.ask(owner, QUANTUM, 0)
    told = {asked.number: asked.ticket.position for asked in site.waiting}
    assert sorted(told.values()) == list(range(1, 44))
    site.drain()
    assert [told[asked.number] for asked in site.seated[1:]] == list(range(1, 44))


def test_long_answers_count_not_seats() -> None:
    """Who asks for essays gets as many tokens as who asks for words, and so fewer turns."""
    site = Site(seats=2)
    for _ in range(60):
        site.ask("essays", 50, 2000)
        for _ in range(8):
            site.ask("words", 50, 100)
    tokens: Counter[str] = Counter()
    while len({asked.owner for asked in site.waiting}) == 2:
        ended = site.end_next()
        tokens[ended.owner] += ended.prompt_tokens + ended.answer_tokens
    assert 0.6 < tokens["essays"] / tokens["words"] < 1.7


def test_nobody_fills_the_queue_alone() -> None:
    admission = Admission(seats=1, max_waiting=64)
    admission.enter(owner="flood")
    mine = [admission.enter(owner="flood") for _ in range(48)]
    with pytest.raises(QueueShareFull) as caught:
        admission.enter(owner="flood")
    assert (caught.value.http_status, caught.value.code, caught.value.retry_after_s) == (429, "queue_full", 10)
    assert caught.value.message == (
        "All 1 seats are busy, and 48 of the 48 requests that wait are this key's or person's. "
        "The places that are left are for others."
    )
    others = [admission.enter(owner="other") for _ in range(10)]
    assert others[0].position == 2
    # Now that others are there too, a smaller share is left to the flood.
    for ticket in mine[:20]:
        ticket.release()
    assert admission.stats().waiting == 38
    mine += [admission.enter(owner="flood") for _ in range(13)]
    with pytest.raises(QueueShareFull):
        admission.enter(owner="flood")


def test_a_full_queue_refuses_everybody() -> None:
    admission = Admission(seats=1, max_waiting=40)
    for number in range(41):
        admission.enter(owner=f"owner {number}")
    with pytest.raises(QueueFull):
        admission.enter(owner="one more")


def test_batch_leaves_half_of_the_queue_to_people() -> None:
    admission = Admission(seats=1, max_waiting=10)
    admission.enter(owner="x")
    for number in range(5):
        admission.enter(owner=f"night {number}", priority=Priority.BATCH)
    with pytest.raises(QueueShareFull, match="too many for one more of batch priority"):
        admission.enter(owner="night", priority=Priority.BATCH)
    assert admission.enter(owner="ward").position == 1


def test_every_newcomer_finds_a_place_while_a_few_flood() -> None:
    admission = Admission(seats=1, max_waiting=64)
    admission.enter(owner="x")
    for _ in range(1000):
        for owner in ("a", "b", "c", "d"):
            try:
                admission.enter(owner=owner)
            except QueueShareFull:
                continue
    assert admission.stats().waiting < 64
    assert admission.enter(owner="newcomer").position <= 5


ARRIVALS = st.lists(
    st.tuples(
        st.sampled_from(["a", "b", "c", "d"]),
        st.integers(1, 4000),
        st.integers(0, 4000),
        st.sampled_from(list(Priority)),
        st.sampled_from(["stay", "stay", "stay", "leave"]),
        st.integers(0, 3),
    ),
    max_size=80,
)


@settings(max_examples=150)
@given(ARRIVALS, st.integers(1, 5), st.integers(0, 30))
def test_whatever_comes_everybody_is_served_or_told(
    arrivals: list[tuple[str, int, int, Priority, str, int]], seats: int, max_waiting: int
) -> None:
    site = Site(seats=seats, max_waiting=max_waiting)
    entered, refused, left = [], 0, 0
    for owner, prompt, answer, priority, mood, endings in arrivals:
        try:
            asked = site.ask(owner, prompt, answer, priority)
        except QueueFull:
            refused += 1
            assert site.admission.stats().running == seats
        else:
            if mood == "leave" and asked.seated is None:
                site.cancel(asked)
                left += 1
            else:
                entered.append(asked)
        assert site.admission.stats().waiting <= max_waiting
        positions = sorted(one.ticket.position for one in site.waiting)
        assert positions == list(range(1, len(positions) + 1))
        people = [one.ticket.position for one in site.waiting if one.priority is Priority.INTERACTIVE]
        assert sorted(people) == list(range(1, len(people) + 1))
        for _ in range(min(endings, site.admission.stats().running)):
            site.end_next()
    site.drain()
    assert len(entered) + refused + left == len(arrivals)
    assert all(asked.seated is not None for asked in entered)
    assert site.admission.stats().running == site.admission.stats().waiting == 0
    for kind in itertools.product("abcd", Priority):
        numbers = [asked.number for asked in site.seated if (asked.owner, asked.priority) == kind]
        assert numbers == sorted(numbers)


@settings(max_examples=100)
@given(
    st.dictionaries(st.sampled_from("abcde"), st.tuples(st.integers(1, 3000), st.integers(0, 3000)), min_size=2),
    st.integers(1, 4),
)
def test_backlogged_keys_never_drift_apart(sizes: dict[str, tuple[int, int]], seats: int) -> None:
    """The bound of deficit round robin: a turn, and the largest requests that were on their way."""
    site = Site(seats=seats)
    for _ in range(40):
        for owner, (prompt, answer) in sizes.items():
            site.ask(owner, prompt, answer)
    tokens: defaultdict[str, int] = defaultdict(int)
    largest = max(prompt + answer for prompt, answer in sizes.values())
    while {asked.owner for asked in site.waiting} == set(sizes):
        ended = site.end_next()
        tokens[ended.owner] += ended.prompt_tokens + ended.answer_tokens
        assert max(tokens[owner] for owner in sizes) - min(tokens[owner] for owner in sizes) <= (
            2 * QUANTUM + (2 * seats + 2) * largest
        )
