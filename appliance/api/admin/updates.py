"""``/api/admin/updates``: the box's two systems; install an update from a stick, go back, restart."""

from __future__ import annotations

import asyncio
from typing import Protocol

from fastapi import Request
from starlette.responses import Response

from appliance.api.access import caller_of
from appliance.api.admin.jobs import JobSource
from appliance.api.admin.trail import Trail
from appliance.api.openapi import json_body
from appliance.api.replies import json_reply, read_body
from appliance.api.routes import Routes
from appliance.schemas.jobs import Job, UpdateWish
from appliance.schemas.updates import RollbackOrder, UpdateDone, UpdateOrder, Updates
from appliance.security.identity import actor_of


class UpdateSource(Protocol):
    """What ``appliance.operators.updates.UpdateReader`` gives. Blocks."""

    def read(self) -> Updates: ...


class UpdateDesk(Protocol):
    """What ``appliance.jobs.updates.UpdateDoor`` gives. Blocks."""

    def roll_back(self, *, restart: bool) -> UpdateDone: ...

    def restart(self) -> UpdateDone: ...


def updates_router(source: UpdateSource, desk: UpdateDesk, jobs: JobSource, trail: Trail) -> Routes:
    """The routes. An update is a job of the kind ``update``; going back answers when the other system is the next."""
    router = Routes(prefix="/api/admin/updates", tags=["updates"])

    @router.get("", response_model=Updates, operation_id="updates")
    async def updates() -> Response:
        return json_reply(await asyncio.to_thread(source.read))

    @router.post(
        "",
        status_code=202,
        response_model=Job,
        operation_id="updates_install",
        openapi_extra=json_body(UpdateOrder.__name__),
    )
    async def install(request: Request) -> Response:
        order = await read_body(request, UpdateOrder)
        wish = UpdateWish(path=order.path, restart=order.restart)
        return json_reply(await jobs.submit(wish, actor_of(caller_of(request))), status=202)

    @router.post(
        "/rollback",
        status_code=202,
        response_model=UpdateDone,
        operation_id="updates_rollback",
        openapi_extra=json_body(RollbackOrder.__name__),
    )
    async def rollback(request: Request) -> Response:
        order = await read_body(request, RollbackOrder)
        async with trail.act(request, "update.rollback", restart=order.restart):
            done = await asyncio.to_thread(desk.roll_back, restart=order.restart)
        return json_reply(done, status=202)

    @router.post("/restart", status_code=202, response_model=UpdateDone, operation_id="updates_restart")
    async def restart(request: Request) -> Response:
        async with trail.act(request, "update.restart"):
            done = await asyncio.to_thread(desk.restart)
        return json_reply(done, status=202)

    return router
