"""Who gets the next seat: sequences that wait for one. Pure.

Interactive sequences go before batch ones. Among the same kind owners take turns by deficit round robin: every turn
an owner may have ``QUANTUM`` more tokens admitted, and a sequence is charged its prompt when it gets its seat and its
answer when it ends: the one who sent a hundred requests gets as many tokens as the one who sent ten, not ten times
as many. An owner's own sequences, and all sequences without an owner, keep their order of arrival.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from appliance.engine.llamacpp.sequence import Sequence

QUANTUM = 512
"""Tokens that an owner may be given per turn."""

LARGEST_DEBT = 16 * QUANTUM
"""What is remembered at most of what an owner got who is not waiting any more."""


@dataclass(slots=True)
class _Owner:
    waiting: deque[Sequence] = field(default_factory=deque)
    deficit: int = 0


class FairQueue:
    """The waiting sequences of one worker."""

    def __init__(self) -> None:
        self._returned: deque[Sequence] = deque()
        self._owners: dict[int, dict[str | None, _Owner]] = {}
        self._turns: dict[int, deque[str | None]] = {}
        self._debts: dict[tuple[int, str | None], int] = {}

    def __len__(self) -> int:
        return len(self._returned) + sum(len(o.waiting) for owners in self._owners.values() for o in owners.values())

    def __iter__(self) -> Iterator[Sequence]:
        yield from self._returned
        for owners in self._owners.values():
            for owner in owners.values():
                yield from owner.waiting

    def find(self, request_id: str) -> Sequence | None:
        """The waiting sequence with this id."""
        return next((sequence for sequence in self if sequence.request_id == request_id), None)

    def add(self, sequence: Sequence) -> None:
        """Wait behind those of the same owner."""
        owners = self._owners.setdefault(sequence.priority, {})
        turns = self._turns.setdefault(sequence.priority, deque())
        if sequence.owner not in owners:
            debt = self._debts.pop((sequence.priority, sequence.owner), 0)
            owners[sequence.owner] = _Owner(deficit=-debt)
            turns.append(sequence.owner)
        owners[sequence.owner].waiting.append(sequence)

    def put_back(self, sequence: Sequence) -> None:
        """A sequence that lost its seat goes before everybody else."""
        self._returned.appendleft(sequence)

    def remove(self, sequence: Sequence) -> None:
        """It does not wait any longer."""
        if sequence in self._returned:
            self._returned.remove(sequence)
            return
        owners = self._owners[sequence.priority]
        owners[sequence.owner].waiting.remove(sequence)
        self._drop_if_done(sequence.priority, sequence.owner)

    def pop(self) -> Sequence:
        """The next sequence to get a seat. Raises IndexError when none waits."""
        if self._returned:
            return self._returned.popleft()
        priority = min((priority for priority, turns in self._turns.items() if turns), default=None)
        if priority is None:
            raise IndexError("nobody waits")
        turns, owners = self._turns[priority], self._owners[priority]
        self._skip_rounds(owners)
        while owners[turns[0]].deficit <= 0:
            owners[turns[0]].deficit += QUANTUM
            turns.rotate(-1)
        name = turns[0]
        sequence = owners[name].waiting.popleft()
        owners[name].deficit -= len(sequence.prompt)
        self._drop_if_done(priority, name)
        return sequence

    def charge(self, sequence: Sequence, tokens: int) -> None:
        """The answer of a sequence that had a seat has come to so many tokens."""
        owner = self._owners.get(sequence.priority, {}).get(sequence.owner)
        if owner is not None:
            owner.deficit -= tokens
        elif any(self._turns.values()):
            # Remembered only while somebody else waits: with nobody to be fair to there are no debts.
            self._remember(sequence.priority, sequence.owner, tokens)

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
        self._debts[priority, name] = min(self._debts.get((priority, name), 0) + tokens, LARGEST_DEBT)

    @staticmethod
    def _skip_rounds(owners: dict[str | None, _Owner]) -> None:
        """Give everybody at once the rounds in which nobody could be served."""
        rounds = min(max(0, -owner.deficit // QUANTUM) for owner in owners.values())
        for owner in owners.values():
            owner.deficit += rounds * QUANTUM
