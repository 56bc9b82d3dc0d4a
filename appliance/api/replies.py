"""Answers of the box's own API, and the bodies it is sent."""

from __future__ import annotations

from typing import Annotated, TypeVar

from fastapi import Path, Request
from pydantic import BaseModel
from starlette.responses import Response

from appliance.api.validation import parse_body
from appliance.errors import RequestTooLarge

_Model = TypeVar("_Model", bound=BaseModel)

MOST_BODY_BYTES = 256 * 1024
RowId = Annotated[int, Path(ge=1, le=2**53)]
"""An id in an address. JavaScript counts no further, SQLite a little."""
NO_STORE = {"Cache-Control": "no-store"}


def json_reply(body: BaseModel, *, status: int = 200) -> Response:
    """``body`` as JSON, kept by no cache."""
    return Response(body.model_dump_json(), status_code=status, media_type="application/json", headers=NO_STORE)


def empty_reply() -> Response:
    """Done, and nothing to say."""
    return Response(status_code=204, headers=NO_STORE)


async def read_body(request: Request, model: type[_Model], *, most_bytes: int = MOST_BODY_BYTES) -> _Model:
    """The request's body as ``model``; an empty one as ``{}``. Raises RequestTooLarge and what
    ``parse_body`` raises."""
    return parse_body(model, await read_bytes(request, most_bytes) or b"{}")


async def read_bytes(request: Request, most_bytes: int) -> bytes:
    """The request's body. Raises RequestTooLarge."""
    received = bytearray()
    async for chunk in request.stream():
        received += chunk
        # Strangers may send these bodies too: no need to hold as much of them as of a conversation.
        if len(received) > most_bytes:
            raise RequestTooLarge(limit_bytes=most_bytes)
    return bytes(received)
