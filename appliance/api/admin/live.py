"""``/api/admin/requests/live``: who is answered or waits now, and the end of one."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import Query, Request
from starlette.responses import Response

from appliance.api.access import Access, caller_of
from appliance.api.replies import empty_reply, json_reply
from appliance.api.routes import Routes
from appliance.schemas.operators import LiveRequests
from appliance.security.audit import AuditLog
from appliance.security.identity import actor_of
from appliance.security.roles import Permission
from appliance.serving.live import LiveStreams

_MAX_ID_CHARS = 100


def live_router(access: Access, live: LiveStreams, audit: AuditLog) -> Routes:
    """The two routes. The list names keys and people, as the request log does, so its rule is the log's."""
    whole, prefix = Routes(), "/api/admin/requests/live"
    reading = access.router(Permission.ACCOUNTS_READ, prefix=prefix, tag="requests")
    writing = access.router(Permission.ADMIN_WRITE, prefix=prefix, tag="requests")

    @reading.get("", response_model=LiveRequests, operation_id="requests_live")
    async def listed(limit: Annotated[int, Query(ge=1, le=2000)] = 500) -> Response:
        return json_reply(live.listed(limit))

    @writing.delete("/{request_id}", status_code=204, operation_id="requests_cancel")
    async def cancel(request: Request, request_id: str) -> Response:
        name = request_id[:_MAX_ID_CHARS]
        await live.cancel(name)
        await asyncio.to_thread(audit.record, actor_of(caller_of(request)), "request.cancel", name)
        return empty_reply()

    whole.include_router(reading)
    whole.include_router(writing)
    return whole
