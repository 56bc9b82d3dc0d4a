"""``/api/admin/issues``: what is wrong with the box now, and its fix-ups."""

from __future__ import annotations

from typing import Protocol

from fastapi import APIRouter
from starlette.responses import Response

from appliance.schemas.issues import FixupResult, IssueList


class IssueSource(Protocol):
    """What ``appliance.health.board.IssueBoard`` gives."""

    def issues(self) -> IssueList: ...

    async def look(self, *, settled: bool = False) -> IssueList: ...

    async def fix(self, issue_id: str, name: str) -> FixupResult: ...


def issues_router(issues: IssueSource) -> APIRouter:
    """The routes."""
    router = APIRouter(prefix="/api/admin/issues", tags=["issues"])

    @router.get("", response_model=IssueList, operation_id="issues_list")
    async def listed() -> Response:
        return _json(issues.issues())

    @router.post("/check", response_model=IssueList, operation_id="issues_check")
    async def check() -> Response:
        return _json(await issues.look())

    @router.post("/{issue_id}/fixups/{name}", response_model=FixupResult, operation_id="issues_fix")
    async def fix(issue_id: str, name: str) -> Response:
        return _json(await issues.fix(issue_id, name))

    return router


def _json(body: IssueList | FixupResult) -> Response:
    return Response(body.model_dump_json(), media_type="application/json", headers={"Cache-Control": "no-store"})
