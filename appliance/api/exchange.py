"""One exchange with a model, whatever its protocol: what is read of a request beside its body, what is told beside the
answer, and how whole and streamed answers are read. Protocols translate; this is what they have in common."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import structlog
from fastapi import Request
from pydantic import BaseModel
from starlette.responses import Response

from appliance.api.access import caller_of, default_reasoning
from appliance.api.errors import UnsupportedParameter
from appliance.api.late import LateStream, Opened
from appliance.api.sse import SERVER_SENT_EVENTS, EventStreamResponse, StreamForm, place_text
from appliance.engine.request import FinishReason
from appliance.errors import AppError, ErrorDescription, GenerationFailed, InvalidRequest, describe
from appliance.serving.chat import ChatService
from appliance.serving.completion import CompletionRequest
from appliance.serving.reasoning_format import ReasoningShaper
from appliance.serving.stream import ChatStream
from appliance.serving.types import ChatEvent, ChatFinished, ChatRequest, Queued, ReasoningFormat, Trimmed
from appliance.serving.whole import WholeAnswer

_log = structlog.get_logger(__name__)

REASONING_HEADER = "X-R1Box-Reasoning"
"""For clients that can set headers but no fields of the body."""
NO_STORE = {"Cache-Control": "no-store"}
LATEST = ":latest"
"""What Ollama's clients write after a model's name."""


def owner_of(request: Request) -> str:
    """Whose request it is, as usage and fair turns know them."""
    return caller_of(request).subject


def to_model_id(name: str) -> str:
    """The model that ``name`` names: Ollama's clients call it ``ID:latest``, also where they speak OpenAI's API. No id
    has a colon."""
    return name.removesuffix(LATEST)


def reasoning_format(
    of_body: str | None, request: Request, default: ReasoningFormat = ReasoningFormat.REASONING_CONTENT
) -> ReasoningFormat:
    """Where the thought is to go: as the body says, else the header ``REASONING_HEADER``, else the key, else
    ``default``. Raises InvalidRequest."""
    header = request.headers.get(REASONING_HEADER, "").strip().lower()
    asked = of_body or header or default_reasoning(request) or default
    try:
        return ReasoningFormat(asked)
    except ValueError as error:
        raise InvalidRequest(
            f"The header {REASONING_HEADER} should be one of {', '.join(ReasoningFormat)}.", param=REASONING_HEADER
        ) from error


def to_ignored(body: BaseModel, names: Iterable[str]) -> tuple[str, ...]:
    """Those of the accepted fields without effect that the client set."""
    return tuple(name for name in names if getattr(body, name) is not None)


def refuse_unsupported(body: BaseModel, unsupported: Mapping[str, tuple[Any, ...]]) -> None:
    """Raise UnsupportedParameter for a field that asks for what is not there. Null and neutral values pass."""
    for name, neutral in unsupported.items():
        value = getattr(body, name)
        # Types count: in Python 1 equals True.
        if value is None or any(type(value) is type(known) and value == known for known in neutral):
            continue
        detail = f"; it may only be {' or '.join(_shown(known) for known in neutral)}" if neutral else ""
        raise UnsupportedParameter(name, detail=detail)


def to_headers(streams: Sequence[ChatStream], ignored: Sequence[str]) -> dict[str, str]:
    """What was done to a request beside what its client asked for, by header."""
    first = streams[0]
    headers = {}
    if first.changes:
        headers["X-R1Box-Changed"] = to_changed(first.changes)
    if first.trimmed is not None:
        headers["X-R1Box-Trimmed"] = to_trimmed(first.trimmed)
    if (place := first.place) is not None:  # of a stream: a whole answer comes when its wait is over
        headers["X-R1Box-Queued"] = place_text(place.position, place.wait_s)
    return headers | to_ignored_header(ignored)


def to_ignored_header(ignored: Sequence[str]) -> dict[str, str]:
    """The header ``X-R1Box-Ignored``, if there is anything to tell."""
    return {"X-R1Box-Ignored": ", ".join(ignored)} if ignored else {}


def declared(request: Request, headers: dict[str, str], response: Response) -> Response:
    """The response with ``headers`` of ``to_headers``, which go into the request's log line too."""
    for name, value in headers.items():
        response.headers[name] = value
        setattr(request.state, name.rpartition("-")[2].lower(), value)
    return response


def to_changed(changes: tuple[str, ...]) -> str:
    """The header ``X-R1Box-Changed``."""
    return ", ".join(changes)


def to_trimmed(trimmed: Trimmed) -> str:
    """The header ``X-R1Box-Trimmed``."""
    name = "tokens_at_least" if trimmed.tokens_is_minimum else "tokens"
    return f"turns={trimmed.turns} {name}={trimmed.tokens}"


