"""What was asked and answered, as text, for boxes that keep it (``store_prompts``)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict

from appliance.serving.types import ChatEvent, ChatMessage, ContentDelta, ReasoningDelta, ToolCallDelta

MOST_CHARS = 65_536
"""Of the question and of the answer; what is longer is cut."""


def asked_text(messages: Sequence[ChatMessage]) -> str:
    """A conversation as JSON, one message a line, without what is not there."""
    rows = ({name: value for name, value in asdict(one).items() if value is not None} for one in messages)
    return "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)


class Transcript:
    """An answer as it is written: the thought in ``<think>``, calls as JSON."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._chars = 0
        self._in_thought = False

    def add(self, event: ChatEvent) -> None:
        """Something of the answer; other events are passed over."""
        if isinstance(event, ReasoningDelta):
            self._put(event.text if self._in_thought else f"<think>{event.text}")
            self._in_thought = True
        elif isinstance(event, ContentDelta | ToolCallDelta):
            if self._in_thought:
                self._put("</think>")
                self._in_thought = False
            if isinstance(event, ContentDelta):
                self._put(event.text)
            else:
                self._put((f"\n[{event.name}] " if event.name else "") + event.arguments)

    @property
    def text(self) -> str:
        """All of it so far, one character more than ``MOST_CHARS`` at most."""
        return "".join(self._parts)[: MOST_CHARS + 1]

    def _put(self, text: str) -> None:
        if self._chars <= MOST_CHARS:
            self._parts.append(text)
            self._chars += len(text)
