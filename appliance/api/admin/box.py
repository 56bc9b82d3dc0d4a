"""``/api/admin/box``: names, addresses and fingerprints."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from starlette.responses import Response

from appliance.api.replies import json_reply
from appliance.api.routes import Routes
from appliance.schemas.box import BoxIdentity


def box_router(identity: Callable[[], BoxIdentity]) -> Routes:
    """The route. ``identity`` blocks."""
    router = Routes(prefix="/api/admin", tags=["box"])

    @router.get("/box", response_model=BoxIdentity, operation_id="box")
    async def box() -> Response:
        return json_reply(await asyncio.to_thread(identity))

    return router
