"""``/api/admin/cluster``: the boxes that work as one."""

from __future__ import annotations

from typing import Protocol

from starlette.responses import Response

from appliance.api.replies import json_reply
from appliance.api.routes import Routes
from appliance.schemas.cluster import ClusterStatus


class ClusterSource(Protocol):
    """What ``appliance.cluster.service.ClusterService`` gives."""

    async def status(self) -> ClusterStatus: ...


def cluster_router(cluster: ClusterSource) -> Routes:
    """The route."""
    router = Routes(prefix="/api/admin/cluster", tags=["cluster"])

    @router.get("", response_model=ClusterStatus, operation_id="cluster")
    async def status() -> Response:
        return json_reply(await cluster.status())

    return router
