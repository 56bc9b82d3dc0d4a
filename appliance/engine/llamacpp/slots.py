"""Which tokens each slot (a llama.cpp seq_id) holds, and which slot a new sequence should take. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class Slot:
    """A seq_id of the KV cache: the tokens whose keys and values it holds and the request that owns it."""

    index: int
    tokens: list[int] = field(default_factory=list)
    owner: str | None = None
    last_used: int = 0


def common_prefix(a: list[int], b: list[int]) -> int:
    """Length of the longest common prefix. Compares whole lists first: in a running chat that is the usual case."""
    shortest = min(len(a), len(b))
    if a[:shortest] == b[:shortest]:
        return shortest
    low, high = 0, shortest
    while low < high:
        middle = (low + high + 1) // 2
        if a[:middle] == b[:middle]:
            low = middle
        else:
            high = middle - 1
    return low


class SlotTable:
    """The slots of one context.

    A slot that its sequence has left keeps its tokens, so that the next turn of the same chat finds its prefix
    there. ``partial_clear`` says whether the model's memory can drop a tail (not so for recurrent models): without
    it a slot is reused only when it holds nothing but a prefix of the new prompt.
    """

    def __init__(self, count: int, *, partial_clear: bool = True) -> None:
        self.slots = [Slot(index) for index in range(count)]
        self.partial_clear = partial_clear
        self._clock = 0

    def take(self, request_id: str, prompt: list[int]) -> tuple[Slot, int] | None:
        """Give a free slot to a request: (slot, number of its leading tokens that are reused), or None if all are busy.

        The slot with the longest usable prefix wins; with none, an empty one, then the one unused for longest, so
        that other chats keep their caches. At least one token of the prompt is always left to compute, because
        only computing a token gives logits.
        """
        best: Slot | None = None
        best_key: tuple[int, bool, int] | None = None
        best_keep = 0
        for slot in self.slots:
            if slot.owner is not None:
                continue
            keep = min(common_prefix(slot.tokens, prompt), len(prompt) - 1)
            if not self.partial_clear and keep < len(slot.tokens):
                keep = 0
            key = (keep, not slot.tokens, -slot.last_used)
            if best_key is None or key > best_key:
                best, best_key, best_keep = slot, key, keep
        if best is None:
            return None
        best.owner = request_id
        self.touch(best)
        return best, best_keep

    def release(self, slot: Slot, *, clear: bool = False) -> None:
        """Take the slot from its owner; ``clear`` forgets its tokens (the caller has the KV cache cleared too)."""
        slot.owner = None
        self.touch(slot)
        if clear:
            slot.tokens = []

    def touch(self, slot: Slot) -> None:
        """Mark the slot as used now."""
        self._clock += 1
        slot.last_used = self._clock

    def free_count(self) -> int:
        """Slots without an owner."""
        return sum(slot.owner is None for slot in self.slots)
