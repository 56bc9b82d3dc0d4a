"""``/api/admin/usage`` and ``/api/admin/requests``: what was used, by whom."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import Annotated

from fastapi import Path, Query, Request
from starlette.responses import Response, StreamingResponse

from appliance.api.admin.trail import Trail
from appliance.api.replies import NO_STORE, json_reply
from appliance.api.routes import Routes
from appliance.schemas.usage import (
    RequestItem,
    RequestList,
    RequestQuery,
    RequestText,
    RequestTexts,
    UsageItem,
    UsageList,
    UsageQuery,
)
from appliance.usage.report import UsageFilter, UsageReport, to_csv


def usage_router(report: UsageReport) -> Routes:
    """The two routes."""
    router = Routes(prefix="/api/admin", tags=["usage"])

    @router.get("/usage", response_model=UsageList, operation_id="usage")
    async def usage(query: Annotated[UsageQuery, Query()]) -> Response:
        wanted = UsageFilter(
            since=query.since, until=query.until, key_id=query.key_id, user_id=query.user_id, model=query.model
        )
        rows = await asyncio.to_thread(report.rows, wanted, query.by)
        if query.format == "csv":
            headers = {**NO_STORE, "Content-Disposition": 'attachment; filename="r1box-usage.csv"'}
            return Response(to_csv(rows), media_type="text/csv; charset=utf-8", headers=headers)
        items = tuple(UsageItem(**asdict(row), total_tokens=row.total_tokens) for row in rows)
        return json_reply(UsageList(items=items))

    @router.get("/requests", response_model=RequestList, operation_id="requests")
    async def requests(query: Annotated[RequestQuery, Query()]) -> Response:
        found = await asyncio.to_thread(
            report.requests,
            before_id=query.before,
            limit=query.limit + 1,
            key_id=query.key_id,
            user_id=query.user_id,
            errors_only=query.errors_only,
        )
        page = tuple(RequestItem(id=number, **asdict(record)) for number, record in found[: query.limit])
        return json_reply(RequestList(items=page, next=page[-1].id if len(found) > query.limit else None))

    @router.get(
        "/requests/export",
        operation_id="requests_export",
        response_class=Response,
        responses={200: {"content": {"application/x-ndjson": {"schema": {"type": "string"}}}}},
    )
    async def export() -> Response:
        lines: Iterator[str] = (json.dumps(asdict(one), default=str) + "\n" for one in report.walk())
        headers = {**NO_STORE, "Content-Disposition": 'attachment; filename="r1box-requests.jsonl"'}
        return StreamingResponse(lines, media_type="application/x-ndjson", headers=headers)

    return router


def texts_router(report: UsageReport, trail: Trail) -> Routes:
    """What was asked and answered, where it is kept. Each look is a row of the audit log."""
    router = Routes(prefix="/api/admin/requests", tags=["usage"])

    @router.get("/{request_id}/text", response_model=RequestTexts, operation_id="requests_text")
    async def text(request: Request, request_id: Annotated[str, Path(max_length=64)]) -> Response:
        async with trail.act(request, "prompt.read", request_id):
            found = await asyncio.to_thread(report.text, request_id)
        return json_reply(RequestTexts(items=tuple(RequestText(**asdict(one)) for one in found)))

    return router
