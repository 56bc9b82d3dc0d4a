"""Who gets the next seat."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.engine.fair_queue import LARGEST_DEBT, QUANTUM, FairQueue
from appliance.engine.llamacpp.sequence import BATCH, INTERACTIVE, Sequence


def sequence(name: str, owner: str | None = None, prompt_tokens: int = 10, priority: int = INTERACTIVE) -> Sequence:
    return Sequence(name, [1] * prompt_tokens, 5, owner=owner, priority=priority)


def queue(*sequences: Sequence) -> FairQueue[Sequence]:
    made: FairQueue[Sequence] = FairQueue()
    for one in sequences:
        made.add(one)
    return made


def order(subject: FairQueue[Sequence]) -> list[str]:
    return [subject.pop().request_id for _ in range(len(subject))]


def test_without_owners_it_is_the_order_of_arrival() -> None:
    assert order(queue(*(sequence(name) for name in "dacb"))) == list("dacb")


def test_interactive_goes_before_batch() -> None:
    subject = queue(sequence("b1", priority=BATCH), sequence("i1"), sequence("b2", priority=BATCH), sequence("i2"))
    assert order(subject) == ["i1", "i2", "b1", "b2"]


def test_an_owner_with_many_requests_does_not_push_another_back() -> None:
    many = [sequence(f"m{n}", "many", QUANTUM) for n in range(6)]
    subject = queue(*many, sequence("one", "few", QUANTUM), sequence("two", "few", QUANTUM))
    assert order(subject)[:4] == ["m0", "one", "m1", "two"]


def test_tokens_are_shared_not_seats() -> None:
    long = [sequence(f"l{n}", "long", 4 * QUANTUM) for n in range(4)]
    short = [sequence(f"s{n}", "short", QUANTUM // 4) for n in range(40)]
    first = order(queue(*long, *short))
    tokens = {"l": 0, "s": 0}
    for name in first[:20]:
        tokens[name[0]] += 4 * QUANTUM if name[0] == "l" else QUANTUM // 4
        # Neither is ever ahead by more than a turn and the largest request.
        assert abs(tokens["l"] - tokens["s"]) <= 4 * QUANTUM + 2 * QUANTUM


def test_a_long_answer_is_charged_when_it_has_come() -> None:
    subject = queue(sequence("a0", "a"), sequence("b0", "b"), sequence("b1", "b"), sequence("b2", "b"))
    assert subject.pop().request_id == "a0"
    subject.charge(sequence("a0", "a"), 5 * QUANTUM)
    subject.add(sequence("a1", "a"))
    assert order(subject) == ["b0", "b1", "b2", "a1"]


def test_an_old_debt_has_an_end() -> None:
    others = [sequence(f"o{n}", "other", QUANTUM) for n in range(40)]
    subject = queue(*others)
    subject.charge(sequence("a0", "a"), 1000 * QUANTUM)
    subject.add(sequence("a1", "a"))
    position = order(subject).index("a1")
    assert LARGEST_DEBT // QUANTUM <= position <= LARGEST_DEBT // QUANTUM + 2


def test_debts_are_forgotten_when_nobody_waits() -> None:
    subject: FairQueue[Sequence] = FairQueue()
    subject.charge(sequence("a0", "a"), 100 * QUANTUM)
    subject.add(sequence("a1", "a"))
    subject.add(sequence("b1", "b"))
    assert order(subject) == ["a1", "b1"]


def test_one_that_lost_its_seat_goes_first() -> None:
    subject = queue(sequence("a"), sequence("b"))
    subject.put_back(sequence("lost", priority=BATCH))
    assert order(subject) == ["lost", "a", "b"]


def test_removed_ones_do_not_come_and_an_empty_queue_has_nobody() -> None:
    waiting, lost = sequence("a", "x"), sequence("lost")
    subject = queue(waiting, sequence("b", "x"))
    subject.put_back(lost)
    assert subject.find("lost") is lost
    subject.remove(lost)
    subject.remove(waiting)
    assert subject.find("a") is None
    assert order(subject) == ["b"]
    with pytest.raises(IndexError):
        subject.pop()


@given(
    st.lists(
        st.tuples(st.sampled_from([None, "x", "y", "z"]), st.integers(1, 3000), st.sampled_from([INTERACTIVE, BATCH])),
        max_size=30,
    ),
    st.data(),
)
def test_everybody_comes_exactly_once_and_an_owners_own_in_order(
    arrivals: list[tuple[str | None, int, int]], data: st.DataObject
) -> None:
    subject: FairQueue[Sequence] = FairQueue()
    came: list[Sequence] = []
    waiting = [sequence(str(n), owner, tokens, priority) for n, (owner, tokens, priority) in enumerate(arrivals)]
    for one in waiting:
        subject.add(one)
        if data.draw(st.booleans()):
            came.append(subject.pop())
            subject.charge(came[-1], data.draw(st.integers(0, 5000)))
    while len(subject):
        came.append(subject.pop())
    assert sorted(one.request_id for one in came) == sorted(one.request_id for one in waiting)
    for kind in {(one.owner, one.priority) for one in came}:
        own = [int(one.request_id) for one in came if (one.owner, one.priority) == kind]
        assert own == sorted(own)
