"""The lines of a streamed answer, and its whole form. Like ``openai.chunks`` hot code: of a line only the time and the
text are encoded anew."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import msgspec

from appliance.api.exchange import to_changed
from appliance.api.ollama.errors import ollama_envelope
from appliance.api.ollama.translate import to_arguments, to_done_reason, to_logprobs
from appliance.api.sse import StreamForm
from appliance.engine.request import TokenLogprob
from appliance.errors import ErrorDescription
from appliance.schemas.ollama_response import (
    AnswerFacts,
    AnswerMessage,
    CalledFunction,
    CalledTool,
    ChatAnswer,
    GenerateAnswer,
)
from appliance.schemas.openai_response import TrimmedBody
from appliance.serving.stream import ChatStream
from appliance.serving.types import (
    ChatEvent,
    ChatFinished,
    ContentDelta,
    Queued,
    ReasoningDelta,
    ToolCall,
    ToolCallDelta,
    ToolCallDropped,
)
from appliance.serving.whole import WholeAnswer

_encode = msgspec.json.Encoder().encode
_NS = 1_000_000_000

_SPACE = b" "
"""What fills silences: a line of JSON may begin with spaces, and there is nothing else that a reader would skip."""


def now() -> str:
    """The time in RFC 3339."""
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What an answer says of its request. ``model`` is the name that the client used; ``is_chat``: a message is wanted,
    else plain text; ``top_logprobs`` is how many are told beside each token."""

    model: str
    is_chat: bool
    ignored: Sequence[str] = ()
    top_logprobs: int = 0
    started_s: float = field(default_factory=time.monotonic)


def loaded(asked: Asked) -> ChatAnswer | GenerateAnswer:
    """The answer to a request that asked for nothing but its model."""
    took = round((time.monotonic() - asked.started_s) * _NS)
    last: dict[str, Any] = {"done_reason": "load", "total_duration": took, "load_duration": took}
    return _answer(asked, done=True, **last)


def whole(asked: Asked, stream: ChatStream, answer: WholeAnswer) -> ChatAnswer | GenerateAnswer:
    """An answer that was read to its end. Raises the error that ended it."""
    return _answer(
        asked,
        text=answer.content,
        thinking=answer.reasoning,
        calls=answer.tool_calls,
        logprobs=to_logprobs(answer.logprobs, asked.top_logprobs) or None,
        **_ending(asked, stream, answer.ending),
    )


class LineWriter:
    """Writes one answer, a line for each piece. Satisfies ``exchange.AnswerWriter``.

    Calls of tools come whole, each as soon as it is. One that turns out to be none is text. What is no part of the
    answer (a place in the queue, how far a load is) comes as lines without text: a field of theirs that is not Ollama's
    is passed over by its clients, and a line without text changes nothing.
    """

    def __init__(self, asked: Asked) -> None:
        self._asked = asked
        self.form = StreamForm(
            media_type="application/x-ndjson", comment=lambda text: self._aside({"note": text}), keep_alive=_SPACE
        )
        self._stream: ChatStream | None = None
        self._calls: dict[int, tuple[ToolCallDelta, list[str]]] = {}
        self._head = _encode({"model": asked.model}).removesuffix(b"}") + b',"created_at":"'
        if asked.is_chat:
            self._text = b'","message":{"role":"assistant","content":'
            self._thought = b'","message":{"role":"assistant","content":"","thinking":'
            self._after, self._end = b"}", b',"done":false}\n'
        else:
            self._text, self._thought = b'","response":', b'","response":"","thinking":'
            self._after, self._end = b"", b',"done":false}\n'

    def begin(self, stream: ChatStream) -> Iterator[bytes]:
        self._stream = stream
        return iter(())

    def write(self, event: ChatEvent) -> Iterator[bytes]:
        """Raises the error that ended the answer."""
        match event:
            case ContentDelta():
                yield from self._finished_calls()
                yield self._piece(self._text, event.text, event.logprobs)
            case ReasoningDelta():
                yield self._piece(self._thought, event.text)
            case ToolCallDelta():
                if event.index not in self._calls:
                    yield from self._finished_calls()
                self._calls.setdefault(event.index, (event, []))[1].append(event.arguments)
            case ToolCallDropped():
                self._calls.pop(event.index, None)
                yield self._piece(self._text, event.text)
            case ChatFinished():
                assert self._stream is not None
                ending = _ending(self._asked, self._stream, event)
                yield from self._finished_calls()
                yield _line(_answer(self._asked, **ending))

    def queued(self, queued: Queued) -> bytes:
        """Where the request stands."""
        place: dict[str, object] = {"position": queued.position}
        if queued.wait_s is not None:
            place["wait_s"] = math.ceil(queued.wait_s)
        return self._aside({"queued": place})

    def failed(self, error: ErrorDescription) -> bytes:
        return ollama_envelope(error) + b"\n"

    def _aside(self, told: dict[str, object]) -> bytes:
        empty = self._text + b'""' + self._after
        return self._head + now().encode() + empty + b',"r1box":' + _encode(told) + self._end

    def _piece(self, before: bytes, text: str, logprobs: Sequence[TokenLogprob] = ()) -> bytes:
        after = self._after
        if logprobs:
            wire = to_logprobs(logprobs, self._asked.top_logprobs)
            after += b',"logprobs":' + _encode([one.model_dump(exclude_none=True) for one in wire])
        return self._head + now().encode() + before + _encode(text) + after + self._end

    def _finished_calls(self) -> Iterator[bytes]:
        for first, arguments in self._calls.values():
            call = ToolCall(first.id or "", first.name or "", "".join(arguments))
            yield _line(_answer(self._asked, calls=(call,), done=False, first_index=first.index))
        self._calls.clear()


