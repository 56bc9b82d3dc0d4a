"""What became of thoughts, by model and quantization: a quantization that is too coarse shows here first."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from appliance.engine.request import ThinkingEnd
from appliance.serving.types import ChatFinished, ServedModel

UNFINISHED = "unfinished"
"""The end of a thought that was still going on when its request ended."""


@dataclass(slots=True)
class ThoughtTotals:
    """Since the daemon started. ``ends`` counts thoughts by how they ended (``ThinkingEnd`` or ``UNFINISHED``)."""

    ends: Counter[str] = field(default_factory=Counter)
    thinking_tokens: int = 0
    answers_looped: int = 0

    @property
    def loops_broken(self) -> int:
        """Thoughts and answers that went in circles and were ended."""
        return self.ends[ThinkingEnd.LOOP] + self.answers_looped

    @property
    def landings(self) -> int:
        """Thoughts that were ended from outside."""
        return sum(self.ends[end] for end in (ThinkingEnd.BUDGET, ThinkingEnd.LOOP, ThinkingEnd.ASKED))


class ThoughtCounts:
    """Counts endings. One writer: the event loop."""

    def __init__(self) -> None:
        self.by_model: dict[tuple[str, str], ThoughtTotals] = {}
        """By (model id, quantization); the quantization is empty where it is not known."""

    def add(self, model: ServedModel, finished: ChatFinished) -> None:
        """One request of the model has ended."""
        totals = self.by_model.setdefault((model.id, model.quantization or ""), ThoughtTotals())
        if finished.thinking_end is not None:
            totals.ends[finished.thinking_end] += 1
        elif finished.reasoning_open and finished.usage.reasoning_tokens:
            totals.ends[UNFINISHED] += 1
        totals.thinking_tokens += finished.usage.reasoning_tokens
        totals.answers_looped += finished.answer_looped
