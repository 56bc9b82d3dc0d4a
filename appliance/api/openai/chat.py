"""``POST /v1/chat/completions``, streamed and whole."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator

import structlog
from fastapi import APIRouter, Request
from starlette.responses import Response

from appliance.api.disconnect import unless_disconnected
from appliance.api.errors import envelope
from appliance.api.openai.chunks import DONE, ChunkEncoder
from appliance.api.openai.translate import (
    REASONING_HEADER,
    to_changed,
    to_chat_request,
    to_finish_reason,
    to_reasoning_format,
    to_trimmed,
    to_usage,
)
from appliance.api.openai.validation import parse_body
from appliance.api.openapi import json_body
from appliance.api.sse import EventStreamResponse, comment, data_event
from appliance.errors import AppError, describe
from appliance.schemas.openai_request import ChatCompletionRequest
from appliance.schemas.openai_response import ChatCompletion, Choice, ResponseMessage
from appliance.serving.chat import ChatService
from appliance.serving.reasoning_format import ReasoningShaper
from appliance.serving.stream import ChatStream
from appliance.serving.types import (
    ChatFinished,
    ChatRequest,
    ContentDelta,
    Queued,
    ReasoningDelta,
    ReasoningFormat,
)

_log = structlog.get_logger(__name__)

_NO_STORE = {"Cache-Control": "no-store"}
_UNWANTED_FIELDS = {
    ReasoningFormat.REASONING_CONTENT: {"reasoning"},
    ReasoningFormat.REASONING: {"reasoning_content"},
    ReasoningFormat.BOTH: set[str](),
    ReasoningFormat.INLINE: {"reasoning", "reasoning_content"},
    ReasoningFormat.HIDDEN: {"reasoning", "reasoning_content"},
}
"""Fields of a whole answer's message that are not there."""


def chat_router(chat: ChatService, *, keep_alive_s: float) -> APIRouter:
    """The route."""
    router = APIRouter(tags=["chat"])

    @router.post(
        "/chat/completions",
        response_model=ChatCompletion,
        openapi_extra=json_body(ChatCompletionRequest.__name__),
    )
    async def create_chat_completion(request: Request) -> Response:
        body = parse_body(ChatCompletionRequest, await request.body())
        asked = to_chat_request(body, request.state.request_id)
        shape = to_reasoning_format(body, request.headers.get(REASONING_HEADER))
        if not body.stream:
            stream, completion = await unless_disconnected(request.receive, _complete(chat, asked, shape))
            content = completion.model_dump_json(exclude={"choices": {"__all__": {"message": _UNWANTED_FIELDS[shape]}}})
            return _declared(request, stream, Response(content, media_type="application/json", headers=_NO_STORE))
        # Refusals are raised here, while the status can still say so.
        stream = await chat.open(asked)
        include_usage = body.stream_options is not None and bool(body.stream_options.include_usage)
        encoder = ChunkEncoder(
            completion_id=_completion_id(asked),
            model=asked.model,
            created=int(time.time()),
            include_usage=include_usage,
            reasoning_format=shape,
        )
        events = _events(stream, encoder, ReasoningShaper(shape), include_usage=include_usage)
        return _declared(request, stream, EventStreamResponse(events, close=stream.aclose, keep_alive_s=keep_alive_s))

    return router


def _declared(request: Request, stream: ChatStream, response: Response) -> Response:
    """The response with what was changed and left out, in headers and for the request's log line."""
    if stream.changes:
        request.state.changed = response.headers["X-R1Box-Changed"] = to_changed(stream.changes)
    if stream.trimmed is not None:
        request.state.trimmed = response.headers["X-R1Box-Trimmed"] = to_trimmed(stream.trimmed)
    return response


async def _complete(
    chat: ChatService, asked: ChatRequest, reasoning_format: ReasoningFormat
) -> tuple[ChatStream, ChatCompletion]:
    """The whole answer and the stream that gave it. Raises the refusals of ``open`` and the error that the answer
    ended with."""
    content: list[str] = []
    reasoning: list[str] = []
    finished: ChatFinished | None = None
    shaper = ReasoningShaper(reasoning_format)
    async with await chat.open(asked) as stream:
        async for event in stream:
            for shaped in shaper.shape(event):
                if isinstance(shaped, ContentDelta):
                    content.append(shaped.text)
                elif isinstance(shaped, ReasoningDelta):
                    reasoning.append(shaped.text)
                elif isinstance(shaped, ChatFinished):
                    finished = shaped
    assert finished is not None, "every stream has an ending"
    finish_reason = to_finish_reason(finished)
    thought = "".join(reasoning) or None
    completion = ChatCompletion(
        id=_completion_id(asked),
        created=int(time.time()),
        model=asked.model,
        choices=[
            Choice(
                message=ResponseMessage(content="".join(content), reasoning_content=thought, reasoning=thought),
                finish_reason=finish_reason,
            )
        ],
        usage=to_usage(finished.usage),
    )
    return stream, completion


async def _events(
    stream: ChatStream, encoder: ChunkEncoder, shaper: ReasoningShaper, *, include_usage: bool
) -> AsyncGenerator[bytes, None]:
    """The events of a streamed answer. An error becomes one event, after which nothing follows, not even ``[DONE]``:
    official clients raise on it, and take a stream with ``[DONE]`` for a whole answer."""
    begun = False
    try:
        async for event in stream:
            if isinstance(event, Queued):
                yield comment(f"queued position={event.position}")
                continue
            finish_reason = to_finish_reason(event) if isinstance(event, ChatFinished) else None
            if not begun:
                begun = True
                yield encoder.role()
            for shaped in shaper.shape(event):
                if isinstance(shaped, ContentDelta):
                    yield encoder.content(shaped.text)
                elif isinstance(shaped, ReasoningDelta):
                    yield encoder.reasoning(shaped.text)
                elif isinstance(shaped, ChatFinished) and finish_reason is not None:
                    yield encoder.finish(finish_reason)
                    if include_usage:
                        yield encoder.usage(to_usage(shaped.usage))
                    yield DONE
    except Exception as error:  # noqa: BLE001 - the loop top of a stream: its status line is sent already
        if describe(error).code == AppError.code:
            _log.exception("stream_crashed")
        yield data_event(envelope(describe(error)))


def _completion_id(asked: ChatRequest) -> str:
    return f"chatcmpl-{asked.request_id.removeprefix('req_')}"
