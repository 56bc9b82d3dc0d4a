"""An answer put together from its events, for clients that do not stream."""

from __future__ import annotations

from dataclasses import dataclass, field

from appliance.engine.request import TokenLogprob
from appliance.serving.types import (
    ChatEvent,
    ChatFinished,
    ContentDelta,
    ReasoningDelta,
    ToolCall,
    ToolCallDelta,
    ToolCallDropped,
)


@dataclass(slots=True)
class _Call:
    id: str
    name: str
    arguments: list[str] = field(default_factory=list)


@dataclass(slots=True)
class WholeAnswer:
    """Feed it every event with ``add``. A dropped call's text is part of the content, where it stood."""

    finished: ChatFinished | None = None
    logprobs: list[TokenLogprob] = field(default_factory=list)
    _content: list[str] = field(default_factory=list)
    _reasoning: list[str] = field(default_factory=list)
    _calls: dict[int, _Call] = field(default_factory=dict)

    def add(self, event: ChatEvent) -> None:
        match event:
            case ContentDelta():
                self._content.append(event.text)
                self.logprobs += event.logprobs
            case ReasoningDelta():
                self._reasoning.append(event.text)
            case ToolCallDelta():
                call = self._calls.setdefault(event.index, _Call(event.id or "", event.name or ""))
                call.arguments.append(event.arguments)
            case ToolCallDropped():
                self._calls.pop(event.index, None)
                self._content.append(event.text)
            case ChatFinished():
                self.finished = event

    @property
    def content(self) -> str:
        return "".join(self._content)

    @property
    def reasoning(self) -> str | None:
        """The thought, None when there was none."""
        return "".join(self._reasoning) or None

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        return tuple(ToolCall(call.id, call.name, "".join(call.arguments)) for call in self._calls.values())

    @property
    def ending(self) -> ChatFinished:
        """The ending; every stream that is read to its end has one."""
        assert self.finished is not None, "the stream was not read to its end"
        return self.finished
