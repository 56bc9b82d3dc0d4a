"""``/api/admin/first-run``: what a new box still needs, step by step."""

from __future__ import annotations

from typing import Protocol

from fastapi import Request
from starlette.responses import Response

from appliance.api.access import Access, caller_of
from appliance.api.account import SlowLane
from appliance.api.admin.trail import Trail
from appliance.api.openapi import json_body
from appliance.api.replies import json_reply, read_body
from appliance.api.routes import Routes
from appliance.schemas.first_run import FirstAdmin, FirstRun, StepChange
from appliance.security.accounts import Accounts
from appliance.security.errors import SetupClosed
from appliance.security.identity import actor_of
from appliance.security.roles import Permission


class FirstRunSource(Protocol):
    """What ``appliance.first_run.list.FirstRunList`` gives."""

    async def show(self) -> FirstRun: ...

    async def change(self, name: str, change: StepChange, by: str) -> FirstRun: ...

    async def finish(self) -> FirstRun: ...

    async def self_test(self, by: str) -> FirstRun: ...


def first_run_router(
    access: Access, first_run: FirstRunSource, accounts: Accounts, trail: Trail, lane: SlowLane
) -> Routes:
    """The routes, under three rules: reading, changing the box, and making its first administrator."""
    whole = Routes()
    router = access.router(
        Permission.ADMIN_READ, unsafe=Permission.SETTINGS_WRITE, prefix="/api/admin/first-run", tag="first-run"
    )
    people = access.router(Permission.ACCOUNTS_WRITE, prefix="/api/admin/first-run", tag="first-run")

    @router.get("", response_model=FirstRun, operation_id="first_run")
    async def show() -> Response:
        return json_reply(await first_run.show())

    @router.put(
        "/steps/{name}",
        response_model=FirstRun,
        operation_id="first_run_step",
        openapi_extra=json_body(StepChange.__name__),
    )
    async def change(request: Request, name: str) -> Response:
        body, caller = await read_body(request, StepChange), caller_of(request)
        async with trail.act(request, "first_run.step", name, state=body.state, value=body.value):
            told = await first_run.change(name, body, caller.name)
        return json_reply(told)

    @router.post("/self-test", status_code=202, response_model=FirstRun, operation_id="first_run_self_test")
    async def self_test(request: Request) -> Response:
        async with trail.act(request, "first_run.self_test"):
            told = await first_run.self_test(caller_of(request).name)
        return json_reply(told, status=202)

    @router.post("/finish", response_model=FirstRun, operation_id="first_run_finish")
    async def finish(request: Request) -> Response:
        async with trail.act(request, "first_run.finish"):
            told = await first_run.finish()
        return json_reply(told)

    @people.post(
        "/admin", response_model=FirstRun, operation_id="first_run_admin", openapi_extra=json_body(FirstAdmin.__name__)
    )
    async def admin(request: Request) -> Response:
        body, actor = await read_body(request, FirstAdmin), actor_of(caller_of(request))
        user = await lane.run(
            accounts.users.create_first_admin, body.name, body.password, language=body.language, actor=actor
        )
        if user is None:
            raise SetupClosed(problem="This box has an administrator already.")
        await lane.run(accounts.setup_token.remove)
        return json_reply(await first_run.show())

    whole.include_router(router)
    whole.include_router(people)
    return whole
