"""``POST /api/chat`` and ``POST /api/generate``, streamed and whole."""

from __future__ import annotations

from fastapi import Request
from starlette.responses import Response

from appliance.api.disconnect import unless_disconnected
from appliance.api.exchange import (
    NO_STORE,
    declared,
    owner_of,
    read_whole,
    reasoning_format,
    streamed,
    to_headers,
    to_ignored_header,
    to_model_id,
)
from appliance.api.ollama.lines import Asked, LineWriter, encoded, loaded, whole
from appliance.api.ollama.translate import asks_nothing, to_ignored_fields, to_request
from appliance.api.openapi import json_body
from appliance.api.routes import Routes
from appliance.api.validation import parse_body
from appliance.schemas.ollama_request import ChatCall, GenerateBody
from appliance.schemas.ollama_response import ChatAnswer, GenerateAnswer
from appliance.serving.chat import ChatService


def answers_router(chat: ChatService, *, keep_alive_s: float) -> Routes:
    """The routes."""
    router = Routes(tags=["ollama"])

    async def answer(request: Request, body: ChatCall | GenerateBody) -> Response:
        asked = Asked(
            model=body.model,
            is_chat=isinstance(body, ChatCall),
            ignored=to_ignored_fields(body),
            top_logprobs=body.top_logprobs or 0,
        )
        if asks_nothing(body):
            waited = chat.warm_up(request.state.request_id, to_model_id(body.model))
            await unless_disconnected(request.receive, waited)
            return declared(request, to_ignored_header(asked.ignored), _json(loaded(asked)))
        wanted, shape = to_request(body, request.state.request_id, owner_of(request)), reasoning_format(None, request)
        if body.stream is not False:
            return await streamed(
                request, chat, wanted, LineWriter(asked), ignored=asked.ignored, shape=shape, keep_alive_s=keep_alive_s
            )
        stream, read = await unless_disconnected(request.receive, read_whole(chat, wanted, shape))
        request.state.thinking_end = read.ending.thinking_end
        return declared(request, to_headers([stream], asked.ignored), _json(whole(asked, stream, read)))

    @router.post("/chat", response_model=ChatAnswer, operation_id="ollama_chat", openapi_extra=json_body("ChatCall"))
    async def create_chat(request: Request) -> Response:
        return await answer(request, parse_body(ChatCall, await request.body()))

    @router.post(
        "/generate",
        response_model=GenerateAnswer,
        operation_id="ollama_generate",
        openapi_extra=json_body("GenerateBody"),
    )
    async def create_text(request: Request) -> Response:
        return await answer(request, parse_body(GenerateBody, await request.body()))

    return router


def _json(answer: ChatAnswer | GenerateAnswer) -> Response:
    return Response(encoded(answer), media_type="application/json", headers=NO_STORE)
