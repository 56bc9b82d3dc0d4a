"""Seats and queue: in order, never more than there are, none lost."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from appliance.errors import QueueFull
from appliance.serving.admission import Admission, Ticket


async def turns(count: int = 10) -> None:
    """Let every other task run."""
    for _ in range(count):
        await asyncio.sleep(0)


def test_seats_then_queue_then_refusal() -> None:
    admission = Admission(seats=2, max_waiting=1)
    first, second, third = admission.enter(), admission.enter(), admission.enter()
    assert (first.granted, second.granted, third.granted) == (True, True, False)
    assert (first.position, second.position, third.position) == (0, 0, 1)
    with pytest.raises(QueueFull) as caught:
        admission.enter()
    assert caught.value.details == {"seats": 2, "waiting": 1}
    stats = admission.stats()
    assert (stats.running, stats.waiting, stats.entered, stats.refused) == (2, 1, 3, 1)


def test_release_hands_over_in_order_and_only_once() -> None:
    admission = Admission(seats=1, max_waiting=3)
    tickets = [admission.enter() for _ in range(4)]
    tickets[0].release()
    tickets[0].release()
    assert [ticket.granted for ticket in tickets] == [False, True, False, False]
    assert [ticket.position for ticket in tickets] == [0, 0, 1, 2]


def test_leaving_the_queue_moves_the_others_up() -> None:
    admission = Admission(seats=1, max_waiting=3)
    holder, first, second, third = (admission.enter() for _ in range(4))
    first.release()
    assert (second.position, third.position) == (1, 2)
    assert holder.granted
    assert first.released
    assert not first.granted


def test_resizing() -> None:
    admission = Admission(seats=1, max_waiting=3)
    tickets = [admission.enter() for _ in range(4)]
    admission.resize(3)
    assert [ticket.granted for ticket in tickets] == [True, True, True, False]
    admission.resize(1)
    tickets[0].release()
    tickets[1].release()
    assert not tickets[3].granted
    tickets[2].release()
    assert tickets[3].granted


def test_no_seat_at_all_lets_everyone_wait() -> None:
    admission = Admission(seats=0, max_waiting=1)
    ticket = admission.enter()
    assert ticket.position == 1
    with pytest.raises(QueueFull):
        admission.enter()


def test_no_queue() -> None:
    admission = Admission(seats=1, max_waiting=0)
    ticket = admission.enter()
    with pytest.raises(QueueFull):
        admission.enter()
    ticket.release()
    assert admission.enter().granted


async def test_waiting_is_woken_by_the_seat_alone() -> None:
    admission = Admission(seats=1, max_waiting=3)
    holder, first, second = admission.enter(), admission.enter(), admission.enter()
    task = asyncio.create_task(second.called())
    await turns()
    holder.release()
    await turns()
    assert second.position == 1
    assert not task.done()
    first.release()
    await task
    assert second.granted


async def test_a_call_before_the_wait_is_not_missed() -> None:
    admission = Admission(seats=1, max_waiting=1)
    holder, waiting = admission.enter(), admission.enter()
    holder.release()
    await waiting.called()
    assert waiting.granted


async def test_a_cancelled_wait_keeps_the_place() -> None:
    admission = Admission(seats=1, max_waiting=2)
    holder, first, second = admission.enter(), admission.enter(), admission.enter()
    task = asyncio.create_task(first.called())
    await turns()
    task.cancel()
    await turns()
    assert (first.position, second.position) == (1, 2)
    holder.release()
    assert first.granted


async def test_cancelled_between_hand_over_and_waking_the_seat_goes_on() -> None:
    admission = Admission(seats=1, max_waiting=2)
    holder, first, second = admission.enter(), admission.enter(), admission.enter()

    async def hold(ticket: Ticket) -> None:
        try:
            await ticket.called()
        finally:
            ticket.release()

    task = asyncio.create_task(hold(first))
    await turns()
    holder.release()  # hands the seat to first ...
    task.cancel()  # ... whose task is cancelled before it wakes
    await asyncio.wait([task])
    assert second.granted
    second.release()
    assert admission.stats().running == 0


async def test_releasing_wakes_those_who_wait() -> None:
    admission = Admission(seats=1, max_waiting=1)
    admission.enter()
    waiting = admission.enter()
    task = asyncio.create_task(waiting.called())
    await turns()
    waiting.release()
    await task
    assert (waiting.released, waiting.granted, waiting.position) == (True, False, 0)


async def test_a_thousand_waiters_are_served_in_order() -> None:
    admission = Admission(seats=3, max_waiting=1000)
    served: list[int] = []

    async def one(number: int, ticket: Ticket) -> None:
        await ticket.called()
        served.append(number)
        await asyncio.sleep(0)
        ticket.release()

    async with asyncio.TaskGroup() as group:
        for number in range(1000):
            group.create_task(one(number, admission.enter()))
    assert served == sorted(served)
    assert admission.stats().running == admission.stats().waiting == 0


class AdmissionMachine(RuleBasedStateMachine):
    """Any order of entering, releasing and resizing against a list."""

    def __init__(self) -> None:
        super().__init__()
        self.seats = 2
        self.admission = Admission(seats=2, max_waiting=3)
        self.running: list[Ticket] = []
        self.waiting: list[Ticket] = []

    def settle(self) -> None:
        while self.waiting and len(self.running) < self.seats:
            self.running.append(self.waiting.pop(0))

    @rule()
    def enter(self) -> None:
        if len(self.running) >= self.seats and len(self.waiting) >= 3:
            with pytest.raises(QueueFull):
                self.admission.enter()
            return
        self.waiting.append(self.admission.enter())
        self.settle()

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def release_seat(self, data: st.DataObject) -> None:
        self.running.pop(data.draw(st.integers(0, len(self.running) - 1))).release()
        self.settle()

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def leave_queue(self, data: st.DataObject) -> None:
        ticket = self.waiting.pop(data.draw(st.integers(0, len(self.waiting) - 1)))
        ticket.release()
        ticket.release()

    @rule(seats=st.integers(0, 5))
    def resize(self, seats: int) -> None:
        self.seats = seats
        self.admission.resize(seats)
        self.settle()

    @invariant()
    def agrees(self) -> None:
        stats = self.admission.stats()
        assert (stats.running, stats.waiting, stats.seats) == (len(self.running), len(self.waiting), self.seats)
        assert all(ticket.granted and ticket.position == 0 for ticket in self.running)
        assert [ticket.position for ticket in self.waiting] == list(range(1, len(self.waiting) + 1))
        assert not any(ticket.granted for ticket in self.waiting)


TestAdmissionMachine = AdmissionMachine.TestCase
TestAdmissionMachine.settings = settings(max_examples=60, stateful_step_count=30)
