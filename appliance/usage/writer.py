"""Brings usage into the database: collected in memory, written once a second in one transaction, off the event loop.

What a kill -9 can lose is what came since the last write. While the database cannot be written (a full disk, a long
writer elsewhere) records wait in memory, the oldest go when they are too many, and the daemon serves on.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Iterable
from dataclasses import asdict
from datetime import UTC
from typing import Any

import structlog
from sqlalchemy import Engine
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.exc import DatabaseError
from sqlmodel import Session

from appliance.store.database import write_transaction
from appliance.store.tables import PromptLog, RequestLog, UsageDay
from appliance.usage.records import PromptRecord, RequestRecord

WRITE_EVERY_S = 1.0
_MOST_WAITING = 100_000
_MOST_TEXTS = 1_000
_SUMS = (
    "requests",
    "errors",
    "prompt_tokens",
    "cached_tokens",
    "thinking_tokens",
    "answer_tokens",
    "queued_s",
    "duration_s",
)

_log = structlog.get_logger(__name__)


class UsageWriter:
    """``add`` from anywhere, never blocks; ``run`` in the daemon's event loop; ``flush`` blocks."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._waiting: deque[RequestRecord] = deque(maxlen=_MOST_WAITING)
        self._texts: deque[PromptRecord] = deque(maxlen=_MOST_TEXTS)
        self._writing = threading.Lock()

    def add(self, record: RequestRecord) -> None:
        """Take note of a request."""
        self._waiting.append(record)

    def add_text(self, record: PromptRecord) -> None:
        """Take note of what was asked and answered."""
        self._texts.append(record)

    async def run(self) -> None:
        """Write once a second, and once more when cancelled."""
        try:
            while True:
                await asyncio.sleep(WRITE_EVERY_S)
                if self._waiting or self._texts:
                    await asyncio.to_thread(self.flush)
        finally:
            await asyncio.shield(asyncio.to_thread(self.flush))

    def flush(self) -> None:
        """Write what waits: all in one transaction, or nothing, and it goes on waiting."""
        with self._writing:
            batch = [self._waiting.popleft() for _ in range(len(self._waiting))]
            texts = [self._texts.popleft() for _ in range(len(self._texts))]
            if not batch and not texts:
                return
            try:
                with write_transaction(self._engine) as session:
                    if batch:
                        _write_days(session, batch)
                        _write_log(session, batch)
                    session.add_all(_text_row(one) for one in texts)
            except DatabaseError as error:
                self._texts.extendleft(reversed(texts))
                self._waiting.extendleft(reversed(batch[-(_MOST_WAITING - len(self._waiting)) :]))
                _log.warning("usage_not_written", waiting=len(self._waiting), reason=str(error.orig))


def _write_days(session: Session, batch: Iterable[RequestRecord]) -> None:
    sums: dict[tuple[str, str, str], dict[str, Any]] = {}
    for record in batch:
        day = record.at.astimezone(UTC).date().isoformat()
        row = sums.setdefault(
            (day, record.subject, record.model),
            {
                "day": day,
                "subject": record.subject,
                "model": record.model,
                "key_id": record.key_id,
                "user_id": record.user_id,
                **dict.fromkeys(_SUMS, 0),
            },
        )
        row["name"] = record.name
        row["requests"] += 1
        row["errors"] += record.error_code is not None
        row["queued_s"] += record.queued_s or 0.0
        for field in ("prompt_tokens", "cached_tokens", "thinking_tokens", "answer_tokens", "duration_s"):
            row[field] += getattr(record, field)
    statement = insert(UsageDay)
    added = {field: getattr(UsageDay, field) + statement.excluded[field] for field in _SUMS}
    statement = statement.on_conflict_do_update(
        index_elements=["day", "subject", "model"], set_={**added, "name": statement.excluded.name}
    )
    session.connection().execute(statement, list(sums.values()))


def _write_log(session: Session, batch: Iterable[RequestRecord]) -> None:
    session.add_all(RequestLog(**asdict(record)) for record in batch)


def _text_row(record: PromptRecord) -> PromptLog:
    size_bytes = len(record.prompt.encode("utf-8", "replace")) + len(record.answer.encode("utf-8", "replace"))
    return PromptLog(**asdict(record), size_bytes=size_bytes)
