"""``/api/admin/telemetry``: devices, host and monitors now, what happened, and an hour of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Protocol

from fastapi import Query
from starlette.responses import Response

from appliance.api.routes import Routes
from appliance.schemas.telemetry import HistoryQuery, Telemetry, TelemetryHistory, TelemetryQuery


class TelemetrySource(Protocol):
    """What ``appliance.telemetry.TelemetryService`` gives. Never waits for a device; ``history`` computes a while."""

    def now(self, since: int | None = None) -> Telemetry: ...

    def history(self, seconds: int, points: int, series: Sequence[str]) -> TelemetryHistory: ...


def telemetry_router(telemetry: TelemetrySource) -> Routes:
    """The two routes. They run in threads: an hour of many devices is more than the event loop may compute."""
    router = Routes(prefix="/api/admin/telemetry", tags=["telemetry"])

    @router.get("", response_model=Telemetry, operation_id="telemetry_now")
    def now(query: Annotated[TelemetryQuery, Query()]) -> Response:
        return _json(telemetry.now(query.since))

    @router.get("/history", response_model=TelemetryHistory, operation_id="telemetry_history")
    def history(query: Annotated[HistoryQuery, Query()]) -> Response:
        return _json(telemetry.history(query.seconds, query.points, query.series))

    return router


def _json(body: Telemetry | TelemetryHistory) -> Response:
    return Response(body.model_dump_json(), media_type="application/json", headers={"Cache-Control": "no-store"})
