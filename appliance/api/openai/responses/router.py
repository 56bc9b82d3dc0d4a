"""``/v1/responses``: make one, whole or streamed; read, delete and list what went into it."""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any, Literal

import msgspec
import structlog
from fastapi import Query, Request
from starlette.responses import Response

from appliance.api.disconnect import unless_disconnected
from appliance.api.errors import UnsupportedParameter
from appliance.api.exchange import declared, owner_of, reasoning_format, stream_response, to_headers
from appliance.api.openai.responses.body import ResponseBody
from appliance.api.openai.responses.items import to_turn
from appliance.api.openai.responses.output import OutputWriter
from appliance.api.openai.responses.request import ignored, to_chat, wants_logprobs, wants_seals
from appliance.api.openai.responses.store import ResponseStore, StoredResponse
from appliance.api.openapi import json_body
from appliance.api.routes import Routes
from appliance.api.sse import queued_comment
from appliance.api.validation import parse_body
from appliance.engine.request import FinishReason
from appliance.errors import AppError, ErrorDescription, GenerationFailed, InvalidRequest, describe
from appliance.schemas.openai_responses import ResponseRequest
from appliance.serving.chat import ChatService
from appliance.serving.reasoning_format import ReasoningShaper
from appliance.serving.stream import ChatStream
from appliance.serving.types import ChatFinished, ChatMessage, ChatRequest, Queued, ReasoningFormat

_log = structlog.get_logger(__name__)

_encode = msgspec.json.Encoder().encode


@dataclass(slots=True, kw_only=True)
class _Work:
    """One response while it is made."""

    body: ResponseRequest
    asked: ChatRequest
    messages: tuple[ChatMessage, ...]
    owner: str
    response_id: str
    shape: ReasoningFormat

    def writer(self) -> OutputWriter:
        return OutputWriter(seals=wants_seals(self.body), with_logprobs=wants_logprobs(self.body))


def responses_router(chat: ChatService, store: ResponseStore, *, keep_alive_s: float) -> Routes:
    """The routes."""
    router = Routes(tags=["responses"])

    @router.post("/responses", openapi_extra=json_body(ResponseRequest.__name__))
    async def create_response(request: Request) -> Response:
        body = parse_body(ResponseRequest, await request.body())
        owner = owner_of(request)
        asked, messages = to_chat(body, request.state.request_id, owner, store)
        work = _Work(
            body=body,
            asked=asked,
            messages=messages,
            owner=owner,
            response_id=f"resp_{asked.request_id.removeprefix('req_')}",
            shape=reasoning_format(None, request),
        )
        if not body.stream:
            stream, made = await unless_disconnected(request.receive, _complete(chat, store, work))
            request.state.thinking_end = made["usage"]["thinking_end"]
            return declared(request, to_headers([stream], ignored(body)), _json(made))
        return await stream_response(
            request,
            chat,
            asked,
            lambda: chat.open(asked),
            events=lambda opened: _events(request, opened, store, work),
            headers=lambda opened: to_headers([opened], ignored(body)),
            failed=_refused,
            keep_alive_s=keep_alive_s,
        )

    @router.get("/responses/{response_id}")
    async def get_response(request: Request, response_id: str, stream: bool = False) -> Response:
        if stream:
            raise UnsupportedParameter("stream", detail=": a response that is made is not streamed again")
        return _json(store.get(owner_of(request), response_id).body)

    @router.delete("/responses/{response_id}")
    async def delete_response(request: Request, response_id: str) -> Response:
        store.delete(owner_of(request), response_id)
        return _json({"id": response_id, "object": "response.deleted", "deleted": True})

    @router.post("/responses/{response_id}/cancel")
    async def cancel_response(request: Request, response_id: str) -> Response:
        store.get(owner_of(request), response_id)
        raise InvalidRequest("Only a response that is made in the background can be cancelled; there are none here.")

    @router.get("/responses/{response_id}/input_items")
    async def list_input_items(
        request: Request,
        response_id: str,
        limit: int = Query(default=20, ge=1, le=100),
        order: Literal["asc", "desc"] = "desc",
        after: str | None = None,
    ) -> Response:
        items = list(store.get(owner_of(request), response_id).input_items)
        return _json(_page(items if order == "asc" else items[::-1], limit, after))

    return router


