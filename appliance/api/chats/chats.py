"""``/api/chats``: the list, one chat, its export."""

from __future__ import annotations

import asyncio
from typing import Annotated
from urllib.parse import quote

from fastapi import Query, Request
from starlette.responses import Response

from appliance.api.access import caller_of
from appliance.api.chats.bodies import chat_body, chat_detail, chat_list
from appliance.api.openapi import json_body
from appliance.api.replies import NO_STORE, RowId, empty_reply, json_reply, read_body
from appliance.api.routes import Routes
from appliance.chats.export import to_markdown
from appliance.chats.service import Chats
from appliance.schemas.chats import (
    ChatBody,
    ChatChange,
    ChatCreate,
    ChatDetail,
    ChatList,
    ChatQuery,
    DeletedChats,
    ExportQuery,
)


def chats_router(chats: Chats) -> Routes:
    """The routes. Everybody sees their own chats alone: a key's are the key's."""
    router = Routes(prefix="/api/chats", tags=["chats"])
    _all_chats(router, chats)
    _one_chat(router, chats)
    return router


def _all_chats(router: Routes, chats: Chats) -> None:
    @router.get("", response_model=ChatList, operation_id="chats_list")
    async def list_chats(request: Request, query: Annotated[ChatQuery, Query()]) -> Response:
        owner, found = caller_of(request).subject, chats.chats
        if query.query is not None and query.query.strip():
            page = await asyncio.to_thread(found.search, owner, query.query, limit=query.limit, cursor=query.cursor)
        else:
            page = await asyncio.to_thread(found.list, owner, limit=query.limit, cursor=query.cursor)
        return json_reply(chat_list(page))

    @router.post(
        "",
        status_code=201,
        response_model=ChatBody,
        operation_id="chats_create",
        openapi_extra=json_body(ChatCreate.__name__),
    )
    async def create_chat(request: Request) -> Response:
        body, owner = await read_body(request, ChatCreate), caller_of(request).subject
        chat = await asyncio.to_thread(chats.chats.create, owner, title=body.title, model=body.model)
        return json_reply(chat_body(chat), status=201)

    @router.delete("", response_model=DeletedChats, operation_id="chats_delete_all")
    async def delete_all(request: Request) -> Response:
        return json_reply(DeletedChats(deleted=await chats.delete_all(caller_of(request).subject)))


def _one_chat(router: Routes, chats: Chats) -> None:
    @router.get("/{chat_id}", response_model=ChatDetail, operation_id="chats_get")
    async def get_chat(request: Request, chat_id: RowId) -> Response:
        chat, messages = await chats.tree(caller_of(request).subject, chat_id)
        # A chat may have megabytes.
        return await asyncio.to_thread(lambda: json_reply(chat_detail(chat, messages)))

    @router.patch(
        "/{chat_id}",
        response_model=ChatBody,
        operation_id="chats_change",
        openapi_extra=json_body(ChatChange.__name__),
    )
    async def change_chat(request: Request, chat_id: RowId) -> Response:
        body, owner = await read_body(request, ChatChange), caller_of(request).subject
        chat = await asyncio.to_thread(
            chats.chats.change, owner, chat_id, title=body.title, pinned=body.pinned, leaf_id=body.leaf_id
        )
        return json_reply(chat_body(chat))

    @router.delete("/{chat_id}", status_code=204, operation_id="chats_delete")
    async def delete_chat(request: Request, chat_id: RowId) -> Response:
        await chats.delete(caller_of(request).subject, chat_id)
        return empty_reply()

    @router.get("/{chat_id}/export", response_class=Response, operation_id="chats_export")
    async def export_chat(request: Request, chat_id: RowId, query: Annotated[ExportQuery, Query()]) -> Response:
        chat, messages = await chats.tree(caller_of(request).subject, chat_id)
        if query.format == "json":
            media_type, ending = "application/json", "json"
            text = await asyncio.to_thread(lambda: chat_detail(chat, messages).model_dump_json(indent=2))
        else:
            media_type, ending = "text/markdown; charset=utf-8", "md"
            text = await asyncio.to_thread(to_markdown, chat, messages)
        name = f"{_file_name(chat.title) or f'chat-{chat.id}'}.{ending}"
        # RFC 6266: a plain name for old clients, the real one for the others.
        disposition = f"attachment; filename=\"chat-{chat.id}.{ending}\"; filename*=UTF-8''{quote(name, safe='')}"
        return Response(text, media_type=media_type, headers={**NO_STORE, "Content-Disposition": disposition})


def _file_name(title: str) -> str:
    """The title without what some system does not take in a name."""
    return "".join(" " if letter in '\\/:*?"<>|' else letter for letter in title).strip(" .")
