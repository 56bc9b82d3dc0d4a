"""``/metrics`` for Prometheus, behind a key like everything that tells who uses the box and how much."""

from __future__ import annotations

from typing import Protocol

from starlette.responses import Response

from appliance.api.routes import Routes


class MetricsSource(Protocol):
    """What ``appliance.metrics.serving.Metrics`` gives."""

    content_type: str

    def text(self) -> bytes: ...


def metrics_router(metrics: MetricsSource) -> Routes:
    """The one route."""
    router = Routes(tags=["metrics"])

    @router.get("/metrics")
    async def read() -> Response:
        return Response(metrics.text(), media_type=metrics.content_type, headers={"Cache-Control": "no-store"})

    return router
