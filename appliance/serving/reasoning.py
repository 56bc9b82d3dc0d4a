"""Splits what a reasoning model writes into thought and answer while it streams."""

from __future__ import annotations

from enum import StrEnum

from appliance.serving.types import ContentDelta, ReasoningDelta

THINK_OPEN, THINK_CLOSE = "<think>", "</think>"


class _State(StrEnum):
    """Where in the output we are. One writer: ``ReasoningSplitter``.

    START (the prompt opened no thought) -> REASONING_HEAD or CONTENT;
    REASONING_HEAD (line breaks) -> REASONING -> CONTENT_HEAD (line breaks) -> CONTENT
    """

    START = "start"
    REASONING_HEAD = "reasoning_head"
    REASONING = "reasoning"
    CONTENT_HEAD = "content_head"
    CONTENT = "content"


class ReasoningSplitter:
    """Feeds on text in pieces of any size; the split does not depend on how it was cut.

    ``opened``: the rendered prompt ended with ``<think>``, as R1's template does since February 2025; a model that
    writes the tag again anyway is understood. Otherwise the thought begins when the model writes ``<think>`` first.
    ``enabled`` False passes everything on as content.

    Line breaks around a tag belong to neither part, as in DeepSeek's API. After the thought a further tag is ordinary
    text. Text is held back only while it may still be a tag or the line breaks before it.

    Tokens are counted by the state in which they arrive: those of the tags themselves count as reasoning (the token
    that completes ``</think>`` is its last one), the line breaks after ``</think>`` as content. A delta of several
    tokens is counted as a whole.
    """

    def __init__(self, *, opened: bool, enabled: bool = True) -> None:
        self._state = _State.CONTENT if not enabled else _State.REASONING_HEAD if opened else _State.START
        self._may_repeat_tag = opened
        self._saw_open = False
        self._held = ""
        self._undecided_tokens = 0
        self.reasoning_tokens = 0

    @property
    def in_reasoning(self) -> bool:
        """The thought has begun and not ended."""
        return self._state in (_State.REASONING_HEAD, _State.REASONING)

    @property
    def before_answer(self) -> bool:
        """The thought has ended and the answer has not begun: only line breaks came."""
        return self._state is _State.CONTENT_HEAD

    def feed(self, text: str, count: int = 1) -> list[ReasoningDelta | ContentDelta]:
        """What ``text`` (of ``count`` tokens) lets us pass on: at most one thought and one piece of answer."""
        was_undecided, was_reasoning = self._state is _State.START, self.in_reasoning
        self._held += text
        out: list[ReasoningDelta | ContentDelta] = []
        if self._state is _State.START:
            self._decide()
        if self._state is _State.REASONING_HEAD:
            self._trim_reasoning()
        if self._state is _State.REASONING:
            self._reason(out)
        if self._state is _State.CONTENT_HEAD:
            self._held = self._held.lstrip("\n")
            if self._held:
                self._state = _State.CONTENT
        if self._state is _State.CONTENT and self._held:
            out.append(ContentDelta(self._held))
            self._held = ""
        if was_undecided:
            self._undecided_tokens += count
            if self._saw_open:
                self.reasoning_tokens += self._undecided_tokens
        elif was_reasoning:
            self.reasoning_tokens += count
        return out

    def finish(self) -> list[ReasoningDelta | ContentDelta]:
        """What was held back, when the model has ended."""
        held, self._held = self._held, ""
        if not held:
            return []
        return [ReasoningDelta(held) if self.in_reasoning else ContentDelta(held)]

    def _decide(self) -> None:
        body = self._held.lstrip()
        if body.startswith(THINK_OPEN):
            self._saw_open = True
            self._held = body[len(THINK_OPEN) :]
            self._state = _State.REASONING_HEAD
        elif not THINK_OPEN.startswith(body):
            self._state = _State.CONTENT

    def _trim_reasoning(self) -> None:
        self._held = self._held.lstrip("\n")
        if self._may_repeat_tag:
            if self._held.startswith(THINK_OPEN):
                self._held = self._held[len(THINK_OPEN) :].lstrip("\n")
                self._may_repeat_tag = False
            elif THINK_OPEN.startswith(self._held):
                return
        if self._held:
            self._state = _State.REASONING

    def _reason(self, out: list[ReasoningDelta | ContentDelta]) -> None:
        thought, closing, rest = self._held.partition(THINK_CLOSE)
        if closing:
            self._held = rest
            self._state = _State.CONTENT_HEAD
            thought = thought.rstrip("\n")
        else:
            # Line breaks wait too: before the closing tag they belong to neither part.
            sure = thought[: len(thought) - _tag_start(thought)].rstrip("\n")
            self._held = thought[len(sure) :]
            thought = sure
        if thought:
            out.append(ReasoningDelta(thought))


def _tag_start(text: str) -> int:
    """Length of the longest end of ``text`` that may become ``</think>``."""
    for length in range(min(len(text), len(THINK_CLOSE) - 1), 0, -1):
        if THINK_CLOSE.startswith(text[-length:]):
            return length
    return 0
