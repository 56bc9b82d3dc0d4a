"""``POST /v1/chat/completions``, streamed and whole."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Iterator, Sequence

import structlog
from fastapi import Request
from starlette.responses import Response

from appliance.api.disconnect import unless_disconnected
from appliance.api.errors import envelope
from appliance.api.exchange import NO_STORE, declared, owner_of, reasoning_format, stream_response, to_headers
from appliance.api.openai.chunks import DONE, ChunkEncoder
from appliance.api.openai.translate import (
    ignored_of,
    to_chat_request,
    to_finish_reason,
    to_logprobs,
    to_tool_calls,
    to_usage,
)
from appliance.api.openapi import json_body
from appliance.api.routes import Routes
from appliance.api.sse import data_event, queued_comment
from appliance.api.validation import parse_body
from appliance.errors import AppError, describe
from appliance.schemas.openai_request import IGNORED, ChatCompletionRequest
from appliance.schemas.openai_response import ChatCompletion, Choice, ResponseMessage
from appliance.serving.chat import ChatService
from appliance.serving.choices import ChoiceStream, usage_of_all
from appliance.serving.reasoning_format import ReasoningShaper
from appliance.serving.stream import ChatStream
from appliance.serving.types import (
    ChatEvent,
    ChatFinished,
    ChatRequest,
    ContentDelta,
    Queued,
    ReasoningDelta,
    ReasoningFormat,
    ToolCallDelta,
    Usage,
)
from appliance.serving.whole import WholeAnswer

_log = structlog.get_logger(__name__)

_UNWANTED_FIELDS = {
    ReasoningFormat.REASONING_CONTENT: {"reasoning"},
    ReasoningFormat.REASONING: {"reasoning_content"},
    ReasoningFormat.BOTH: set[str](),
    ReasoningFormat.INLINE: {"reasoning", "reasoning_content"},
    ReasoningFormat.HIDDEN: {"reasoning", "reasoning_content"},
}
"""Fields of a whole answer's message that are not there."""


def chat_router(chat: ChatService, *, keep_alive_s: float) -> Routes:
    """The route."""
    router = Routes(tags=["chat"])

    @router.post(
        "/chat/completions",
        response_model=ChatCompletion,
        openapi_extra=json_body(ChatCompletionRequest.__name__),
    )
    async def create_chat_completion(request: Request) -> Response:
        body = parse_body(ChatCompletionRequest, await request.body())
        asked = to_chat_request(body, request.state.request_id, owner_of(request))
        shape = reasoning_format(body.reasoning_format, request)
        ignored, count = ignored_of(body, IGNORED), body.n or 1
        if not body.stream:
            streams, completion = await unless_disconnected(request.receive, _complete(chat, asked, shape, count))
            request.state.thinking_end = completion.usage.thinking_end
            content = completion.model_dump_json(exclude={"choices": dict(enumerate(_unwanted(completion, shape)))})
            response = Response(content, media_type="application/json", headers=NO_STORE)
            return declared(request, to_headers(streams, ignored), response)
        include_usage = body.stream_options is not None and bool(body.stream_options.include_usage)
        created = int(time.time())
        writers = [
            _ChoiceWriter(
                ChunkEncoder(
                    completion_id=_completion_id(asked),
                    model=asked.model,
                    created=created,
                    include_usage=include_usage,
                    reasoning_format=shape,
                    index=index,
                ),
                ReasoningShaper(shape),
            )
            for index in range(count)
        ]
        return await stream_response(
            request,
            chat,
            asked,
            lambda: chat.open_choices(asked, count),
            events=lambda opened: _events(request, opened, writers, include_usage=include_usage),
            headers=lambda opened: to_headers(opened.streams, ignored),
            failed=lambda error: data_event(envelope(error)),
            keep_alive_s=keep_alive_s,
        )

    return router


def _unwanted(completion: ChatCompletion, shape: ReasoningFormat) -> Iterator[dict[str, set[str]]]:
    """Fields that each choice's message is not to have."""
    for choice in completion.choices:
        yield {"message": _UNWANTED_FIELDS[shape] | (set() if choice.message.tool_calls else {"tool_calls"})}


