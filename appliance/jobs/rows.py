"""Jobs in the database. All methods block on SQLite: call them through ``asyncio.to_thread``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Engine
from sqlmodel import Session, col, delete, select

from appliance.schemas.jobs import Job, JobError, JobProgress
from appliance.security.audit import AuditLog
from appliance.security.identity import Actor
from appliance.store.database import write_transaction
from appliance.store.tables import JobRow

ENDED = ("succeeded", "failed", "cancelled", "interrupted")


class JobRows:
    """Reads and writes them; the audit row of a change is in the same transaction."""

    def __init__(self, engine: Engine, audit: AuditLog) -> None:
        self._engine = engine
        self._audit = audit

    def save(
        self, job: Job, actor: Actor | None = None, action: str | None = None, details: Mapping[str, Any] | None = None
    ) -> None:
        """Put a job or its new state; with ``action`` the audit log says that ``actor`` did it."""
        with write_transaction(self._engine) as session:
            session.merge(_row(job))
            if actor is not None and action is not None:
                self._audit.append(session, actor, action, job.id, {"kind": job.kind, **(details or {})})

    def get(self, job_id: str) -> Job | None:
        with Session(self._engine) as session:
            row = session.get(JobRow, job_id)
            return None if row is None else _job(row)

    def newest(self, limit: int) -> tuple[Job, ...]:
        """The newest first."""
        query = select(JobRow).order_by(col(JobRow.created_at).desc(), col(JobRow.id).desc()).limit(limit)
        with Session(self._engine) as session:
            return tuple(_job(row) for row in session.exec(query))

    def interrupt(self, at: datetime, error: JobError) -> tuple[Job, ...]:
        """Whatever had not ended is interrupted; those jobs."""
        query = select(JobRow).where(col(JobRow.state).not_in(ENDED))
        with write_transaction(self._engine) as session:
            found = []
            for row in session.exec(query):
                row.state, row.ended_at, row.error = "interrupted", at, error.model_dump_json()
                session.add(row)
                found.append(_job(row))
            return tuple(found)

    def trim(self, keep: int) -> int:
        """Forget all that have ended but the newest ``keep``; how many went."""
        newest = select(JobRow.id).order_by(col(JobRow.created_at).desc(), col(JobRow.id).desc()).limit(keep)
        with write_transaction(self._engine) as session:
            gone = session.exec(delete(JobRow).where(col(JobRow.id).not_in(newest), col(JobRow.state).in_(ENDED)))
            return int(gone.rowcount)


def _row(job: Job) -> JobRow:
    return JobRow(
        id=job.id,
        kind=job.kind,
        state=job.state,
        request=json.dumps(job.request, ensure_ascii=False),
        created_by=job.created_by,
        created_at=job.created_at,
        started_at=job.started_at,
        ended_at=job.ended_at,
        cancellable=job.cancellable,
        progress=job.progress.model_dump_json(),
        result=None if job.result is None else json.dumps(job.result, ensure_ascii=False),
        error=None if job.error is None else job.error.model_dump_json(),
    )


def _job(row: JobRow) -> Job:
    return Job.model_validate(
        {
            **{name: getattr(row, name) for name in ("id", "kind", "state", "created_by", "cancellable")},
            **{name: getattr(row, name) for name in ("created_at", "started_at", "ended_at")},
            "request": json.loads(row.request),
            "progress": JobProgress.model_validate_json(row.progress),
            "result": None if row.result is None else json.loads(row.result),
            "error": None if row.error is None else JobError.model_validate_json(row.error),
        }
    )
