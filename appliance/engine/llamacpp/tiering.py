"""Moves chats between the KV cache and what is kept outside of it (``tier_index``), a little in each step. Pure.

*Saving*: what a sequence leaves behind in its slot is saved block by block, as many bytes in a step as fit a few
milliseconds; when a slot is about to be given back before that, its next blocks are saved at once. *Taking over*: a
new sequence whose prompt is kept further than any slot holds it takes the blocks over instead of computing them, when
that is quicker by what was measured. Until it has them it computes nothing; others go on.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from appliance.engine.llamacpp.pace import Average, Pace
from appliance.engine.llamacpp.sequence import Sequence
from appliance.engine.llamacpp.slots import Slot, SlotTable
from appliance.engine.llamacpp.step import SlotRestore, SlotSave, StepPlan, StepResult
from appliance.engine.llamacpp.tier_blocks import Block, TierLimits, TierWork, block_key
from appliance.engine.llamacpp.tier_index import MOST_CHECKED, TierIndex

WORTH_TOKENS = 32
"""Fewer tokens are computed, not saved or taken over."""

SMALLEST_END_TOKENS = 8
"""A chat's end of fewer tokens is not saved."""

SAVE_BESIDE_DECODE_S = 0.004
SAVE_ALONE_S = 0.05
TAKE_BESIDE_DECODE_S = 0.02
TAKE_ALONE_S = 0.25
"""What moving blocks may add to a step; one block is moved in any case."""

RESCUED_BLOCKS = 4
"""Of a slot that is lost before it was saved so many blocks are saved at once."""

READ_AHEAD_BLOCKS = 8
"""So many blocks of a sequence are read from the disk ahead of their turn."""

USUAL_MEMORY_S_PER_BYTE = 1 / 2e9
USUAL_DISK_S_PER_BYTE = 1 / 3e8
"""Until something was measured."""


@dataclass(slots=True)
class _Saving:
    """How far a slot is saved: up to ``position``, where the block named ``parent`` ends."""

    slot: Slot
    position: int = 0
    parent: bytes = b""


