"""``/api/admin/network``: the machine's network and clock, and changes of them on trial."""

from __future__ import annotations

from typing import Any, Protocol

from fastapi import Request
from starlette.responses import Response

from appliance.api.admin.trail import Trail
from appliance.api.openapi import json_body
from appliance.api.replies import json_reply, read_body
from appliance.api.routes import Routes
from appliance.schemas.network import Network, NetworkChange, Preview, TrialConfirmation, TrialRequest, TrialStatus


class NetworkSource(Protocol):
    """What ``appliance.network.service.NetworkService`` gives."""

    async def show(self) -> Network: ...

    async def preview(self, change: NetworkChange) -> Preview: ...

    async def begin(self, change: NetworkChange, seconds: int) -> TrialStatus: ...

    async def confirm(self, trial_id: str) -> TrialStatus: ...

    async def roll_back(self) -> TrialStatus: ...


def network_router(network: NetworkSource, trail: Trail) -> Routes:
    """The routes. Whoever asks by the address that is changed may not get the answer to ``trial``: the change is in
    force all the same, and is confirmed at the new address."""
    router = Routes(prefix="/api/admin/network", tags=["network"])

    @router.get("", response_model=Network, operation_id="network")
    async def show() -> Response:
        return json_reply(await network.show())

    @router.post(
        "/preview",
        response_model=Preview,
        operation_id="network_preview",
        openapi_extra=json_body(NetworkChange.__name__),
    )
    async def preview(request: Request) -> Response:
        return json_reply(await network.preview(await read_body(request, NetworkChange)))

    @router.post(
        "/trial",
        status_code=202,
        response_model=TrialStatus,
        operation_id="network_try",
        openapi_extra=json_body(TrialRequest.__name__),
    )
    async def begin(request: Request) -> Response:
        body = await read_body(request, TrialRequest)
        told = _told(body.change)
        async with trail.act(request, "network.try", body.change.interface, seconds=body.seconds, **told):
            status = await network.begin(body.change, body.seconds)
        return json_reply(status, status=202)

    @router.post(
        "/trial/confirm",
        response_model=TrialStatus,
        operation_id="network_confirm",
        openapi_extra=json_body(TrialConfirmation.__name__),
    )
    async def confirm(request: Request) -> Response:
        body = await read_body(request, TrialConfirmation)
        async with trail.act(request, "network.confirm", body.id):
            status = await network.confirm(body.id)
        return json_reply(status)

    @router.delete("/trial", response_model=TrialStatus, operation_id="network_rollback")
    async def roll_back(request: Request) -> Response:
        async with trail.act(request, "network.rollback"):
            status = await network.roll_back()
        return json_reply(status)

    return router


def _told(change: NetworkChange) -> dict[str, Any]:
    """For the audit log."""
    return change.model_dump(mode="json", exclude_none=True, exclude={"interface"})
