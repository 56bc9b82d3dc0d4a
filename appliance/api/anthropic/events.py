"""The events of a streamed message. Like ``openai.chunks`` hot code: what does not change is encoded once per block."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from appliance.api.anthropic.errors import anthropic_envelope
from appliance.api.anthropic.translate import Signature, message_id, to_stop_reason, to_usage
from appliance.api.sse import StreamForm, comment, queued_comment
from appliance.errors import ErrorDescription
from appliance.serving.stream import ChatStream
from appliance.serving.types import (
    ChatEvent,
    ChatFinished,
    ContentDelta,
    Queued,
    ReasoningDelta,
    ToolCallDelta,
    Usage,
)

_encode = msgspec.json.Encoder().encode


def named_event(name: str, payload: dict[str, Any] | bytes) -> bytes:
    """One event with its name before its data."""
    data = payload if isinstance(payload, bytes) else _encode(payload)
    return b"event: " + name.encode() + b"\ndata: " + data + b"\n\n"


PING = named_event("ping", {"type": "ping"})
MESSAGE_EVENTS = StreamForm(media_type="text/event-stream", comment=comment, keep_alive=PING)


class MessageWriter:
    """Writes one message: ``message_start``, its blocks one after the other, ``message_delta``, ``message_stop``.

    Satisfies ``exchange.AnswerWriter``. How much of the prompt was cached is known at the end alone:
    ``message_start`` counts the whole prompt as input, ``message_delta`` has it divided. With ``omits_thought`` the
    block of the thought has no text.
    """

    form = MESSAGE_EVENTS

    def __init__(self, *, omits_thought: bool) -> None:
        self._omits_thought = omits_thought
        self._index = -1
        self._open: str | int | None = None
        """The kind of the open block, or the index of the call that it is."""
        self._signature = Signature()
        self._delta = b""

    def begin(self, stream: ChatStream) -> Iterator[bytes]:
        yield self._start(stream)
        yield PING

    def write(self, event: ChatEvent) -> Iterator[bytes]:
        """Raises the error that ended the answer."""
        match event:
            case ContentDelta():
                yield from self._into("text", {"type": "text", "text": ""}, "text_delta", "text")
                yield self._piece(event.text)
            case ReasoningDelta():
                thought = {"type": "thinking", "thinking": "", "signature": ""}
                yield from self._into("thinking", thought, "thinking_delta", "thinking")
                self._signature.add(event.text)
                if not self._omits_thought:
                    yield self._piece(event.text)
            case ToolCallDelta():
                call = {"type": "tool_use", "id": event.id or "", "name": event.name or "", "input": {}}
                yield from self._into(event.index, call, "input_json_delta", "partial_json")
                if event.arguments:
                    yield self._piece(event.arguments)
            case ChatFinished():
                yield from self._end(event)

    def queued(self, queued: Queued) -> bytes:
        return queued_comment(queued.position, queued.wait_s)

    def failed(self, error: ErrorDescription) -> bytes:
        return named_event("error", anthropic_envelope(error))

    def _start(self, stream: ChatStream) -> bytes:
        usage = to_usage(Usage(prompt_tokens=stream.prompt_tokens)).model_dump(exclude_none=True)
        message: dict[str, Any] = {
            "id": message_id(stream.request_id),
            "type": "message",
            "role": "assistant",
            "model": stream.model_id,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": usage,
        }
        return named_event("message_start", {"type": "message_start", "message": message})

    def _into(self, kind: str | int, block: dict[str, Any], delta: str, field: str) -> Iterator[bytes]:
        """Begin the block unless it is the open one."""
        if self._open == kind and type(self._open) is type(kind):
            return
        yield from self._close()
        self._open = kind
        self._index += 1
        yield named_event(
            "content_block_start", {"type": "content_block_start", "index": self._index, "content_block": block}
        )
        self._delta = (
            b'event: content_block_delta\ndata: {"type":"content_block_delta","index":%d,"delta":{"type":"%s","%s":'
            % (self._index, delta.encode(), field.encode())
        )

    def _piece(self, text: str) -> bytes:
        return self._delta + _encode(text) + b"}}\n\n"

    def _close(self) -> Iterator[bytes]:
        if self._open is None:
            return
        if self._open == "thinking":
            signature = {"type": "signature_delta", "signature": self._signature.text()}
            self._signature = Signature()
            yield named_event(
                "content_block_delta", {"type": "content_block_delta", "index": self._index, "delta": signature}
            )
        self._open = None
        yield named_event("content_block_stop", {"type": "content_block_stop", "index": self._index})

    def _end(self, finished: ChatFinished) -> Iterator[bytes]:
        reason = to_stop_reason(finished)
        if self._index < 0:
            # Clients read the first block's text; an answer without any has an empty one.
            yield from self._into("text", {"type": "text", "text": ""}, "text_delta", "text")
        yield from self._close()
        stop_sequence = finished.stop_string if reason == "stop_sequence" else None
        yield named_event(
            "message_delta",
            {
                "type": "message_delta",
                "delta": {"stop_reason": reason, "stop_sequence": stop_sequence},
                "usage": to_usage(finished.usage).model_dump(exclude_none=True),
            },
        )
        yield named_event("message_stop", {"type": "message_stop"})
