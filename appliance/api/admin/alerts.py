"""``/api/admin/alerts``: where alerts go, how that does, and a test."""

from __future__ import annotations

from typing import Protocol

from fastapi import Request
from starlette.responses import Response

from appliance.api.admin.trail import Trail
from appliance.api.replies import json_reply
from appliance.api.routes import Routes
from appliance.schemas.alerts import AlertResult, AlertState, AlertTest


class AlertSource(Protocol):
    """What ``appliance.alerts.service.AlertService`` gives."""

    def state(self) -> AlertState: ...

    async def test(self) -> tuple[AlertResult, ...]: ...


def alerts_router(alerts: AlertSource, trail: Trail) -> Routes:
    """The two routes. The test answers when every receiver has, or has not within ten seconds."""
    router = Routes(prefix="/api/admin/alerts", tags=["alerts"])

    @router.get("", response_model=AlertState, operation_id="alerts")
    async def state() -> Response:
        return json_reply(alerts.state())

    @router.post("/test", response_model=AlertTest, operation_id="alerts_test")
    async def test(request: Request) -> Response:
        async with trail.act(request, "alerts.test"):
            results = await alerts.test()
        return json_reply(AlertTest(results=results))

    return router
