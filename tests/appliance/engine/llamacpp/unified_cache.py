"""A unified KV cache and a model in a few lines: cells with a position, a token and the slots that see them.

The model's next token follows from everything that its sequence sees, so an answer is right only when every cell that
a slot sees holds the sequence's own token at the right position, and nothing else is seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from appliance.engine.llamacpp.step import DecodeStatus, SlotRestore, SlotSave, SlotTrim, StepPlan, StepResult
from appliance.engine.llamacpp.thought import ThoughtWatch, Verdict

BYTES_PER_TOKEN = 10
VOCABULARY = 5
END = 0


def next_token(seen: Sequence[int]) -> int:
    """What the model says after these tokens."""
    state = 7
    for token in seen:
        state = (state * 31 + token + 1) % 1_000_003
    return state % 23 % VOCABULARY


def answer(
    prompt: Sequence[int],
    max_tokens: int,
    context: int,
    watch: ThoughtWatch | None = None,
    asked_after: int | None = None,
) -> list[int]:
    """What a sequence says when it is alone in the world; it is asked for its answer after so many tokens."""
    tokens = list(prompt)
    while (room := min(max_tokens + len(prompt), context) - len(tokens)) > 0:
        if watch is not None and asked_after is not None and len(tokens) - len(prompt) >= asked_after:
            watch.ask()
        token = next_token(tokens)
        if token == END:
            break
        verdict = Verdict.TAKE if watch is None else watch.take(token, room)
        tokens += watch.land() if watch is not None and verdict is Verdict.LAND else [token]
        if verdict is Verdict.LAST:
            break
    return tokens[len(prompt) :]


@dataclass
class Cell:
    position: int
    token: int
    slots: set[int]


class UnifiedCache:
    """Runs plans. ``parts`` False is a memory that cannot drop a part of a slot."""

    def __init__(self, capacity: int, *, parts: bool = True) -> None:
        self.capacity = capacity
        self.parts = parts
        self.cells: list[Cell] = []
        self.computed = 0
        self.blocks: dict[bytes, list[tuple[int, int]]] = {}
        """Saved blocks: (position, token) of each of their cells."""

    def run(self, plan: StepPlan, *, fail: DecodeStatus | None = None) -> StepResult:
        """What the runner does, with the cells of a list; ``fail`` is what llama_decode returns instead."""
        saved = [self._save(save) for save in plan.saves]
        restored: list[bool] = []
        result = self._compute(plan, fail, restored)
        return replace(result, saved=saved, restored=restored)

    def _save(self, save: SlotSave) -> int:
        seen = self.seen(save.slot)
        assert save.end <= len(seen), "a save of what is not there"
        self.blocks[save.key] = list(enumerate(seen))[save.start : save.end]
        return (save.end - save.start) * BYTES_PER_TOKEN

    def _restore(self, restore: SlotRestore) -> bool:
        assert len(self.seen(restore.slot)) == restore.start, "a block that does not follow what the slot holds"
        block = self.blocks.get(restore.key)
        if block is None:
            return False
        assert len(block) == restore.cells
        assert len(self.cells) + len(block) <= self.capacity, "no cells for a block"
        positions = [position for position, _ in block]
        assert positions[0] <= restore.start < restore.end <= positions[-1] + 1, "a block of other positions"
        self.cells += [
            Cell(position, token, {restore.slot})
            for position, token in block
            if restore.start <= position < restore.end
        ]
        return True

    def _compute(self, plan: StepPlan, fail: DecodeStatus | None, restored: list[bool]) -> StepResult:
        if not all(self._change(change) for change in plan.memory):
            for change in plan.memory:
                self._drop(change.slot if isinstance(change, SlotTrim) else change.target, 0)
            return StepResult(DecodeStatus.TRIM_REFUSED)
        broken: set[int] = set()
        for restore in plan.restores:
            restored.append(restore.slot not in broken and self._restore(restore))
            if not restored[-1]:
                broken.add(restore.slot)
        if broken:
            return StepResult(DecodeStatus.RESTORE_FAILED)
        if fail in (DecodeStatus.ABORTED, DecodeStatus.INVALID_BATCH):
            for entry in plan.work:
                self._drop(entry.slot, 0)
        if fail is not None:
            return StepResult(fail)
        if len(self.cells) + plan.token_count > self.capacity:
            return StepResult(DecodeStatus.NO_KV_SLOT)
        sampled: list[list[tuple[int, bool]]] = []
        for entry in plan.work:
            seen = self.seen(entry.slot)
            assert len(seen) == entry.position, "a sequence does not go on where its slot ends"
            assert entry.tokens, "an entry without tokens"
            assert entry.sample or not entry.draft, "guesses behind a token whose logits nobody asks for"
            computed = [*entry.tokens, *entry.draft]
            self.cells += [Cell(entry.position + i, token, {entry.slot}) for i, token in enumerate(computed)]
            self.computed += len(computed)
            if entry.sample:
                sampled.append(self._sample([*seen, *entry.tokens], entry.draft))
        return StepResult(DecodeStatus.DONE, sampled)

    @staticmethod
    def _sample(seen: list[int], draft: list[int]) -> list[tuple[int, bool]]:
        run: list[tuple[int, bool]] = []
        for guess in [*draft, None]:
            token = next_token(seen)
            run.append((token, token == END))
            if token == END or token != guess:
                break
            seen = [*seen, token]
        return run

    def seen(self, slot: int) -> list[int]:
        """The tokens that a slot attends to, in order."""
        cells = sorted((cell for cell in self.cells if slot in cell.slots), key=lambda cell: cell.position)
        assert [cell.position for cell in cells] == list(range(len(cells))), "a slot sees two tokens at a position"
        return [cell.token for cell in cells]

    def _change(self, change: object) -> bool:
        if isinstance(change, SlotTrim):
            if not self.parts and 0 < change.keep < len(self.seen(change.slot)):
                return False
            self._drop(change.slot, change.keep)
            return True
        assert not self.seen(change.target), "a copy onto a slot that is not empty"  # type: ignore[attr-defined]
        assert len(self.seen(change.source)) >= change.tokens, "a copy of what is not there"  # type: ignore[attr-defined]
        for cell in self.cells:
            if change.source in cell.slots and cell.position < change.tokens:  # type: ignore[attr-defined]
                cell.slots.add(change.target)  # type: ignore[attr-defined]
        return True

    def _drop(self, slot: int, keep: int) -> None:
        for cell in self.cells:
            if cell.position >= keep:
                cell.slots.discard(slot)
        self.cells = [cell for cell in self.cells if cell.slots]
