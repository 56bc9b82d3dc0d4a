"""``/api/admin/backups``, ``/api/admin/restart``, ``/api/admin/factory-reset``: the state as a whole.

Backups hold every account, so only administrators make, restore and remove them (``settings:write``); operators see
the list.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from fastapi import Request
from starlette.responses import Response

from appliance.api.access import caller_of
from appliance.api.admin.jobs import JobSource
from appliance.api.admin.trail import Trail
from appliance.api.openapi import json_body
from appliance.api.replies import json_reply, read_body
from appliance.api.routes import Routes
from appliance.errors import InvalidRequest, NotConfirmed
from appliance.schemas.backups import (
    RESET_WORD,
    RESTORE_WORD,
    Asked,
    BackupList,
    BackupOrder,
    PassphraseOrder,
    ResetOrderBody,
    RestoreOrder,
)
from appliance.schemas.jobs import BackupWish, FactoryResetWish, Job, RestoreWish
from appliance.security.identity import actor_of

RESTART_AFTER_S = 0.5


class BackupSource(Protocol):
    """What ``appliance.backup.listing.BackupReader`` gives. All methods block."""

    def read(self) -> BackupList: ...

    def remove(self, name: str) -> None: ...

    def set_passphrase(self, passphrase: str) -> None: ...

    def forget_passphrase(self) -> bool: ...


def backups_router(backups: BackupSource, jobs: JobSource, trail: Trail) -> Routes:
    """The routes of backups. Making and restoring are jobs; a restore ends with a restart of the daemon.

    Over 60 lines because it is one list of routes.
    """
    router = Routes(prefix="/api/admin/backups", tags=["backups"])

    @router.get("", response_model=BackupList, operation_id="backups_list")
    async def listed() -> Response:
        return json_reply(await asyncio.to_thread(backups.read))

    @router.post(
        "",
        status_code=202,
        response_model=Job,
        operation_id="backups_create",
        openapi_extra=json_body(BackupOrder.__name__),
    )
    async def create(request: Request) -> Response:
        body = await read_body(request, BackupOrder)
        wish = BackupWish(to=body.to, passphrase=body.passphrase)
        return json_reply(await jobs.submit(wish, actor_of(caller_of(request))), status=202)

    @router.post(
        "/restore",
        status_code=202,
        response_model=Job,
        operation_id="backups_restore",
        openapi_extra=json_body(RestoreOrder.__name__),
    )
    async def restore(request: Request) -> Response:
        body = await read_body(request, RestoreOrder)
        if (body.name is None) == (body.path is None):
            raise InvalidRequest("Give either name, of the box's folder, or path, on a stick.", param="name")
        if body.confirm != RESTORE_WORD:
            raise NotConfirmed(RESTORE_WORD)
        wish = RestoreWish(name=body.name, path=body.path, passphrase=body.passphrase)
        return json_reply(await jobs.submit(wish, actor_of(caller_of(request))), status=202)

    @router.put(
        "/passphrase",
        response_model=Asked,
        operation_id="backups_passphrase",
        openapi_extra=json_body(PassphraseOrder.__name__),
    )
    async def passphrase(request: Request) -> Response:
        body = await read_body(request, PassphraseOrder)
        async with trail.act(request, "backup.passphrase"):
            await asyncio.to_thread(backups.set_passphrase, body.passphrase)
        return json_reply(Asked(message="Backups are sealed with this passphrase from now on, every night too."))

    @router.delete("/passphrase", response_model=Asked, operation_id="backups_passphrase_forget")
    async def forget(request: Request) -> Response:
        async with trail.act(request, "backup.passphrase_forget"):
            had = await asyncio.to_thread(backups.forget_passphrase)
        return json_reply(Asked(message="No backups are made at night any more." if had else "There was none."))

    @router.delete("/{name}", response_model=Asked, operation_id="backups_remove")
    async def remove(request: Request, name: str) -> Response:
        async with trail.act(request, "backup.remove", name):
            await asyncio.to_thread(backups.remove, name)
        return json_reply(Asked(message=f"{name} is removed."))

    return router


def reset_router(jobs: JobSource) -> Routes:
    """The factory reset, a job that ends with a restart."""
    router = Routes(prefix="/api/admin", tags=["backups"])

    @router.post(
        "/factory-reset",
        status_code=202,
        response_model=Job,
        operation_id="factory_reset",
        openapi_extra=json_body(ResetOrderBody.__name__),
    )
    async def reset(request: Request) -> Response:
        body = await read_body(request, ResetOrderBody)
        if body.confirm != RESET_WORD:
            raise NotConfirmed(RESET_WORD)
        wish = FactoryResetWish(remove_models=body.remove_models, keep_backups=body.keep_backups)
        return json_reply(await jobs.submit(wish, actor_of(caller_of(request))), status=202)

    return router


def restart_router(restart: Callable[[], None], trail: Trail) -> Routes:
    """A restart of the daemon: answers that run get some seconds to end. For settings that hold from a start on, and
    for what waits for one."""
    router = Routes(prefix="/api/admin", tags=["backups"])

    @router.post("/restart", status_code=202, response_model=Asked, operation_id="restart")
    async def again(request: Request) -> Response:
        async with trail.act(request, "box.restart"):
            asyncio.get_running_loop().call_later(RESTART_AFTER_S, restart)
        return json_reply(Asked(message="The box restarts."), status=202)

    return router
