"""``POST /v1/messages``, streamed and whole, and ``POST /v1/messages/count_tokens``."""

from __future__ import annotations

import json

from fastapi import Request
from starlette.responses import Response

from appliance.api.anthropic.events import MessageWriter
from appliance.api.anthropic.translate import (
    Signature,
    message_id,
    omits_thought,
    to_chat_request,
    to_ignored_fields,
    to_shape,
    to_stop_reason,
    to_usage,
)
from appliance.api.disconnect import unless_disconnected
from appliance.api.exchange import NO_STORE, declared, owner_of, read_whole, streamed, to_headers, to_ignored_header
from appliance.api.openapi import json_body
from appliance.api.routes import Routes
from appliance.api.validation import parse_body
from appliance.errors import ContextLengthExceeded
from appliance.schemas.anthropic_request import CountTokensRequest, MessagesRequest
from appliance.schemas.anthropic_response import Message, TextBlock, ThinkingBlock, TokenCount, ToolUseBlock
from appliance.serving.chat import ChatService
from appliance.serving.types import ChatRequest
from appliance.serving.whole import WholeAnswer


def messages_router(chat: ChatService, *, keep_alive_s: float) -> Routes:
    """The routes."""
    router = Routes(tags=["messages"])

    @router.post("/messages", response_model=Message, openapi_extra=json_body(MessagesRequest.__name__))
    async def create_message(request: Request) -> Response:
        body = parse_body(MessagesRequest, await request.body())
        asked = to_chat_request(body, request.state.request_id, owner_of(request))
        shape, ignored, omits = to_shape(body, request), to_ignored_fields(body), omits_thought(body)
        if body.stream:
            writer = MessageWriter(omits_thought=omits)
            return await streamed(request, chat, asked, writer, ignored=ignored, shape=shape, keep_alive_s=keep_alive_s)
        stream, answer = await unless_disconnected(request.receive, read_whole(chat, asked, shape))
        request.state.thinking_end = answer.ending.thinking_end
        message = _message(asked, answer, omits=omits)
        exclude = {"usage": {name for name, value in message.usage if value is None}}
        response = Response(message.model_dump_json(exclude=exclude), media_type="application/json", headers=NO_STORE)
        return declared(request, to_headers([stream], ignored), response)

    @router.post(
        "/messages/count_tokens", response_model=TokenCount, openapi_extra=json_body(CountTokensRequest.__name__)
    )
    async def count_tokens(request: Request) -> Response:
        body = parse_body(CountTokensRequest, await request.body())
        asked = to_chat_request(body, request.state.request_id, owner_of(request))
        counted = await unless_disconnected(request.receive, chat.count_tokens(asked))
        if counted.is_minimum:
            # So long that it was not counted to its end: a number that is only a bound would be taken for the count.
            raise ContextLengthExceeded(
                prompt_tokens=counted.prompt_tokens,
                reserved_tokens=1,
                context_tokens=counted.context_tokens,
                prompt_is_minimum=True,
            )
        response = Response(
            TokenCount(input_tokens=counted.prompt_tokens).model_dump_json(),
            media_type="application/json",
            headers=NO_STORE,
        )
        return declared(request, to_ignored_header(to_ignored_fields(body)), response)

    return router


def _message(asked: ChatRequest, answer: WholeAnswer, *, omits: bool) -> Message:
    blocks: list[ThinkingBlock | TextBlock | ToolUseBlock] = []
    if answer.reasoning:
        signature = Signature()
        signature.add(answer.reasoning)
        thought = "" if omits else answer.reasoning
        blocks.append(ThinkingBlock(thinking=thought, signature=signature.text()))
    if answer.content:
        blocks.append(TextBlock(text=answer.content))
    blocks += [
        ToolUseBlock(id=call.id, name=call.name, input=json.loads(call.arguments or "{}")) for call in answer.tool_calls
    ]
    reason = to_stop_reason(answer.ending)
    return Message(
        id=message_id(asked.request_id),
        model=asked.model,
        # As in a stream: clients read the first block's text.
        content=blocks or [TextBlock(text="")],
        stop_reason=reason,
        stop_sequence=answer.ending.stop_string if reason == "stop_sequence" else None,
        usage=to_usage(answer.ending.usage),
    )
