"""``/api/admin/models``: what is installed and loaded; load, unload, make another one the default,
remove."""

from __future__ import annotations

import asyncio
from typing import Protocol

from fastapi import Request
from starlette.responses import Response

from appliance.api.access import caller_of
from appliance.api.admin.trail import Trail
from appliance.api.replies import empty_reply
from appliance.api.routes import Routes
from appliance.engine.base import EngineInfo
from appliance.errors import ModelNotFound
from appliance.schemas.models import LoadRequest, ModelEntries, ModelEntry, UnloadRequest
from appliance.security.identity import Actor, actor_of


class ModelAdmin(Protocol):
    """The part of ``ModelHost`` that is needed here. Loads take minutes; who stops waiting does not end them."""

    async def entries(self) -> ModelEntries: ...

    async def load(self, model_id: str, *, swap: bool = True, pin: bool = False) -> EngineInfo: ...

    async def unload(self, model_id: str, *, drain_timeout_s: float) -> None: ...

    async def activate(self, model_id: str) -> EngineInfo: ...


class ModelRemoval(Protocol):
    """What ``appliance.operators.removal.ModelRemover`` gives. Blocks."""

    def remove(self, model_id: str, actor: Actor) -> None: ...


def model_admin_router(models: ModelAdmin, removal: ModelRemoval, trail: Trail) -> Routes:
    """The routes. Each change answers when it is done, with the model as it is then; ``GET`` shows its progress."""
    router = Routes(prefix="/api/admin/models", tags=["models"])

    async def entry(model_id: str) -> ModelEntry:
        found = (await models.entries()).models
        for one in found:
            if one.id == model_id:
                return one
        raise ModelNotFound(model=model_id, served=", ".join(one.id for one in found) or "none")

    @router.get("", response_model=ModelEntries, operation_id="models_list")
    async def entries() -> Response:
        return _json(await models.entries())

    @router.get("/{model_id}", response_model=ModelEntry, operation_id="models_get")
    async def one(model_id: str) -> Response:
        return _json(await entry(model_id))

    @router.post("/{model_id}/load", response_model=ModelEntry, operation_id="models_load")
    async def load(request: Request, model_id: str, wish: LoadRequest | None = None) -> Response:
        wish = wish or LoadRequest()
        await entry(model_id)
        async with trail.act(request, "model.load", model_id, swap=wish.swap, pin=wish.pin):
            await models.load(model_id, swap=wish.swap, pin=wish.pin)
        return _json(await entry(model_id))

    @router.post("/{model_id}/unload", response_model=ModelEntry, operation_id="models_unload")
    async def unload(request: Request, model_id: str, wish: UnloadRequest | None = None) -> Response:
        await entry(model_id)
        async with trail.act(request, "model.unload", model_id):
            await models.unload(model_id, drain_timeout_s=(wish or UnloadRequest()).drain_timeout_s)
        return _json(await entry(model_id))

    @router.post("/{model_id}/activate", response_model=ModelEntry, operation_id="models_activate")
    async def activate(request: Request, model_id: str) -> Response:
        await entry(model_id)
        async with trail.act(request, "model.activate", model_id):
            await models.activate(model_id)
        return _json(await entry(model_id))

    @router.delete("/{model_id}", status_code=204, operation_id="models_remove")
    async def remove(request: Request, model_id: str) -> Response:
        await asyncio.to_thread(removal.remove, model_id, actor_of(caller_of(request)))
        return empty_reply()

    return router


def _json(body: ModelEntries | ModelEntry) -> Response:
    return Response(body.model_dump_json(), media_type="application/json", headers={"Cache-Control": "no-store"})