async def _complete(chat: ChatService, store: ResponseStore, work: _Work) -> tuple[ChatStream, dict[str, Any]]:
    """The whole response and the stream that gave it. Raises the refusals of ``open`` and the error that the answer
    ended with."""
    writer, shaper = work.writer(), ReasoningShaper(work.shape)
    async with await chat.open(work.asked) as stream:
        made = ResponseBody(work.body, work.response_id, stream)
        async for event in stream:
            for shaped in shaper.shape(event):
                for _ in writer.add(shaped):
                    pass
            if isinstance(event, ChatFinished):
                for _ in writer.close(_status(event)):
                    pass
                made.end(event, writer.items)
    _keep(store, work, made)
    return stream, made.fields


async def _events(
    request: Request, stream: ChatStream, store: ResponseStore, work: _Work
) -> AsyncGenerator[bytes, None]:
    """The events, numbered. An answer that fails ends with ``response.failed``."""
    made = ResponseBody(work.body, work.response_id, stream)
    writer, shaper = work.writer(), ReasoningShaper(work.shape)
    number = -1

    def encoded(event: dict[str, Any]) -> bytes:
        nonlocal number
        number += 1
        return f"event: {event['type']}\ndata: ".encode() + _encode({**event, "sequence_number": number}) + b"\n\n"

    try:
        for kind in ("response.created", "response.in_progress"):
            yield encoded({"type": kind, "response": made.fields})
        async for event in stream:
            if isinstance(event, Queued):
                yield queued_comment(event.position, event.wait_s)
            for shaped in shaper.shape(event):
                for told in writer.add(shaped):
                    yield encoded(told)
            if isinstance(event, ChatFinished):
                for told in writer.close(_status(event)):
                    yield encoded(told)
                kind = made.end(event, writer.items)
                _keep(store, work, made)
                request.state.thinking_end = event.thinking_end
                yield encoded({"type": kind, "response": made.fields})
    except Exception as error:  # noqa: BLE001 - the loop top of a stream: its status line is sent already
        if describe(error).code == AppError.code:
            _log.exception("stream_crashed")
        for told in writer.close("incomplete"):
            yield encoded(told)
        kind = made.fail(describe(error), writer.items)
        yield encoded({"type": kind, "response": made.fields})


def _refused(error: ErrorDescription) -> bytes:
    """The one event of a response whose model had to be loaded and that was refused then. OpenAI's for what has no
    response."""
    body = {"type": "error", "code": error.code, "message": error.message, "param": error.param, "sequence_number": 0}
    return b"event: error\ndata: " + _encode(body) + b"\n\n"


def _status(finished: ChatFinished) -> str:
    """Of the last item. Raises the error that ended the answer."""
    if finished.error is not None:
        raise finished.error
    if finished.reason is FinishReason.ABORTED:
        raise GenerationFailed(cause="it was stopped")
    return "incomplete" if finished.reason is FinishReason.LENGTH else "completed"


def _keep(store: ResponseStore, work: _Work, made: ResponseBody) -> None:
    if work.body.store is False:
        return
    given = work.body.input
    items = (
        [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": given}]}]
        if isinstance(given, str)
        else [item.model_dump(exclude_none=True) for item in given]
    )
    named = tuple({"id": f"msg_{secrets.token_hex(12)}", **item} for item in items)
    messages = (*work.messages, to_turn(made.fields["output"]))
    store.put(work.owner, StoredResponse(dict(made.fields), named, messages))


def _page(items: list[dict[str, Any]], limit: int, after: str | None) -> dict[str, Any]:
    if after is not None:
        places = [place for place, item in enumerate(items) if item["id"] == after]
        if not places:
            raise InvalidRequest(f"There is no item '{after:.128}' in this list.", param="after")
        items = items[places[0] + 1 :]
    page = items[:limit]
    return {
        "object": "list",
        "data": page,
        "first_id": page[0]["id"] if page else None,
        "last_id": page[-1]["id"] if page else None,
        "has_more": len(items) > limit,
    }


def _json(body: dict[str, Any]) -> Response:
    return Response(_encode(body), media_type="application/json", headers={"Cache-Control": "no-store"})