class Tiering:
    """What the scheduler asks about tiers. Off, it answers that there is nothing."""

    def __init__(self, limits: TierLimits, slots: SlotTable, pace: Pace, seat_context: int) -> None:
        self.index = TierIndex(limits)
        self.hits = self.hit_tokens = self.restored_bytes = self.failures = 0
        self._slots = slots
        self._pace = pace
        self._seat_context = seat_context
        self._saving: dict[int, _Saving] = {}
        self._taking: list[tuple[SlotRestore, Sequence, Block]] = []
        self._rescued: list[SlotSave] = []
        self._planned: dict[bytes, tuple[bytes, list[int]]] = {}
        self._save_rate = Average(USUAL_MEMORY_S_PER_BYTE)
        self._take_rate = Average(USUAL_MEMORY_S_PER_BYTE)
        self._read_rate = Average(USUAL_DISK_S_PER_BYTE)
        slots.before_loss = self.rescue

    @property
    def enabled(self) -> bool:
        """Whether anything may be kept."""
        return self.index.memory_bound_bytes > 0 and self._slots.shares

    @property
    def has_work(self) -> bool:
        """Whether idle slots wait to be saved."""
        return bool(self._saving)

    # -- saving -----------------------------------------------------------------------------------------------------

    def is_saved(self, slot: Slot) -> bool:
        """Whether what a slot without owner holds is kept outside, as far as it is worth it."""
        return slot.index not in self._saving

    def left(self, slot: Slot) -> None:
        """A sequence has left the slot: what it holds is saved in the next steps."""
        if self.enabled and len(slot.tokens) >= WORTH_TOKENS:
            self._saving[slot.index] = _Saving(slot)

    def taken(self, slot: Slot) -> None:
        """A sequence has the slot now: what it adds is saved when it leaves."""
        self._saving.pop(slot.index, None)

    def rescue(self, slot: Slot) -> None:
        """The slot is about to lose its tokens: save the next blocks of it first."""
        saving = self._saving.pop(slot.index, None)
        if saving is None:
            return
        for _ in range(RESCUED_BLOCKS):
            save = self._next(saving)
            if save is None:
                return
            self._rescued.append(save)

    def plan_saves(self, *, beside_decode: bool) -> list[SlotSave]:
        """What this step saves, before anything else changes the memory."""
        saves, self._rescued = self._rescued, []
        left_s = SAVE_BESIDE_DECODE_S if beside_decode else SAVE_ALONE_S
        left_s -= sum(self._save_s(save) for save in saves)
        for saving in list(self._saving.values()):
            while left_s > 0:
                save = self._next(saving)
                if save is None:
                    del self._saving[saving.slot.index]
                    break
                saves.append(save)
                left_s -= self._save_s(save)
        return saves

    def _next(self, saving: _Saving) -> SlotSave | None:
        """The slot's next block that is neither kept nor planned, None when there is none."""
        tokens = saving.slot.tokens
        while True:
            saving.parent, start = self.index.next_missing(saving.parent, tokens, saving.position)
            wanted = tokens[start : start + self.index.block_tokens]
            if len(wanted) < SMALLEST_END_TOKENS:
                return None
            key = block_key(saving.parent, wanted)
            known = key in self._planned
            self._planned[key] = (saving.parent, wanted)
            saving.parent, saving.position = key, start + len(wanted)
            if not known:
                return SlotSave(saving.slot.index, start, saving.position, key)

    def _save_s(self, save: SlotSave) -> float:
        assert self._save_rate.value is not None
        return (save.end - save.start) * self.index.bytes_per_token * self._save_rate.value

    # -- taking over ------------------------------------------------------------------------------------------------

    def kept(self, sequence: Sequence) -> int:
        """How many leading tokens of the sequence are kept."""
        return self.index.longest(sequence.tokens, len(sequence.tokens) - 1).tokens if self.enabled else 0

    def begin(self, sequence: Sequence) -> None:
        """Let a sequence that has just got its slot take over what is kept, when that is worth it."""
        if not self.enabled or sequence.blocks:
            return
        most = len(sequence.tokens) - 1
        if most - sequence.computed < WORTH_TOKENS:
            return
        kept = self.index.longest(sequence.tokens, most)
        gain = kept.tokens - sequence.computed
        blocks = [block for block in kept.blocks if block.end > sequence.computed]
        if gain < WORTH_TOKENS or any(block.end > self._seat_context for block in blocks):
            return
        if not self._is_quicker(blocks, gain):
            return
        for block in blocks:
            self.index.pin(block)
        sequence.blocks, sequence.kept = blocks, kept.tokens

    def _is_quicker(self, blocks: list[Block], gain: int) -> bool:
        compute_s = self._pace.prompt_s(gain)
        if compute_s is None:
            return True
        assert self._take_rate.value is not None
        assert self._read_rate.value is not None
        cost_s = sum(
            block.size_bytes * (self._take_rate.value + (0.0 if block.in_memory else self._read_rate.value))
            for block in blocks
        )
        return cost_s < compute_s

    def plan_restores(self, sequences: Iterable[Sequence], *, beside_decode: bool) -> list[SlotRestore]:
        """Which blocks sequences take over in this step, one after the other of each, as far as its time goes; what
        lies on disk is asked for. ``take_over`` follows when there is room for them."""
        restores: list[SlotRestore] = []
        left_s = TAKE_BESIDE_DECODE_S if beside_decode else TAKE_ALONE_S
        assert self._take_rate.value is not None
        waiting = [sequence for sequence in sequences if sequence.blocks]
        for sequence in sorted(waiting, key=lambda one: (one.priority, one.turn)):
            for block in sequence.blocks[:READ_AHEAD_BLOCKS]:
                self.index.read(block)
            assert sequence.slot is not None
            start = sequence.computed
            for block in sequence.blocks:
                if left_s <= 0 or not block.in_memory:
                    break
                left_s -= block.size_bytes * self._take_rate.value
                end = min(block.end, sequence.kept)
                name, slot, cells = sequence.request_id, sequence.slot, len(block.tokens)
                restores.append(SlotRestore(name, slot, start, end, block.key, cells))
                start = end
        return restores

    def take_over(self, restores: Iterable[SlotRestore], sequences: dict[str, Sequence]) -> None:
        """The step begins with these: what is computed in it may stand behind them."""
        for restore in restores:
            sequence = sequences[restore.request_id]
            self._taking.append((restore, sequence, sequence.blocks.pop(0)))
            self._slots.append(self._slots.slots[restore.slot], sequence.tokens[restore.start : restore.end])
            sequence.computed = restore.end
            if sequence.generated == 0:
                sequence.cached = restore.end

    def blocked(self, sequence: Sequence) -> bool:
        """Whether it waits for the disk: no step moves it on."""
        return bool(sequence.blocks) and not sequence.blocks[0].in_memory

    def leave(self, sequence: Sequence) -> None:
        """The sequence takes nothing more over."""
        for block in sequence.blocks:
            self.index.unpin(block)
        sequence.blocks = []

    # -- results ----------------------------------------------------------------------------------------------------

    def update(self, plan: StepPlan, result: StepResult) -> None:
        """Take what was saved and taken over, whatever became of the rest of the step."""
        for save, size_bytes in zip(plan.saves, result.saved, strict=False):
            if size_bytes:
                self.index.keep(*self._planned[save.key], size_bytes)
        self._planned.clear()
        tried = len(result.restored)
        for number, (restore, sequence, block) in enumerate(self._taking):
            self.index.unpin(block)
            if number < tried and result.restored[number]:
                self.hit_tokens += restore.end - restore.start
                self.restored_bytes += block.size_bytes
                self.hits += restore.end == sequence.kept
            elif restore.start < sequence.computed:
                # The first of the sequence that is not there; the others after it go with it.
                self._give_up(restore, sequence)
                if number < tried:
                    self.failures += 1
                    self.index.discard(block)
        self._taking.clear()
        self._learn(self._save_rate, sum(result.saved), result.save_s)
        moved = [r for r, good in zip(plan.restores, result.restored, strict=False) if good]
        self._learn(self._take_rate, sum(r.cells for r in moved) * self.index.bytes_per_token, result.restore_s)

    def _give_up(self, restore: SlotRestore, sequence: Sequence) -> None:
        """The sequence does not have what begins with ``restore``, and computes it."""
        self._slots.withdraw(self._slots.slots[restore.slot], restore.start)
        sequence.computed = restore.start
        if sequence.generated == 0:
            sequence.cached = restore.start
        self.leave(sequence)

    @staticmethod
    def _learn(rate: Average, size_bytes: float, seconds: float) -> None:
        if size_bytes > 0 and seconds > 0:
            rate.add(seconds / size_bytes)

    def was_read(self, key: bytes, seconds: float, sequences: Iterable[Sequence], *, good: bool) -> bool:
        """A block was read from the disk. False when its bytes are of no use."""
        block = self.index.get(key)
        if not good:
            self.failures += 1
            for sequence in sequences:
                if block in sequence.blocks:
                    self._cut(sequence, block)
        if good and block is not None:
            self._learn(self._read_rate, block.size_bytes, seconds)
        return self.index.was_read(key, good=good)

    def _cut(self, sequence: Sequence, block: Block) -> None:
        """The sequence takes over what comes before ``block``, and computes the rest."""
        place = sequence.blocks.index(block)
        for lost in sequence.blocks[place:]:
            self.index.unpin(lost)
        del sequence.blocks[place:]
        sequence.kept = block.start

    def take_work(self) -> TierWork:
        """What the worker has to do with blocks outside of the KV cache."""
        return self.index.take_work()

    def stop(self) -> None:
        """The memory cannot give parts of a sequence: nothing is kept any more."""
        self._saving.clear()
        self._rescued.clear()
        self.index.clear()

    def check_integrity(self, sequences: Iterable[Sequence]) -> None:
        """Raise AssertionError when blocks and sequences disagree."""
        self.index.check_integrity()
        wanted: dict[bytes, int] = {}
        for sequence in sequences:
            for block in sequence.blocks:
                wanted[block.key] = wanted.get(block.key, 0) + 1
            if sequence.blocks:
                first, last = sequence.blocks[0], sequence.blocks[-1]
                assert first.start <= sequence.computed < first.end, "a sequence waits for a block that it is past"
                assert last.start < sequence.kept <= last.end, "a sequence waits for more than its blocks hold"
                assert sequence.kept < len(sequence.tokens), "nothing would be left to compute"
        if len(self.index) <= MOST_CHECKED:
            pins = {block.key: block.pins for block in self.index.all() if block.pins}
            assert pins == wanted, "pins and waiting sequences disagree"
        for saving in self._saving.values():
            assert saving.slot.owner is None, "a slot that is being saved has an owner"