def raise_if_failed(finished: ChatFinished) -> None:
    """Raise the error that ended the answer, also for one that was aborted from inside the box."""
    if finished.error is not None:
        raise finished.error
    if finished.reason not in (FinishReason.STOP, FinishReason.LENGTH):
        raise GenerationFailed(cause="it was stopped")


async def open_answer(chat: ChatService, asked: ChatRequest | CompletionRequest) -> ChatStream:
    """The one answer to a conversation or a raw prompt. Raises as ``ChatService.open``."""
    return await (chat.open(asked) if isinstance(asked, ChatRequest) else chat.open_completion(asked))


async def read_whole(
    chat: ChatService, asked: ChatRequest | CompletionRequest, shape: ReasoningFormat
) -> tuple[ChatStream, WholeAnswer]:
    """One answer read to its end. Raises the refusals of ``ChatService.open`` and the error that it ended with."""
    answer, shaper = WholeAnswer(), ReasoningShaper(shape)
    async with await open_answer(chat, asked) as stream:
        async for event in stream:
            for shaped in shaper.shape(event):
                answer.add(shaped)
    raise_if_failed(answer.ending)
    return stream, answer


class AnswerWriter(Protocol):
    """Writes one streamed answer in a protocol's form."""

    form: StreamForm

    def begin(self, stream: ChatStream) -> Iterator[bytes]:
        """What comes first, when the model has begun, even if nothing of it is shown yet."""
        ...

    def write(self, event: ChatEvent) -> Iterator[bytes]:
        """The events for ``event``, which is never Queued, and did not fail."""
        ...

    def queued(self, queued: Queued) -> bytes:
        """What whoever waits is told; may be nothing."""
        ...

    def failed(self, error: ErrorDescription) -> bytes:
        """The last event of an answer that failed."""
        ...


async def streamed(
    request: Request,
    chat: ChatService,
    asked: ChatRequest | CompletionRequest,
    writer: AnswerWriter,
    *,
    ignored: Sequence[str],
    shape: ReasoningFormat,
    keep_alive_s: float,
) -> Response:
    """The response of one streamed answer; see ``stream_response``."""
    return await stream_response(
        request,
        chat,
        asked,
        lambda: open_answer(chat, asked),
        events=lambda opened: _events(request, opened, writer, shape),
        headers=lambda opened: to_headers([opened], ignored),
        failed=writer.failed,
        keep_alive_s=keep_alive_s,
        form=writer.form,
    )


async def stream_response(
    request: Request,
    chat: ChatService,
    asked: ChatRequest | CompletionRequest,
    open_it: Callable[[], Awaitable[Opened]],
    *,
    events: Callable[[Opened], AsyncGenerator[bytes, None]],
    headers: Callable[[Opened], dict[str, str]],
    failed: Callable[[ErrorDescription], bytes],
    keep_alive_s: float,
    form: StreamForm = SERVER_SENT_EVENTS,
) -> Response:
    """The response that streams ``events`` of what ``open_it`` opens for ``asked``. Refusals are raised here, while the
    status can still say so. If the model must be loaded first that is so of what can be known before; for the others
    ``failed`` gives the last event."""
    if await chat.must_load(asked.model):
        chat.check(asked)
        late = LateStream(chat, asked.model, open_it, tell=form.comment)
        waiting = late.events(events, headers=headers, failed=lambda error: failed(describe(error)))
        return EventStreamResponse(waiting, close=late.aclose, keep_alive_s=keep_alive_s, form=form)
    opened = await open_it()
    response = EventStreamResponse(events(opened), close=opened.aclose, keep_alive_s=keep_alive_s, form=form)
    return declared(request, headers(opened), response)


async def _events(
    request: Request, stream: ChatStream, writer: AnswerWriter, shape: ReasoningFormat
) -> AsyncGenerator[bytes, None]:
    shaper, begun = ReasoningShaper(shape), False
    try:
        async for event in stream:
            if isinstance(event, Queued):
                if waiting := writer.queued(event):
                    yield waiting
                continue
            if isinstance(event, ChatFinished):
                raise_if_failed(event)
            if not begun:
                begun = True
                for encoded in writer.begin(stream):
                    yield encoded
            if isinstance(event, ChatFinished):
                request.state.thinking_end = event.thinking_end
            for shaped in shaper.shape(event):
                for encoded in writer.write(shaped):
                    yield encoded
    except Exception as error:  # noqa: BLE001 - the loop top of a stream: its status line is sent already
        if describe(error).code == AppError.code:
            _log.exception("stream_crashed")
        yield writer.failed(describe(error))


def _shown(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value).replace("'", '"')
