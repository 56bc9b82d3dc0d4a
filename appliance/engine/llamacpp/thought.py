"""Watches what a sequence writes: where its thought begins and ends, and when it has to come to an end. Pure.

A thought is ended from outside at its budget, when it repeats itself (``loops``), or when its reader asks for the
answer. It *lands*: the token that was just drawn is dropped and the landing is written in its place, a closing
sentence and what closes the thought; the answer goes on after that. So that a thought is not cut in mid-word it lands a
little before the limit where a sentence ends, else where a word does; the limit itself is never passed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum, StrEnum, auto

from appliance.engine.llamacpp.loops import ANSWER_LIMITS, THOUGHT_LIMITS, LoopDetector

LANDING_WINDOW = 48
"""Tokens before a budget in which the end of a sentence is good enough; an eighth of a smaller budget."""

ASKED_WINDOW = 16
LOOP_WINDOW = 32
"""Tokens that a thought may go on until a sentence ends after its reader asked, or a loop was found."""

LEAST_ANSWER_TOKENS = 16
"""A thought with a budget lands early enough to leave so many for the answer."""

BLANK, STARTS_WORD, ENDS_SENTENCE, ENDS_WORD, ENDS_PARAGRAPH = 1, 2, 4, 8, 16
"""Marks of a token."""

_SPACE = b" \t\r\n"
_ENDINGS = tuple(sign.encode() for sign in (".", "!", "?", "\n", "。", "！", "？", "．", "…"))
_CLOSERS = b"\"')*]"
_THREE_BYTES = 0xE2
"""First byte of CJK and other characters that are words or part of one by themselves, and of typographic signs."""


class ThoughtEnd(StrEnum):
    """How a thought ended; ``appliance.engine.request.ThinkingEnd`` in the engine's words."""

    NATURAL = "natural"
    BUDGET = "budget"
    LOOP = "loop"
    ASKED = "asked"


class Verdict(Enum):
    """What becomes of a token: it is taken; the thought lands in its place; it is taken and is the answer's last."""

    TAKE = auto()
    LAND = auto()
    LAST = auto()


class _Part(Enum):
    """BEFORE -> THOUGHT -> ANSWER; BEFORE -> ANSWER. One writer: ``ThoughtWatch``."""

    BEFORE = auto()
    THOUGHT = auto()
    ANSWER = auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class ThoughtRules:
    """As ``appliance.engine.request.ThinkingControl``, with the most tokens of the answer."""

    opened: bool
    open_tokens: tuple[int, ...]
    close_tokens: tuple[int, ...]
    landing_tokens: tuple[int, ...]
    budget_tokens: int | None = None
    breaks_loops: bool = True
    answer_tokens: int | None = None


def word_marks(pieces: Iterable[bytes]) -> bytes:
    """A byte of marks for each token of a vocabulary, from the bytes that it adds to the text."""
    return bytes(_marks(piece) for piece in pieces)


def _marks(piece: bytes) -> int:
    if not piece:
        return 0
    marks = 0
    if not piece.strip(_SPACE):
        marks |= BLANK
    if piece[0] in _SPACE or piece[0] >= _THREE_BYTES:
        marks |= STARTS_WORD
    if piece.rstrip(b" ").rstrip(_CLOSERS).endswith(_ENDINGS):
        marks |= ENDS_SENTENCE
    if piece[-1] in _SPACE:
        marks |= ENDS_WORD
    if piece.endswith(b"\n\n"):
        marks |= ENDS_PARAGRAPH
    return marks


