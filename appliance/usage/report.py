"""Reads usage: sums by key, user, model and day, their CSV, and the request log. All methods block on SQLite."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

from sqlalchemy import Engine, delete, func, or_
from sqlmodel import Session, col, select

from appliance.store.database import write_transaction
from appliance.store.tables import PromptLog, RequestLog, UsageDay, User
from appliance.usage.records import PromptRecord, RequestRecord, UsageRow

GROUPS = ("day", "key", "user", "model")
CSV_FIELDS = (
    "day",
    "subject",
    "name",
    "key_id",
    "user_id",
    "user_name",
    "model",
    "requests",
    "errors",
    "prompt_tokens",
    "cached_tokens",
    "thinking_tokens",
    "answer_tokens",
    "total_tokens",
    "queued_s",
    "duration_s",
)
_COUNTS = ("requests", "errors", "prompt_tokens", "cached_tokens", "thinking_tokens", "answer_tokens")
_PAGE_ROWS = 1_000
_NAMES = ("name", "user_name")
_TIMES = ("queued_s", "duration_s")


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageFilter:
    """Which days, both ends included, and whose. ``None`` takes all."""

    since: date | None = None
    until: date | None = None
    key_id: int | None = None
    user_id: int | None = None
    model: str | None = None


class UsageReport:
    """Reads what ``UsageWriter`` wrote."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def rows(self, wanted: UsageFilter | None = None, by: Sequence[str] = GROUPS) -> tuple[UsageRow, ...]:
        """Sums for each combination of what ``by`` names (of ``GROUPS``), in the order of their days and names."""
        # By the user's name of today; whoever has a key and a session has one row.
        groups = _columns(by)
        sums = [func.sum(getattr(UsageDay, name)).label(name) for name in (*_COUNTS, *_TIMES)]
        query: Any = select(*groups, *sums).select_from(UsageDay)
        if "user" in by:
            query = query.outerjoin(User, col(User.id) == col(UsageDay.user_id))
        if groups:
            query = query.group_by(*[one for one in groups if one.key not in _NAMES]).order_by(*groups)
        for condition in _conditions(wanted or UsageFilter()):
            query = query.where(condition)
        with Session(self._engine) as session:
            found = [row._mapping for row in session.connection().execute(query)]  # noqa: SLF001 - SQLAlchemy's name
        return tuple(_row(row) for row in found if row["requests"] is not None)

    def used_tokens(self, day: date) -> dict[str, int]:
        """Prompt and answer tokens of that day by subject, and by the person behind it (``person:7``)."""
        total = func.sum(UsageDay.prompt_tokens + UsageDay.answer_tokens)
        today = col(UsageDay.day) == day.isoformat()
        subjects: Any = select(UsageDay.subject, total).where(today).group_by(col(UsageDay.subject))
        people: Any = select(UsageDay.user_id, total).where(today, col(UsageDay.user_id).is_not(None))
        people = people.group_by(UsageDay.user_id)
        with Session(self._engine) as session:
            found = {str(subject): int(tokens) for subject, tokens in session.connection().execute(subjects)}
            told = session.connection().execute(people)
            return found | {f"person:{user_id}": int(tokens) for user_id, tokens in told}

    def requests(
        self,
        *,
        before_id: int | None = None,
        limit: int = 100,
        key_id: int | None = None,
        user_id: int | None = None,
        errors_only: bool = False,
    ) -> tuple[tuple[int, RequestRecord], ...]:
        """The request log, the newest first, each with its number; ``before_id`` goes on after a page."""
        query = select(RequestLog).order_by(col(RequestLog.id).desc()).limit(limit)
        if before_id is not None:
            query = query.where(col(RequestLog.id) < before_id)
        if key_id is not None:
            query = query.where(RequestLog.key_id == key_id)
        if user_id is not None:
            query = query.where(RequestLog.user_id == user_id)
        if errors_only:
            query = query.where(col(RequestLog.error_code).is_not(None))
        with Session(self._engine) as session:
            return tuple((row.id or 0, _record(row)) for row in session.exec(query))

    def text(self, request_id: str) -> tuple[PromptRecord, ...]:
        """What was asked and answered in a request, of each of its choices; nothing where it was not kept."""
        query = select(PromptLog).where(PromptLog.request_id == request_id).order_by(col(PromptLog.id))
        with Session(self._engine) as session:
            return tuple(
                PromptRecord(**{name: getattr(row, name) for name in PromptRecord.__slots__})
                for row in session.exec(query)
            )

    def walk(self) -> Iterator[RequestRecord]:
        """The whole request log, the oldest first, read in pages: rows that come meanwhile come too."""
        query = select(RequestLog).order_by(col(RequestLog.id)).limit(_PAGE_ROWS)
        after = 0
        while True:
            with Session(self._engine) as session:
                page = list(session.exec(query.where(col(RequestLog.id) > after)))
                found = [_record(row) for row in page]
                after = page[-1].id or 0 if page else 0
            yield from found
            if len(found) < _PAGE_ROWS:
                return

    def trim_texts(self, *, keep_days: int, keep_bytes: int, now: datetime | None = None) -> int:
        """Let the oldest questions and answers go: those that are too old, and those beyond ``keep_bytes`` in all.
        Returns how many went."""
        oldest = (now or datetime.now(UTC)) - timedelta(days=keep_days)
        newer = func.sum(PromptLog.size_bytes).over(order_by=col(PromptLog.id).desc()).label("total")
        sums = select(col(PromptLog.id).label("id"), newer).subquery()
        with write_transaction(self._engine) as session:
            last = session.connection().execute(select(func.max(sums.c.id)).where(sums.c.total > keep_bytes)).scalar()
            gone = col(PromptLog.at) < oldest
            if last is not None:
                gone = or_(gone, col(PromptLog.id) <= last)
            return int(session.exec(delete(PromptLog).where(gone)).rowcount)

    def trim_days(self, *, keep_days: int, today: date | None = None) -> int:
        """Let sums of old days go. Returns how many went."""
        oldest = (today or datetime.now(UTC).date()) - timedelta(days=keep_days)
        with write_transaction(self._engine) as session:
            return int(session.exec(delete(UsageDay).where(col(UsageDay.day) < oldest.isoformat())).rowcount)

    def trim(self, *, keep_days: int | None, keep_rows: int | None, now: datetime | None = None) -> int:
        """Let old rows of the request log go; sums stay. Returns how many went."""
        gone = 0
        with write_transaction(self._engine) as session:
            if keep_days is not None:
                oldest = (now or datetime.now(UTC)) - timedelta(days=keep_days)
                gone += session.exec(delete(RequestLog).where(col(RequestLog.at) < oldest)).rowcount
            newest = session.exec(select(func.max(RequestLog.id))).one()
            if keep_rows is not None and newest is not None:
                gone += session.exec(delete(RequestLog).where(col(RequestLog.id) <= newest - keep_rows)).rowcount
        return gone