async def _complete(
    chat: ChatService, asked: ChatRequest, reasoning_format: ReasoningFormat, count: int
) -> tuple[Sequence[ChatStream], ChatCompletion]:
    """The whole answers and the streams that gave them. Raises the refusals of ``open`` and the error that an answer
    ended with."""
    answers = [WholeAnswer() for _ in range(count)]
    shapers = [ReasoningShaper(reasoning_format) for _ in range(count)]
    async with await chat.open_choices(asked, count) as choices:
        async for index, event in choices:
            for shaped in shapers[index].shape(event):
                answers[index].add(shaped)
            if isinstance(event, ChatFinished):
                to_finish_reason(event)  # an answer that failed ends the others
    usage = usage_of_all([answer.ending.usage for answer in answers])
    completion = ChatCompletion(
        id=_completion_id(asked),
        created=int(time.time()),
        model=asked.model,
        choices=[_choice(index, answer, asked) for index, answer in enumerate(answers)],
        usage=to_usage(usage),
    )
    return choices.streams, completion


def _choice(index: int, answer: WholeAnswer, asked: ChatRequest) -> Choice:
    calls = to_tool_calls(answer.tool_calls)
    return Choice(
        index=index,
        message=ResponseMessage(
            content=answer.content or (None if calls else ""),
            reasoning_content=answer.reasoning,
            reasoning=answer.reasoning,
            tool_calls=calls,
        ),
        logprobs=None if asked.logprobs is None else to_logprobs(answer.logprobs),
        finish_reason=to_finish_reason(answer.ending),
    )


class _ChoiceWriter:
    """The chunks of one answer."""

    def __init__(self, encoder: ChunkEncoder, shaper: ReasoningShaper) -> None:
        self._encoder = encoder
        self._shaper = shaper
        self._begun = False

    def write(self, event: ChatEvent) -> Iterator[bytes]:
        """Raises the error that ended the answer."""
        finish_reason = to_finish_reason(event) if isinstance(event, ChatFinished) else None
        encoder = self._encoder
        if not self._begun:
            self._begun = True
            yield encoder.role()
        for shaped in self._shaper.shape(event):
            match shaped:
                case ContentDelta():
                    yield encoder.content(shaped.text, to_logprobs(shaped.logprobs) if shaped.logprobs else None)
                case ReasoningDelta():
                    yield encoder.reasoning(shaped.text)
                case ToolCallDelta():
                    yield encoder.tool_call(shaped)
                case ChatFinished() if finish_reason is not None:
                    yield encoder.finish(finish_reason)

    def usage(self, usage: Usage) -> bytes:
        return self._encoder.usage(to_usage(usage))


async def _events(
    request: Request, choices: ChoiceStream, writers: list[_ChoiceWriter], *, include_usage: bool
) -> AsyncGenerator[bytes, None]:
    """The events of streamed answers. An error becomes one event, after which nothing follows, not even ``[DONE]``:
    official clients raise on it, and take a stream with ``[DONE]`` for a whole answer."""
    usages: dict[int, Usage] = {}
    try:
        async for index, event in choices:
            if isinstance(event, Queued):
                yield queued_comment(event.position, event.wait_s)
                continue
            for chunk in writers[index].write(event):
                yield chunk
            if isinstance(event, ChatFinished):
                usages[index] = event.usage
        usage = usage_of_all([usages[index] for index in sorted(usages)])
        request.state.thinking_end = usage.thinking_end
        if include_usage:
            yield writers[0].usage(usage)
        yield DONE
    except Exception as error:  # noqa: BLE001 - the loop top of a stream: its status line is sent already
        if describe(error).code == AppError.code:
            _log.exception("stream_crashed")
        yield data_event(envelope(describe(error)))


def _completion_id(asked: ChatRequest) -> str:
    return f"chatcmpl-{asked.request_id.removeprefix('req_')}"
