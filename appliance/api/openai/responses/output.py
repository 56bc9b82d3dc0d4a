"""The output of a response while it is made: its items, and the events that tell of them."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from typing import Any

from appliance.api.openai.responses.items import seal
from appliance.api.openai.translate import to_logprobs
from appliance.engine.request import TokenLogprob
from appliance.serving.types import ChatEvent, ContentDelta, ReasoningDelta, ToolCallDelta, ToolCallDropped

Event = dict[str, Any]
"""An event of a stream, without its ``sequence_number``."""


class OutputWriter:
    """Makes items of the parts of an answer. ``items`` is the output so far; those that are done do not change.

    Thought, words and each call are an item each, in the order in which the model writes them. ``seals`` adds
    ``encrypted_content`` to thoughts, ``with_logprobs`` log probabilities to words.
    """

    def __init__(self, *, seals: bool = False, with_logprobs: bool = False) -> None:
        self.items: list[dict[str, Any]] = []
        self._seals = seals
        self._with_logprobs = with_logprobs
        self._open: dict[str, Any] | None = None
        self._texts: list[str] = []
        self._logprobs: list[dict[str, Any]] = []

    def add(self, event: ChatEvent) -> Iterator[Event]:
        """The events that tell of it."""
        match event:
            case ReasoningDelta():
                yield from self._begin("reasoning")
                self._texts.append(event.text)
                yield self._event("response.reasoning_text.delta", content_index=0, delta=event.text)
            case ContentDelta():
                yield from self._begin("message")
                self._texts.append(event.text)
                logprobs = self._told(event.logprobs)
                self._logprobs += logprobs
                yield self._event("response.output_text.delta", content_index=0, delta=event.text, logprobs=logprobs)
            case ToolCallDelta():
                if event.name is not None:
                    yield from self.close()
                    yield from self._begin("function_call", call_id=event.id, name=event.name, arguments="")
                if event.arguments:
                    self._texts.append(event.arguments)
                    yield self._event("response.function_call_arguments.delta", delta=event.arguments)
            case ToolCallDropped():
                yield from self.close("incomplete")

    def close(self, status: str = "completed") -> Iterator[Event]:
        """End the item that is being written."""
        item = self._open
        if item is None:
            return
        text, self._texts = "".join(self._texts), []
        item["status"] = status
        match item["type"]:
            case "function_call":
                item["arguments"] = text
                yield self._event("response.function_call_arguments.done", arguments=text, name=item["name"])
            case "reasoning":
                part = {"type": "reasoning_text", "text": text}
                item["content"] = [part]
                if self._seals:
                    item["encrypted_content"] = seal(text)
                yield self._event("response.reasoning_text.done", content_index=0, text=text)
                yield self._event("response.content_part.done", content_index=0, part=part)
            case _:
                logprobs, self._logprobs = self._logprobs, []
                part = _text_part(text, logprobs)
                item["content"] = [part]
                yield self._event("response.output_text.done", content_index=0, text=text, logprobs=logprobs)
                yield self._event("response.content_part.done", content_index=0, part=part)
        yield {"type": "response.output_item.done", "output_index": len(self.items) - 1, "item": dict(item)}
        self._open = None

    def _begin(self, kind: str, **fields: Any) -> Iterator[Event]:
        """Begin an item, unless one of this kind is being written."""
        if self._open is not None and self._open["type"] == kind:
            return
        yield from self.close()
        item = {"id": _ITEM_IDS[kind] + secrets.token_hex(12), "type": kind, "status": "in_progress", **fields}
        if kind == "message":
            item |= {"role": "assistant", "content": []}
        elif kind == "reasoning":
            item |= {"summary": [], "content": []}
        self._open = item
        self.items.append(item)
        yield {"type": "response.output_item.added", "output_index": len(self.items) - 1, "item": dict(item)}
        if kind == "message":
            yield self._event("response.content_part.added", content_index=0, part=_text_part("", []))
        elif kind == "reasoning":
            part = {"type": "reasoning_text", "text": ""}
            yield self._event("response.content_part.added", content_index=0, part=part)

    def _event(self, kind: str, **fields: Any) -> Event:
        assert self._open is not None
        return {"type": kind, "item_id": self._open["id"], "output_index": len(self.items) - 1, **fields}

    def _told(self, logprobs: Sequence[TokenLogprob]) -> list[dict[str, Any]]:
        if not self._with_logprobs:
            return []
        return [one.model_dump() for one in to_logprobs(logprobs).content]


_ITEM_IDS = {"reasoning": "rs_", "message": "msg_", "function_call": "fc_"}


def _text_part(text: str, logprobs: list[dict[str, Any]]) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": logprobs}
