"""Where in an output its thought ends and its answer begins, by its tokens. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

HEAD_TOKENS = 2
"""So many tokens of line breaks may stand between a thought and a structured answer: R1 was trained to write them."""


class Part(StrEnum):
    """START -> THOUGHT (the output opens one) or ANSWER; THOUGHT -> HEAD (line breaks) -> ANSWER.

    One writer: ``AnswerWatch``.
    """

    START = "start"
    THOUGHT = "thought"
    HEAD = "head"
    ANSWER = "answer"


@dataclass(frozen=True, slots=True, kw_only=True)
class Marks:
    """The tokens around a thought; ``opened``: the prompt ends inside of it. ``breaks`` are the vocabulary's tokens of
    line breaks alone."""

    opened: bool
    open_tokens: tuple[int, ...]
    close_tokens: tuple[int, ...]
    breaks: frozenset[int] = frozenset()


class AnswerWatch:
    """Follows one output. A thought can only begin it; after the answer has begun a tag is ordinary text."""

    def __init__(self, marks: Marks | None) -> None:
        self.part = Part.ANSWER
        self._marks = marks
        self._matched = 0
        self._tail: tuple[int, ...] = ()
        if marks is not None:
            self.part = Part.THOUGHT if marks.opened else Part.START if marks.open_tokens else Part.ANSWER

    @property
    def beside(self) -> tuple[int, ...]:
        """Tokens that may come next beside those of the answer's structure: more of the tag that opens a thought, or
        line breaks before the answer."""
        if self._marks is None:
            return ()
        if self.part is Part.START:
            return (self._marks.open_tokens[self._matched],)
        if self.part is Part.HEAD and self._matched < HEAD_TOKENS:
            return tuple(self._marks.breaks)
        return ()

    def accept(self, token: int) -> None:
        """The output goes on with ``token``."""
        marks = self._marks
        if marks is None or self.part is Part.ANSWER:
            return
        if self.part is Part.START:
            self._matched = self._matched + 1 if token == marks.open_tokens[self._matched] else -1
            if self._matched == -1:
                self.part = Part.ANSWER
            elif self._matched == len(marks.open_tokens):
                self.part = Part.THOUGHT
        elif self.part is Part.THOUGHT:
            self._tail = (*self._tail, token)[-len(marks.close_tokens) :]
            if self._tail == marks.close_tokens:
                self.part, self._matched = Part.HEAD, 0
        elif token in self.beside:
            self._matched += 1
        else:
            self.part = Part.ANSWER
