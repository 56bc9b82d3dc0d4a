"""Who gets the next seat: those that wait for one, in fair order. Pure.

Interactive ones go before batch ones. Among the same kind owners take turns by deficit round robin (Shreedhar and
Varghese, 1995): every turn an owner may have ``QUANTUM`` more tokens admitted, and is charged a request's prompt when
it gets its seat and its answer when it ends: the one who sent a hundred requests gets as many tokens as the one who
sent ten, not ten times as many. An owner's own requests, and all without an owner, keep their order of arrival.

Two hold one: ``serving.admission`` for everybody who waits for a model, whatever engine runs it, and llama.cpp's
scheduler for sequences that it has taken.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

QUANTUM = 512
"""Tokens that an owner may be given per turn."""

LARGEST_DEBT = 16 * QUANTUM
"""What is remembered at most of what an owner got who is not waiting any more."""


class Waiting(Protocol):
    """Something that waits. ``priority``: the lower goes first. ``cost``: tokens that its owner is charged when it gets
    its seat."""

    @property
    def request_id(self) -> str: ...

    @property
    def owner(self) -> str | None: ...

    @property
    def priority(self) -> int: ...

    @property
    def cost(self) -> int: ...


Item = TypeVar("Item", bound=Waiting)


@dataclass(slots=True)
class _Owner(Generic[Item]):
    waiting: deque[Item] = field(default_factory=deque)
    deficit: int = 0


class FairQueue(Generic[Item]):
    """Those who wait for the seats of one model."""

    def __init__(self) -> None:
        self._returned: deque[Item] = deque()
        self._owners: dict[int, dict[str | None, _Owner[Item]]] = {}
        self._turns: dict[int, deque[str | None]] = {}
        self._debts: dict[tuple[int, str | None], int] = {}

    def __len__(self) -> int:
        return len(self._returned) + sum(len(o.waiting) for owners in self._owners.values() for o in owners.values())

    def __iter__(self) -> Iterator[Item]:
        yield from self._returned
        for owners in self._owners.values():
            for owner in owners.values():
                yield from owner.waiting

    def find(self, request_id: str) -> Item | None:
        """The waiting one with this id."""
        return next((item for item in self if item.request_id == request_id), None)

    def add(self, item: Item) -> None:
        """Wait behind those of the same owner."""
        owners = self._owners.setdefault(item.priority, {})
        turns = self._turns.setdefault(item.priority, deque())
        if item.owner not in owners:
            debt = self._debts.pop((item.priority, item.owner), 0)
            owners[item.owner] = _Owner(deficit=-debt)
            turns.append(item.owner)
        owners[item.owner].waiting.append(item)

    def put_back(self, item: Item) -> None:
        """One that lost its seat goes before everybody else."""
        self._returned.appendleft(item)

    def remove(self, item: Item) -> None:
        """It does not wait any longer."""
        if item in self._returned:
            self._returned.remove(item)
            return
        owners = self._owners[item.priority]
        owners[item.owner].waiting.remove(item)
        self._drop_if_done(item.priority, item.owner)

    def pop(self) -> Item:
        """The next one to get a seat. Raises IndexError when none waits."""
        if self._returned:
            return self._returned.popleft()
        priority = min((priority for priority, turns in self._turns.items() if turns), default=None)
        if priority is None:
            raise IndexError("nobody waits")
        turns, owners = self._turns[priority], self._owners[priority]
        passed = 0
        while owners[turns[0]].deficit <= 0:
            if passed == len(turns):
                self._skip_rounds(owners)
                passed = 0
            owners[turns[0]].deficit += QUANTUM
            turns.rotate(-1)
            passed += 1
        name = turns[0]
        item = owners[name].waiting.popleft()
        owners[name].deficit -= item.cost
        self._drop_if_done(priority, name)
        return item

    def order(self) -> list[Item]:
        """All of them as they will come if nobody else arrives and nothing more is charged. Changes nothing."""
        copy: FairQueue[Item] = FairQueue()
        copy._returned = self._returned.copy()
        copy._owners = {
            priority: {name: _Owner(owner.waiting.copy(), owner.deficit) for name, owner in owners.items()}
            for priority, owners in self._owners.items()
        }
        copy._turns = {priority: turns.copy() for priority, turns in self._turns.items()}
        return [copy.pop() for _ in range(len(self))]

    def charge(self, item: Item, tokens: int) -> None:
        """One that had a seat has come to so many tokens more than its cost; less than none are given back."""
        owner = self._owners.get(item.priority, {}).get(item.owner)
        if owner is not None:
            owner.deficit -= tokens
        elif any(self._turns.values()):
            # Remembered only while somebody else waits: with nobody to be fair to there are no debts.
            self._remember(item.priority, item.owner, tokens)

    def _drop_if_done(self, priority: int, name: str | None) -> None:
        owner = self._owners[priority][name]
        if owner.waiting:
            return
        del self._owners[priority][name]
        self._turns[priority].remove(name)
        if not any(self._turns.values()):
            self._debts.clear()
        elif owner.deficit < 0:
            self._remember(priority, name, -owner.deficit)

    def _remember(self, priority: int, name: str | None, tokens: int) -> None:
        self._debts[priority, name] = max(min(self._debts.get((priority, name), 0) + tokens, LARGEST_DEBT), 0)

    @staticmethod
    def _skip_rounds(owners: dict[str | None, _Owner[Item]]) -> None:
        """Give everybody at once the rounds in which nobody could be served."""
        rounds = min(max(0, -owner.deficit // QUANTUM) for owner in owners.values())
        for owner in owners.values():
            owner.deficit += rounds * QUANTUM