class ThoughtWatch:
    """One sequence. ``take`` every token that was drawn for it; after LAND, ``land``.

    ``marks`` as ``word_marks`` gives them; without them a thought ends exactly at its limits.
    """

    def __init__(self, rules: ThoughtRules, marks: bytes = b"") -> None:
        self.end: ThoughtEnd | None = None
        self.answer_looped = False
        self.thought_tokens = 0
        self.answer_tokens = 0
        self._rules = rules
        self._marks = marks
        self._part = _Part.THOUGHT if rules.opened else _Part.BEFORE
        self._matched = 0
        """Tokens of the opening or closing sequence that are there."""
        self._last = -1
        self._asked = False
        self._why = ThoughtEnd.BUDGET
        self._hurried = False
        self._limit = rules.budget_tokens
        window = min(LANDING_WINDOW, (self._limit or 0) // 8)
        self._sentence_from = (self._limit or 0) - window
        self._word_from = (self._limit or 0) - window // 4
        self._loops = LoopDetector(THOUGHT_LIMITS) if rules.breaks_loops else None

    @property
    def thinking(self) -> bool:
        """The thought has begun and not ended."""
        return self._part is _Part.THOUGHT

    def ask(self) -> None:
        """The reader wants the answer now: end the thought soon. Nothing where it has ended. Idempotent."""
        self._asked = True
        if self._part is _Part.THOUGHT:
            self._hurry(ThoughtEnd.ASKED, ASKED_WINDOW)

    def take(self, token: int, room: int) -> Verdict:
        """What becomes of ``token``; ``room`` is how many the sequence may still get, this one included."""
        if self._part is _Part.BEFORE:
            return self._before(token)
        return self._think(token, room) if self._part is _Part.THOUGHT else self._answer(token)

    def land(self) -> tuple[int, ...]:
        """End the thought from outside; the tokens to write for the model. At the beginning of a paragraph the landing
        needs no line breaks of its own."""
        self._close(self._why)
        landing = self._rules.landing_tokens
        if self._marked(self._last, ENDS_PARAGRAPH):
            breaks = next((place for place, token in enumerate(landing) if not self._marked(token, BLANK)), 0)
            return landing[breaks:]
        return landing

    def _before(self, token: int) -> Verdict:
        """The prompt opened no thought: one begins when the model opens it before anything else."""
        opening = self._rules.open_tokens
        if self._matched < len(opening) and token == opening[self._matched]:
            self._matched += 1
            if self._matched == len(opening):
                self._part, self._matched = _Part.THOUGHT, 0
                if self._asked:
                    self._hurry(ThoughtEnd.ASKED, ASKED_WINDOW)
        elif self._matched or not self._marked(token, BLANK):
            self._begin_answer()
            return self._answer(token)
        return Verdict.TAKE

    def _think(self, token: int, room: int) -> Verdict:
        closing = self._rules.close_tokens
        if token == closing[self._matched]:
            self._matched += 1
            if self._matched == len(closing):
                self._close(ThoughtEnd.NATURAL)
            return Verdict.TAKE
        self.thought_tokens += self._matched
        self._matched = 0
        if self._must_land(token, room):
            return Verdict.LAND
        if token == closing[0]:
            self._matched = 1
            return Verdict.TAKE
        self.thought_tokens += 1
        self._last = token
        if self._loops is not None and self._loops.add(token):
            self._hurry(ThoughtEnd.LOOP, LOOP_WINDOW)
        return Verdict.TAKE

    def _must_land(self, token: int, room: int) -> bool:
        landing = len(self._rules.landing_tokens)
        if self._limit is None or room <= landing:
            return False
        if self.thought_tokens >= self._limit or room <= landing + LEAST_ANSWER_TOKENS:
            return True
        if self.thought_tokens < self._sentence_from:
            return False
        if not (self._marked(token, STARTS_WORD) or self._marked(self._last, ENDS_WORD)):
            return False
        return self.thought_tokens >= self._word_from or self._marked(self._last, ENDS_SENTENCE)

    def _hurry(self, why: ThoughtEnd, window: int) -> None:
        if self._hurried:
            return
        self._hurried, self._why = True, why
        limit = self.thought_tokens + window
        self._limit = limit if self._limit is None else min(limit, self._limit)
        self._sentence_from = self.thought_tokens
        self._word_from = min(self._word_from, limit - window // 4) if self._word_from else limit - window // 4

    def _answer(self, token: int) -> Verdict:
        self.answer_tokens += 1
        if self._loops is not None and self._loops.add(token):
            self.answer_looped = True
            return Verdict.LAST
        most = self._rules.answer_tokens
        return Verdict.LAST if most is not None and self.answer_tokens >= most else Verdict.TAKE

    def _close(self, end: ThoughtEnd) -> None:
        self.end = end
        self._begin_answer()

    def _begin_answer(self) -> None:
        self._part = _Part.ANSWER
        self._loops = LoopDetector(ANSWER_LIMITS) if self._rules.breaks_loops else None

    def _marked(self, token: int, mark: int) -> bool:
        return 0 <= token < len(self._marks) and bool(self._marks[token] & mark)
