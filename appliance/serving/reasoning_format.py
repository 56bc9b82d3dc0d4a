"""Where a client wants the thought: as it comes, written into the answer, or left out."""

from __future__ import annotations

from appliance.serving.reasoning import THINK_CLOSE, THINK_OPEN
from appliance.serving.types import (
    ChatEvent,
    ChatFinished,
    ContentDelta,
    ReasoningDelta,
    ReasoningFormat,
    ToolCallDelta,
)


class ReasoningShaper:
    """Makes of a stream's events those that the client is to see. One object per stream.

    ``inline`` writes ``<think>\\n...\\n</think>\\n\\n`` before the answer, as R1 does; a thought that was not finished
    stays open, and without a thought there is no tag. Other names than ``hidden`` and ``inline`` change nothing here:
    a field's name is the protocol's matter.
    """

    def __init__(self, reasoning_format: ReasoningFormat) -> None:
        self._format = reasoning_format
        self._inside = False

    def shape(self, event: ChatEvent) -> list[ChatEvent]:
        """The events in place of ``event``."""
        if self._format is ReasoningFormat.HIDDEN:
            return [] if isinstance(event, ReasoningDelta) else [event]
        if self._format is not ReasoningFormat.INLINE:
            return [event]
        if isinstance(event, ReasoningDelta):
            opening = "" if self._inside else f"{THINK_OPEN}\n"
            self._inside = True
            return [ContentDelta(opening + event.text)]
        if isinstance(event, ContentDelta) and self._inside:
            self._inside = False
            return [ContentDelta(f"\n{THINK_CLOSE}\n\n{event.text}", event.logprobs)]
        if isinstance(event, ToolCallDelta) and self._inside:
            self._inside = False
            return [ContentDelta(f"\n{THINK_CLOSE}\n\n"), event]
        if isinstance(event, ChatFinished) and self._inside:
            self._inside = False
            return [event] if event.reasoning_open else [ContentDelta(f"\n{THINK_CLOSE}\n\n"), event]
        return [event]