def to_csv(rows: Iterable[UsageRow]) -> str:
    """The rows as CSV (RFC 4180) with a head line; unknown is empty."""
    written = io.StringIO()
    writer = csv.writer(written)
    writer.writerow(CSV_FIELDS)
    for row in rows:
        writer.writerow([_cell(getattr(row, name)) for name in CSV_FIELDS])
    return written.getvalue()


def _cell(value: Any) -> Any:
    if isinstance(value, float):
        return f"{value:.3f}"
    # A spreadsheet takes text that begins like this for a formula; key names come from people.
    if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t"):
        return f"'{value}"
    return "" if value is None else value


def _columns(by: Sequence[str]) -> list[Any]:
    columns: list[Any] = []
    if "day" in by:
        columns.append(col(UsageDay.day))
    if "key" in by:
        columns += [col(UsageDay.subject), col(UsageDay.key_id), func.max(UsageDay.name).label("name")]
    if "user" in by:
        columns += [col(UsageDay.user_id), func.max(User.name).label("user_name")]
    if "model" in by:
        columns.append(col(UsageDay.model))
    return columns


def _conditions(wanted: UsageFilter) -> list[Any]:
    conditions: list[Any] = []
    if wanted.since is not None:
        conditions.append(col(UsageDay.day) >= wanted.since.isoformat())
    if wanted.until is not None:
        conditions.append(col(UsageDay.day) <= wanted.until.isoformat())
    exact = [(name, getattr(wanted, name)) for name in ("key_id", "user_id", "model")]
    return conditions + [getattr(UsageDay, name) == value for name, value in exact if value is not None]


def _row(row: Any) -> UsageRow:
    day = row.get("day")
    values: dict[str, Any] = {
        "day": None if day is None else date.fromisoformat(day),
        **{name: row.get(name) for name in ("subject", "name", "key_id", "user_id", "user_name", "model")},
        **{name: int(row[name]) for name in _COUNTS},
        **{name: float(row[name]) for name in _TIMES},
    }
    return UsageRow(**values)


def _record(row: RequestLog) -> RequestRecord:
    return RequestRecord(**{name: getattr(row, name) for name in RequestRecord.__slots__})
