"""``/api/admin/issues``: what is wrong with the box now, and its fix-ups."""

from __future__ import annotations

from typing import Protocol

from fastapi import Request
from starlette.responses import Response

from appliance.api.admin.trail import Trail
from appliance.api.routes import Routes
from appliance.schemas.issues import FixupResult, IssueList


class IssueSource(Protocol):
    """What ``appliance.health.board.IssueBoard`` gives."""

    def issues(self) -> IssueList: ...

    async def look(self, *, settled: bool = False) -> IssueList: ...

    async def fix(self, issue_id: str, name: str) -> FixupResult: ...


def issues_router(issues: IssueSource, trail: Trail) -> Routes:
    """The routes."""
    router = Routes(prefix="/api/admin/issues", tags=["issues"])

    @router.get("", response_model=IssueList, operation_id="issues_list")
    async def listed() -> Response:
        return _json(issues.issues())

    @router.post("/check", response_model=IssueList, operation_id="issues_check")
    async def check() -> Response:
        return _json(await issues.look())

    @router.post("/{issue_id}/fixups/{name}", response_model=FixupResult, operation_id="issues_fix")
    async def fix(request: Request, issue_id: str, name: str) -> Response:
        async with trail.act(request, "issue.fix", issue_id, fixup=name[:64]):
            done = await issues.fix(issue_id, name)
        return _json(done)

    return router


def _json(body: IssueList | FixupResult) -> Response:
    return Response(body.model_dump_json(), media_type="application/json", headers={"Cache-Control": "no-store"})