def _line(answer: ChatAnswer | GenerateAnswer) -> bytes:
    return encoded(answer) + b"\n"


def encoded(answer: ChatAnswer | GenerateAnswer) -> bytes:
    """Its JSON, without what it has not."""
    return answer.model_dump_json(exclude_none=True).encode()


def _answer(
    asked: Asked,
    *,
    text: str = "",
    thinking: str | None = None,
    calls: Sequence[ToolCall] = (),
    first_index: int = 0,
    **fields: Any,
) -> ChatAnswer | GenerateAnswer:
    if not asked.is_chat:
        return GenerateAnswer(model=asked.model, created_at=now(), response=text, thinking=thinking, **fields)
    called = [
        CalledTool(
            id=call.id,
            function=CalledFunction(index=index, name=call.name, arguments=to_arguments(call.arguments)),
        )
        for index, call in enumerate(calls, first_index)
    ]
    message = AnswerMessage(content=text, thinking=thinking, tool_calls=called or None)
    return ChatAnswer(model=asked.model, created_at=now(), message=message, **fields)


def _ending(asked: Asked, stream: ChatStream, finished: ChatFinished) -> dict[str, Any]:
    """What the last line has. Raises the error that ended the answer."""
    reason = to_done_reason(finished)
    usage, timing, trimmed = finished.usage, finished.timing, finished.usage.trimmed
    total_s = time.monotonic() - asked.started_s
    first_s = timing.first_token_s if timing.first_token_s is not None else timing.duration_s
    return {
        "done": True,
        "done_reason": reason,
        "total_duration": round(total_s * _NS),
        "load_duration": max(round((total_s - timing.duration_s) * _NS), 0),
        "prompt_eval_count": usage.prompt_tokens,
        "prompt_eval_duration": max(round((first_s - (timing.queued_s or 0.0)) * _NS), 0),
        "eval_count": usage.completion_tokens,
        "eval_duration": max(round((timing.duration_s - first_s) * _NS), 1),
        "r1box": AnswerFacts(
            thinking_tokens=usage.reasoning_tokens,
            cached_tokens=usage.cached_tokens,
            thinking_end=usage.thinking_end,
            answer_looped=usage.answer_looped or None,
            trimmed=None
            if trimmed is None
            else TrimmedBody(turns=trimmed.turns, tokens=trimmed.tokens, tokens_is_minimum=trimmed.tokens_is_minimum),
            changed=to_changed(stream.changes) or None,
            ignored=", ".join(asked.ignored) or None,
        ),
    }
