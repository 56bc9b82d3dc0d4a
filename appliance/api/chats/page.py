"""``GET /api/page``: what the chat page needs when it starts, in one request."""

from __future__ import annotations

import asyncio
from typing import Protocol

from fastapi import Request
from starlette.responses import Response

from appliance.api.access import Access, session_secret
from appliance.api.account import me_body
from appliance.api.replies import json_reply
from appliance.api.routes import Routes
from appliance.chats.attachments import MOST_PER_MESSAGE
from appliance.chats.extract import MOST_CHARACTERS, MOST_FILE_BYTES
from appliance.chats.service import Chats
from appliance.errors import Unauthorized
from appliance.schemas.chats import MOST_QUESTION_CHARACTERS, PageBody, PageLimits, PageModel
from appliance.schemas.models import ModelEntries, ModelEntry
from appliance.security.accounts import Accounts
from appliance.security.errors import NotLoggedIn
from appliance.security.roles import Permission
from appliance.serving.chat import ChatService
from appliance.serving.types import Effort


class ModelDirectory(Protocol):
    """The part of ``ModelHost`` that is needed here."""

    async def entries(self) -> ModelEntries: ...


def page_router(
    access: Access, accounts: Accounts, chats: Chats, chat: ChatService, models: ModelDirectory, version: str
) -> Routes:
    """The route. It is public, and tells a stranger that there is a login."""
    router = Routes(tags=["chats"])

    @router.get("/api/page", response_model=PageBody, operation_id="page")
    async def page(request: Request) -> Response:
        setup_needed = not await asyncio.to_thread(accounts.users.has_admin)
        try:
            caller = await access.find_caller(request)
        except (Unauthorized, NotLoggedIn):
            return json_reply(PageBody(setup_needed=setup_needed))
        body = PageBody(
            user=me_body(caller, session_secret(request)),
            setup_needed=setup_needed,
            version=version,
            models=await _models(chat, models) if Permission.INFERENCE in caller.permissions else (),
            limits=PageLimits(
                question_characters=MOST_QUESTION_CHARACTERS,
                attachment_bytes=MOST_FILE_BYTES,
                attachment_characters=MOST_CHARACTERS,
                attachments_per_message=MOST_PER_MESSAGE,
                answers_at_once=chats.limits.answers,
                keep_days=chats.limits.keep_days,
            ),
        )
        return json_reply(body)

    return router


async def _models(chat: ChatService, models: ModelDirectory) -> tuple[PageModel, ...]:
    """Those that a request may name, the default first."""
    entries = await models.entries()
    usable = [entry for entry in entries.models if entry.state != "installed" or entries.load_on_request != "off"]
    usable.sort(key=lambda entry: (not entry.default, entry.state != "ready", entry.id))
    return tuple(_model(chat, entry) for entry in usable)


def _model(chat: ChatService, entry: ModelEntry) -> PageModel:
    profile = chat.profile_of(entry.id)
    thinks = None if profile is None else profile.splits_reasoning
    return PageModel(
        id=entry.id,
        name=entry.name,
        quantization=entry.quantization,
        state=entry.state,
        default=entry.default,
        load_fraction=entry.load_fraction,
        context_tokens=entry.context_tokens,
        seats=entry.seats,
        profile=None if profile is None else profile.name.value,
        thinks=thinks,
        efforts=tuple(effort.value for effort in Effort) if thinks else (),
    )
