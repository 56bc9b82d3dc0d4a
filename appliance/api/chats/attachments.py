"""``/api/attachments``: files for questions."""

from __future__ import annotations

import asyncio
from typing import Annotated
from urllib.parse import unquote

from fastapi import Header, Query, Request
from starlette.responses import Response

from appliance.api.access import caller_of
from appliance.api.chats.bodies import attachment_body
from appliance.api.replies import RowId, empty_reply, json_reply, read_bytes
from appliance.api.routes import Routes
from appliance.chats.extract import MOST_FILE_BYTES
from appliance.chats.service import Chats
from appliance.schemas.chats import AttachmentBody, ModelId

_RAW_BODY = {
    "requestBody": {
        "required": True,
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}


def attachments_router(chats: Chats) -> Routes:
    """The routes."""
    router = Routes(prefix="/api/attachments", tags=["chats"])

    @router.post(
        "",
        status_code=201,
        response_model=AttachmentBody,
        operation_id="attachments_create",
        openapi_extra=_RAW_BODY,
    )
    async def create_attachment(
        request: Request,
        model: Annotated[ModelId | None, Query()] = None,
        x_file_name: Annotated[str, Header(max_length=1024)] = "",
    ) -> Response:
        """``X-File-Name`` is percent-encoded UTF-8. ``model`` has its tokens counted."""
        owner = caller_of(request).subject
        data = await read_bytes(request, MOST_FILE_BYTES)
        file = await chats.attach(owner, unquote(x_file_name), data)
        tokens = None if model is None else await chats.count_attachment(owner, file.id, model)
        return json_reply(attachment_body(file, tokens), status=201)

    @router.get("/{attachment_id}", response_model=AttachmentBody, operation_id="attachments_get")
    async def get_attachment(
        request: Request, attachment_id: RowId, model: Annotated[ModelId | None, Query()] = None
    ) -> Response:
        owner = caller_of(request).subject
        file = await asyncio.to_thread(chats.attachments.get, owner, attachment_id)
        tokens = None if model is None else await chats.count_attachment(owner, file.id, model)
        return json_reply(attachment_body(file, tokens))

    @router.delete("/{attachment_id}", status_code=204, operation_id="attachments_delete")
    async def delete_attachment(request: Request, attachment_id: RowId) -> Response:
        await asyncio.to_thread(chats.attachments.delete, caller_of(request).subject, attachment_id)
        return empty_reply()

    return router
