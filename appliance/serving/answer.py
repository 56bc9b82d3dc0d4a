"""What a model writes as the parts of an answer: thought, text, tool calls. Values in, values out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from appliance.engine.request import TokenDelta
from appliance.serving.alignment import TokenAligner
from appliance.serving.reasoning import ReasoningSplitter
from appliance.serving.stop import StopFilter
from appliance.serving.tools.plan import ToolPlan
from appliance.serving.tools.splitter import ToolCallSplitter, splitter_for
from appliance.serving.types import ContentDelta, ReasoningDelta, ToolCallDelta, ToolCallDropped

AnswerPart = ReasoningDelta | ContentDelta | ToolCallDelta | ToolCallDropped


class AnswerReader:
    """The way of an answer's text: 1. the thought is set apart, 2. calls are told from text, 3. the text ends at a stop
    string. Neither thought nor calls do.

    Log probabilities come with the text that they are of; those of thoughts, of calls and of what belongs to no part
    (tags, line breaks after a thought, the stop string) are left out.
    """

    def __init__(
        self, *, splits_reasoning: bool, opens_reasoning: bool, stop: tuple[str, ...], tools: ToolPlan
    ) -> None:
        self._thought = ReasoningSplitter(opened=opens_reasoning, enabled=splits_reasoning)
        self._stop = StopFilter(stop)
        self._calls: ToolCallSplitter | None = None
        if tools.offered:
            self._calls = splitter_for(tools.format, tools.names, only_one=tools.only_one)
        self._tokens = TokenAligner()
        self._answer_start = 0

    @property
    def in_reasoning(self) -> bool:
        """The thought has begun and not ended."""
        return self._thought.in_reasoning

    @property
    def reasoning_tokens(self) -> int:
        return self._thought.reasoning_tokens

    @property
    def stop_string(self) -> str | None:
        """The stop string that was met."""
        return self._stop.stop_string

    @property
    def tool_calls(self) -> int:
        """Whole calls so far."""
        return 0 if self._calls is None else self._calls.completed

    @property
    def over(self) -> bool:
        """Nothing that follows is wanted: a stop string was met, or the one call that is allowed is there."""
        return self._stop.stop_string is not None or (self._calls is not None and self._calls.satisfied)

    def feed(self, delta: TokenDelta) -> Iterator[AnswerPart]:
        """What the tokens let us pass on."""
        self._tokens.add(delta.text, delta.logprobs)
        parts = self._thought.feed(delta.text, delta.count)
        if self._thought.in_reasoning:
            self._tokens.forget()
        yield from self._split(parts)

    def finish(self) -> Iterator[AnswerPart]:
        """What was held back, when the model has ended."""
        yield from self._split(self._thought.finish())
        if self._calls is not None:
            yield from self._parts(self._calls.finish())
        if rest := self._stop.finish():
            yield self._content(rest)

    def _split(self, parts: Iterable[ReasoningDelta | ContentDelta]) -> Iterator[AnswerPart]:
        for part in parts:
            if isinstance(part, ReasoningDelta):
                yield part
            else:
                yield from self._text(part.text)

    def _text(self, text: str) -> Iterator[AnswerPart]:
        """Text after the thought: the last characters that came, whatever was held back before."""
        start = self._tokens.position - len(text)
        if self._calls is None:
            yield from self._say(text, start)
            return
        if self._calls.position == 0:
            self._answer_start = start
        yield from self._parts(self._calls.feed(text))

    def _parts(self, parts: Iterable[ContentDelta | ToolCallDelta | ToolCallDropped]) -> Iterator[AnswerPart]:
        assert self._calls is not None
        places = iter(self._calls.take_places())
        for part in parts:
            if isinstance(part, ContentDelta):
                yield from self._say(part.text, self._answer_start + next(places))
            elif self._stop.stop_string is None:
                if rest := self._stop.finish():  # the text before a call is over
                    yield self._content(rest)
                yield part

    def _say(self, text: str, start: int) -> Iterator[ContentDelta]:
        self._tokens.expect(start, len(text))
        if said := self._stop.feed(text):
            yield self._content(said)

    def _content(self, text: str) -> ContentDelta:
        return ContentDelta(text, self._tokens.pass_on(len(text)))
