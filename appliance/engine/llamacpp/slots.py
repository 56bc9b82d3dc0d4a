"""Which tokens each slot (a llama.cpp seq_id) holds, and which slot a new sequence gets with which of them. Pure.

There are more slots than seats: a slot that its sequence has left keeps its tokens, so that the next turn of the same
chat, or another request with the same beginning, finds them. They lie in cells that admitted requests may need and
are given back, the slot unused for longest first, when a step needs their room.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from appliance.engine.llamacpp.prefix_cache import PrefixCache, common_prefix
from appliance.engine.llamacpp.step import SlotCopy, SlotTrim

IDLE_CELLS_WITHOUT_FLASH = 256
"""Bound for ``SlotTable.evict_idle`` with one running sequence, and so much less with more, where llama.cpp attends to
every cell in use and then masks those of others: on a processor a step of eight short sequences took 45 ms, and 60 ms
with 640 idle cells more; to save those cells outside of the cache took 0.25 ms each, once."""


@dataclass(slots=True)
class Slot:
    """A seq_id of the KV cache: the tokens whose keys and values it holds and the request that owns it."""

    index: int
    tokens: list[int] = field(default_factory=list)
    owner: str | None = None
    last_used: int = 0


class SlotTable:
    """The slots of one context of ``cells`` cells, and what has to be done to its memory before the next step.

    ``shares`` says whether the model's memory can drop a tail and give a beginning to another slot: not so for
    recurrent, hybrid and sliding-window models. Without it a slot is reused only by its own next turn, when it holds
    nothing but a prefix of the new prompt.
    """

    def __init__(self, count: int, cells: int, *, shares: bool = True) -> None:
        self.slots = [Slot(index) for index in range(count)]
        self.cells = cells
        self.shares = shares
        self.tree = PrefixCache()
        self.evictions = 0
        self.evicted_tokens = 0
        self.shared_tokens = 0
        self.before_loss: Callable[[Slot], None] = lambda _slot: None
        """Called with a slot that nobody owned and that is about to lose tokens."""
        self._memory: list[SlotTrim | SlotCopy] = []
        self._uses = 0

    @property
    def free_cells(self) -> int:
        """Cells that hold nothing."""
        return self.cells - self.tree.cells

    # -- a sequence's slot ------------------------------------------------------------------------------------------

    def held(self, prompt: list[int]) -> int:
        """How many leading tokens of ``prompt`` a new sequence would not have to compute.

        At least one is always left, because only computing a token gives logits.
        """
        if self.shares:
            return min(self.tree.longest(prompt).tokens, len(prompt) - 1)
        return max((self._whole(slot, prompt) for slot in self.slots if slot.owner is None), default=0)

    def take(self, request_id: str, prompt: list[int]) -> Slot:
        """Give a slot without owner to a request, with the longest usable prefix already in it.

        The prefix is taken over with its slot when nothing of that slot is lost by it, else shared with whoever holds
        it. Raises LookupError when every slot has an owner.
        """
        keep, source = self._source(prompt)
        if source is not None and source.owner is None and source.tokens == prompt[: len(source.tokens)]:
            return self._own(source, request_id, keep)
        slot = self._least_worth(spare=source)
        if source is None or slot is source:
            return self._own(slot, request_id, keep)
        self._own(slot, request_id, 0)
        self._share(source, slot, keep)
        return slot

    def fill(self, slot: Slot, prompt: list[int]) -> None:
        """Give an owned slot that holds nothing yet the longest prefix that another slot holds by now."""
        keep, source = self._source(prompt)
        if source is not None:
            self._share(source, slot, keep)

    def _source(self, prompt: list[int]) -> tuple[int, Slot | None]:
        if self.shares:
            match = self.tree.longest(prompt)
            keep = min(match.tokens, len(prompt) - 1)
            if keep <= 0:
                return 0, None
            # Of several that hold it best the one that holds nothing else, and of these one that nobody has.
            best = min(
                match.slots, key=lambda index: (len(self.slots[index].tokens), self.slots[index].owner or "", index)
            )
            return keep, self.slots[best]
        keep, _, source = max(
            ((self._whole(slot, prompt), -slot.index, slot) for slot in self.slots if slot.owner is None),
            key=lambda found: found[:2],
            default=(0, 0, None),
        )
        return keep, source if keep else None

    @staticmethod
    def _whole(slot: Slot, prompt: list[int]) -> int:
        held = len(slot.tokens)
        return held if held < len(prompt) and common_prefix(slot.tokens, prompt) == held else 0

    def _least_worth(self, spare: Slot | None) -> Slot:
        """The slot to lose: an empty one, one whose tokens others hold too, then the one unused for longest."""
        idle = [slot for slot in self.slots if slot.owner is None]
        if not idle:
            raise LookupError("every slot has an owner")
        return min(
            idle,
            key=lambda slot: (
                bool(slot.tokens),
                bool(self.tree.own_cells(slot.index)),
                slot is spare and len(idle) > 1,
                slot.last_used,
            ),
        )

    def _own(self, slot: Slot, request_id: str, keep: int) -> Slot:
        slot.owner = request_id
        self.touch(slot)
        if keep < len(slot.tokens):
            self.before_loss(slot)
        if keep < len(slot.tokens) or keep == 0:
            # Also for an empty slot: after a failed step the cache may hold tokens that the table forgot.
            self._trim(slot, keep)
        return slot

    def _share(self, source: Slot, target: Slot, count: int) -> None:
        self.touch(source)
        self.tree.share(source.index, target.index, count)
        target.tokens = source.tokens[:count]
        self.shared_tokens += count
        self._memory.append(SlotCopy(source.index, target.index, count))

    # -- tokens -----------------------------------------------------------------------------------------------------

    def append(self, slot: Slot, tokens: list[int]) -> None:
        """A step computed these tokens in the slot."""
        slot.tokens.extend(tokens)
        self.tree.append(slot.index, tokens)
        self.touch(slot)

    def drop_rest(self, slot: Slot) -> None:
        """The step computed more in the slot than was appended: before the next one the rest goes."""
        self._memory.append(SlotTrim(slot.index, len(slot.tokens)))

    def release(self, slot: Slot) -> None:
        """Take the slot from its owner; it keeps its tokens."""
        slot.owner = None
        self.touch(slot)

    def clear(self, slot: Slot) -> None:
        """Forget what the slot holds, here and, before the next step, in the cache."""
        self._trim(slot, 0)

    def cut(self, slot: Slot, keep: int) -> None:
        """Forget what the slot holds beyond its first ``keep`` tokens, where the memory can drop a tail."""
        if self.shares and keep < len(slot.tokens):
            self._trim(slot, keep)

    def withdraw(self, slot: Slot, keep: int) -> None:
        """What was appended beyond ``keep`` never came to be in the cache."""
        self.tree.trim(slot.index, keep)
        slot.tokens = slot.tokens[:keep]

    def forget(self, slot: Slot) -> None:
        """The runner has cleared the slot."""
        self.withdraw(slot, 0)

    def make_room(self, cells: int) -> None:
        """Give back what slots without owner hold, unused for longest first, until so many cells are free."""
        while self.free_cells < cells and self.evict_one():
            pass

    def evict_one(self) -> bool:
        """Give back one slot without owner; False when none holds anything."""
        idle = [slot for slot in self.slots if slot.owner is None and slot.tokens]
        if not idle:
            return False
        self._evict(min(idle, key=lambda slot: slot.last_used))
        return True

    def _evict(self, slot: Slot) -> None:
        self.before_loss(slot)
        self.evictions += 1
        self.evicted_tokens += self.tree.own_cells(slot.index)
        self._trim(slot, 0)

    def evict_idle(self, cells: int, may_go: Callable[[Slot], bool]) -> None:
        """Give back idle slots that ``may_go``, unused for longest first, until those that are idle hold ``cells``."""
        idle = sorted((s for s in self.slots if s.owner is None and s.tokens), key=lambda slot: slot.last_used)
        if not idle:
            return
        spare = self.tree.cells - self.tree.cells_of({slot.index for slot in self.slots if slot.owner is not None})
        for slot in idle:
            if spare <= cells:
                return
            if may_go(slot):
                held = self.tree.cells
                self._evict(slot)
                spare -= held - self.tree.cells

    def wanted(self, prompt: list[int]) -> None:
        """Somebody waits who will begin with this prompt: what he will find counts as used now."""
        _, source = self._source(prompt)
        if source is not None:
            self.touch(source)

    def touch(self, slot: Slot) -> None:
        """Mark the slot as used now."""
        self._uses += 1
        slot.last_used = self._uses

    def take_memory(self) -> list[SlotTrim | SlotCopy]:
        """What has to be done to the memory before the next step, in this order; asked for once per step."""
        memory, self._memory = self._memory, []
        return memory

    def _trim(self, slot: Slot, keep: int) -> None:
        self.tree.trim(slot.index, keep)
        slot.tokens = slot.tokens[:keep]
        self._memory.append(SlotTrim(slot.index, keep))

    # -- invariants -------------------------------------------------------------------------------------------------

    def check_integrity(self) -> None:
        """Raise AssertionError when slots, tree and cells disagree."""
        self.tree.check_integrity()
        for slot in self.slots:
            assert slot.tokens == self.tree.tokens(slot.index), "a slot and the tree hold different tokens"
        assert self.free_cells >= 0, "more tokens are held than there are cells"
