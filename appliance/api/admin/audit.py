"""``/api/admin/audit``: who did what, its export, and whether the log is whole."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from datetime import datetime
from typing import Annotated

from fastapi import Query, Request
from starlette.responses import Response, StreamingResponse

from appliance.api.access import caller_of
from appliance.api.replies import NO_STORE, json_reply
from appliance.api.routes import Routes
from appliance.schemas.usage import AuditItem, AuditList, AuditQuery, AuditSelection, AuditVerdict
from appliance.security.audit import AuditFilter, AuditLog
from appliance.security.audit_chain import AuditRecord
from appliance.security.identity import actor_of


def audit_router(audit: AuditLog) -> Routes:
    """The three routes."""
    router = Routes(prefix="/api/admin/audit", tags=["audit"])

    @router.get("", response_model=AuditList, operation_id="audit_list")
    async def list_rows(query: Annotated[AuditQuery, Query()]) -> Response:
        found = await asyncio.to_thread(audit.list, _filter(query), before_seq=query.before, limit=query.limit + 1)
        page = tuple(_item(record) for record in found[: query.limit])
        return json_reply(AuditList(items=page, next=page[-1].seq if len(found) > query.limit else None))

    @router.get("/verify", response_model=AuditVerdict, operation_id="audit_verify")
    async def verify(known_hash: Annotated[str | None, Query(pattern="^[0-9a-f]{64}$")] = None) -> Response:
        verdict = await asyncio.to_thread(audit.verify, known_hash=known_hash)
        return json_reply(
            AuditVerdict(
                whole=verdict.is_whole,
                rows=verdict.rows,
                first_seq=verdict.first_seq,
                last_seq=verdict.last_seq,
                head_hash=verdict.head_hash,
                broken_seq=verdict.broken_seq,
                problem=verdict.problem,
            )
        )

    @router.get(
        "/export",
        operation_id="audit_export",
        response_class=Response,
        responses={200: {"content": {"application/x-ndjson": {"schema": {"type": "string"}}}}},
    )
    async def export(request: Request, query: Annotated[AuditSelection, Query()]) -> Response:
        await asyncio.to_thread(audit.record, actor_of(caller_of(request)), "audit.export")
        lines: Iterator[str] = audit.export(_filter(query))  # StreamingResponse reads a plain iterator in a thread
        headers = {**NO_STORE, "Content-Disposition": 'attachment; filename="r1box-audit.jsonl"'}
        return StreamingResponse(lines, media_type="application/x-ndjson", headers=headers)

    return router


def _filter(query: AuditSelection) -> AuditFilter:
    return AuditFilter(
        action=query.action, actor=query.actor, target=query.target, since=query.since, until=query.until
    )


def _item(record: AuditRecord) -> AuditItem:
    return AuditItem(
        seq=record.seq,
        at=datetime.fromisoformat(record.at),
        actor_kind=record.actor_kind,
        actor_name=record.actor_name,
        actor_id=record.actor_id,
        address=record.address,
        action=record.action,
        target=record.target,
        details=json.loads(record.details),
        hash=record.hash,
    )
