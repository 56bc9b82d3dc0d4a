"""``/api/admin/settings``: what is set, where it comes from, and changes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from fastapi import Request
from starlette.responses import Response

from appliance.api.access import caller_of
from appliance.api.openapi import json_body
from appliance.api.replies import json_reply, read_body
from appliance.api.routes import Routes
from appliance.schemas.settings import SettingList, SettingsChange
from appliance.security.identity import Actor, actor_of


class SettingSource(Protocol):
    """What ``appliance.live_settings.LiveSettings`` gives."""

    async def list(self) -> SettingList: ...

    async def change(self, values: Mapping[str, Any], actor: Actor) -> SettingList: ...


def settings_router(settings: SettingSource) -> Routes:
    """The two routes."""
    router = Routes(prefix="/api/admin/settings", tags=["settings"])

    @router.get("", response_model=SettingList, operation_id="settings_list")
    async def listed() -> Response:
        return json_reply(await settings.list())

    @router.patch(
        "", response_model=SettingList, operation_id="settings_change", openapi_extra=json_body(SettingsChange.__name__)
    )
    async def change(request: Request) -> Response:
        body, caller = await read_body(request, SettingsChange), caller_of(request)
        return json_reply(await settings.change(body.values, actor_of(caller)))

    return router
