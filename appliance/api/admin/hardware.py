"""``/api/admin/hardware``: what detection found at the last time, and a new detection."""

from __future__ import annotations

from typing import Protocol

from starlette.responses import Response

from appliance.api.routes import Routes
from appliance.schemas.telemetry import Hardware


class HardwareSource(Protocol):
    """What ``appliance.hardware.HardwareReader`` gives. Both may take as long as a detection: seconds."""

    async def last(self) -> Hardware: ...

    async def refresh(self) -> Hardware: ...


def hardware_router(hardware: HardwareSource) -> Routes:
    """The two routes."""
    router = Routes(prefix="/api/admin/hardware", tags=["hardware"])

    @router.get("", response_model=Hardware, operation_id="hardware_last")
    async def last() -> Response:
        return _json(await hardware.last())

    @router.post("/refresh", response_model=Hardware, operation_id="hardware_refresh")
    async def refresh() -> Response:
        return _json(await hardware.refresh())

    return router


def _json(body: Hardware) -> Response:
    return Response(body.model_dump_json(), media_type="application/json", headers={"Cache-Control": "no-store"})
