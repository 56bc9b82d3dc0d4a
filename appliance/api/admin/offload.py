"""``/api/admin/offload``: whether loaded models run on the cards they were put on, and a new check of it."""

from __future__ import annotations

from typing import Protocol

from fastapi import Request
from starlette.responses import Response

from appliance.api.admin.trail import Trail
from appliance.api.routes import Routes
from appliance.schemas.offload import Offload, OffloadList


class OffloadSource(Protocol):
    """What the daemon's ``OffloadWatch`` gives. ``check_all`` takes seconds for each model."""

    def verdict(self, model_id: str) -> Offload | None: ...

    def verdicts(self) -> tuple[Offload, ...]: ...

    async def check_all(self) -> None: ...


def offload_router(offload: OffloadSource, trail: Trail) -> Routes:
    """The two routes."""
    router = Routes(prefix="/api/admin/offload", tags=["offload"])

    @router.get("", response_model=OffloadList, operation_id="offload_verdicts")
    async def verdicts() -> Response:
        return _json(OffloadList(models=offload.verdicts()))

    @router.post("/check", response_model=OffloadList, operation_id="offload_check")
    async def check(request: Request) -> Response:
        async with trail.act(request, "offload.check"):
            await offload.check_all()
        return _json(OffloadList(models=offload.verdicts()))

    return router


def _json(body: OffloadList) -> Response:
    return Response(body.model_dump_json(), media_type="application/json", headers={"Cache-Control": "no-store"})
