"""``/api/chats/ID/messages`` and ``/api/chats/ID/answers``: asking, and looking on while an answer is written."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

import msgspec
import structlog
from fastapi import Request
from starlette.responses import Response

from appliance.api.access import caller_of
from appliance.api.chats.bodies import chat_body, count_body, message_body, usage_body
from appliance.api.health import StatusSource
from appliance.api.openapi import json_body
from appliance.api.replies import RowId, empty_reply, json_reply, read_body
from appliance.api.routes import Routes
from appliance.api.sse import EventStreamResponse
from appliance.chats.live import (
    Ended,
    LiveEvent,
    Loading,
    MoreContent,
    MoreReasoning,
    Place,
    Snapshot,
    Waiting,
    place_of,
)
from appliance.chats.service import Asked, Chats
from appliance.chats.types import MessageState
from appliance.errors import AppError, InvalidRequest, ModelNotReady, describe
from appliance.schemas.chats import CountBody, Exchange, MessageBody, MessageCreate
from appliance.serving.types import Effort

MOST_BODY_BYTES = 8 * 1024 * 1024

_log = structlog.get_logger(__name__)
_encode = msgspec.json.Encoder().encode


def answers_router(chats: Chats, models: StatusSource, *, keep_alive_s: float) -> Routes:
    """The routes. ``models`` knows the box's default."""
    router = Routes(prefix="/api/chats", tags=["chats"])
    _asking(router, chats, models)
    _looking_on(router, chats, keep_alive_s)
    return router


def _asking(router: Routes, chats: Chats, models: StatusSource) -> None:
    async def asked(request: Request, owner: str, chat_id: int | None) -> Asked:
        body = await read_body(request, MessageCreate, most_bytes=MOST_BODY_BYTES)
        if body.content is None and body.parent_id is None:
            raise InvalidRequest("Without 'content' there must be the 'parent_id' of a question.", param="content")
        if body.content is None and body.attachment_ids:
            raise InvalidRequest("A question that is asked again has its own files.", param="attachment_ids")
        usual = None if chat_id is None else (await asyncio.to_thread(chats.chats.get, owner, chat_id)).model
        model = body.model or usual or models.status().model_id
        if model is None:
            raise ModelNotReady(reason="none is loaded.")
        return Asked(
            model=model,
            parent_id=body.parent_id,
            content=body.content,
            attachment_ids=body.attachment_ids,
            effort=None if body.effort is None else Effort(body.effort),
            thinking=body.thinking,
        )

    @router.post(
        "/{chat_id}/messages",
        status_code=202,
        response_model=Exchange,
        operation_id="chats_ask",
        openapi_extra=json_body(MessageCreate.__name__),
    )
    async def ask(request: Request, chat_id: RowId) -> Response:
        owner = caller_of(request).subject
        question, answer = await chats.ask(owner, chat_id, await asked(request, owner, chat_id))
        chat = await asyncio.to_thread(chats.chats.get, owner, chat_id)
        told = None if question is None else message_body(question)
        return json_reply(Exchange(user_message=told, answer=message_body(answer), chat=chat_body(chat)), status=202)

    @router.post(
        "/{chat_id}/count",
        response_model=CountBody,
        operation_id="chats_count",
        openapi_extra=json_body(MessageCreate.__name__),
    )
    async def count(request: Request, chat_id: RowId) -> Response:
        owner = caller_of(request).subject
        return json_reply(count_body(await chats.count(owner, chat_id, await asked(request, owner, chat_id))))

    @router.post(
        "/count",
        response_model=CountBody,
        operation_id="chats_count_first",
        openapi_extra=json_body(MessageCreate.__name__),
    )
    async def count_first(request: Request) -> Response:
        """Of the first question of a chat that is not there yet."""
        owner = caller_of(request).subject
        question = await asked(request, owner, None)
        if question.parent_id is not None:
            raise InvalidRequest("Without a chat there is no message to stand below.", param="parent_id")
        return json_reply(count_body(await chats.count(owner, None, question)))


def _looking_on(router: Routes, chats: Chats, keep_alive_s: float) -> None:
    @router.get("/{chat_id}/answers/{answer_id}/events", response_class=Response, operation_id="chats_answer_events")
    async def events(request: Request, chat_id: RowId, answer_id: RowId, after: str | None = None) -> Response:
        owner = caller_of(request).subject
        place = _place(request.headers.get("last-event-id") or after)
        happens = await chats.answer_events(owner, chat_id, answer_id, place)
        encoded = _events(chats, owner, chat_id, answer_id, happens)
        return EventStreamResponse(encoded, close=happens.aclose, keep_alive_s=keep_alive_s)

    @router.post("/{chat_id}/answers/{answer_id}/stop", response_model=MessageBody, operation_id="chats_answer_stop")
    async def stop(request: Request, chat_id: RowId, answer_id: RowId) -> Response:
        return json_reply(message_body(await chats.stop(caller_of(request).subject, chat_id, answer_id)))

    @router.post("/{chat_id}/answers/{answer_id}/answer_now", status_code=204, operation_id="chats_answer_now")
    async def answer_now(request: Request, chat_id: RowId, answer_id: RowId) -> Response:
        await chats.answer_now(caller_of(request).subject, chat_id, answer_id)
        return empty_reply()


def _place(text: str | None) -> Place | None:
    """Where a listener was. Raises InvalidRequest."""
    if text is None:
        return None
    place = place_of(text)
    if place is None:
        raise InvalidRequest("'after' should be the id of an event.", param="after")
    return place


async def _events(
    chats: Chats, owner: str, chat_id: int, answer_id: int, happens: AsyncGenerator[tuple[Place, LiveEvent], None]
) -> AsyncGenerator[bytes, None]:
    try:
        async with aclosing(happens):
            async for place, event in happens:
                if not isinstance(event, Ended):
                    yield _encoded(place, event)
                    continue
                message = await chats.message(owner, chat_id, answer_id)
                if message.usage is not None:
                    yield _event(place, "usage", usage_body(message.usage).model_dump_json().encode())
                body = message_body(message, with_text=False)
                if message.state is MessageState.ERROR and body.error is not None:
                    yield _event(place, "error", body.error.model_dump_json().encode())
                yield _event(place, "done", b'{"message":' + body.model_dump_json().encode() + b"}")
    except Exception as error:  # noqa: BLE001 - the loop top of a stream: its status line is sent already
        told = describe(error)
        if told.code == AppError.code:
            _log.exception("stream_crashed")
        yield _event(None, "error", _encode({"code": told.code, "message": told.message}))


def _encoded(place: Place, event: LiveEvent) -> bytes:
    match event:
        case MoreContent():
            return _event(place, "content", _encode({"text": event.text}))
        case MoreReasoning():
            return _event(place, "reasoning", _encode({"text": event.text}))
        case Snapshot():
            told = {"content": event.content, "reasoning": event.reasoning, "state": event.state.value}
            return _event(place, "snapshot", _encode(told))
        case Waiting():
            wait_s = None if event.wait_s is None else round(event.wait_s, 1)
            return _event(place, "queued", _encode({"position": event.position, "wait_s": wait_s}))
        case Loading():
            return _event(place, "loading", _encode({"fraction": event.fraction}))
    raise AssertionError(event)


def _event(place: Place | None, name: str, data: bytes) -> bytes:
    head = f"event: {name}\n" if place is None else f"event: {name}\nid: {place}\n"
    return head.encode() + b"data: " + data + b"\n\n"
