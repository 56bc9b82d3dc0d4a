"""A unified KV cache and a model in a few lines: cells with a position, a token and the slots that see them.

The model's next token follows from everything that its sequence sees, so an answer is right only when every cell that
a slot sees holds the sequence's own token at the right position, and nothing else is seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from appliance.engine.llamacpp.step import DecodeStatus, SlotTrim, StepPlan, StepResult

VOCABULARY = 5
END = 0


def next_token(seen: Sequence[int]) -> int:
    """What the model says after these tokens."""
    state = 7
    for token in seen:
        state = (state * 31 + token + 1) % 1_000_003
    return state % 23 % VOCABULARY


def answer(prompt: Sequence[int], max_tokens: int, context: int) -> list[int]:
    """What a sequence says when it is alone in the world."""
    tokens = list(prompt)
    while len(tokens) - len(prompt) < max_tokens and len(tokens) < context:
        token = next_token(tokens)
        if token == END:
            break
        tokens.append(token)
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

    def run(self, plan: StepPlan, *, fail: DecodeStatus | None = None) -> StepResult:
        """What the runner does, with the cells of a list; ``fail`` is what llama_decode returns instead."""
        if not all(self._change(change) for change in plan.memory):
            for change in plan.memory:
                self._drop(change.slot if isinstance(change, SlotTrim) else change.target, 0)
            return StepResult(DecodeStatus.TRIM_REFUSED)
        if fail in (DecodeStatus.ABORTED, DecodeStatus.INVALID_BATCH):
            for entry in plan.work:
                self._drop(entry.slot, 0)
        if fail is not None:
            return StepResult(fail)
        if len(self.cells) + plan.token_count > self.capacity:
            return StepResult(DecodeStatus.NO_KV_SLOT)
        sampled = []
        for entry in plan.work:
            seen = self.seen(entry.slot)
            assert len(seen) == entry.position, "a sequence does not go on where its slot ends"
            assert entry.tokens, "an entry without tokens"
            self.cells += [Cell(entry.position + i, token, {entry.slot}) for i, token in enumerate(entry.tokens)]
            self.computed += len(entry.tokens)
            if entry.sample:
                token = next_token(self.seen(entry.slot))
                sampled.append((token, token == END))
        return StepResult(DecodeStatus.DONE, sampled)

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
