"""The audit log in the database: who did what. Rows are added in the transaction of what they tell about.

All methods block on SQLite: call them through ``asyncio.to_thread``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Engine, delete, func
from sqlmodel import Session, col, select

from appliance.security.audit_chain import (
    CHECKPOINT,
    AuditRecord,
    ChainHead,
    ChainVerdict,
    canonical,
    checkpoint_details,
    record_hash,
    verify_chain,
)
from appliance.security.identity import SYSTEM, Actor
from appliance.store.database import write_transaction
from appliance.store.tables import AuditEvent, AuditHead

_HEAD_ID = 1
_PAGE_ROWS = 1_000
_MOST_DETAILS = 8_192
_ROW_BYTES = 256
"""What a row takes beside its texts: two hashes, a date, an address, numbers."""
_NAME_LENGTH = 64
_TARGET_LENGTH = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditFilter:
    """Which rows are wanted; ``None`` and empty take all. ``action`` matches a whole action or, with a dot at its end,
    a family (``key.``). ``since`` is inclusive, ``until`` exclusive."""

    action: str | None = None
    actor: str | None = None
    target: str | None = None
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """How much of the log stays. ``None`` keeps everything by that measure."""

    keep_days: int | None = None
    keep_rows: int | None = None
    keep_bytes: int | None = None


def _utc_now() -> datetime:
    return datetime.now(UTC)


class AuditLog:
    """Reads the log and adds to it. Several processes may: a row is chained under the database's write lock."""

    def __init__(self, engine: Engine, now: Callable[[], datetime] = _utc_now) -> None:
        self._engine = engine
        self._now = now

    def record(
        self, actor: Actor, action: str, target: str | None = None, details: Mapping[str, Any] | None = None
    ) -> AuditRecord:
        """Add a row in a transaction of its own."""
        with write_transaction(self._engine) as session:
            return self.append(session, actor, action, target, details)

    @contextmanager
    def together(self) -> Iterator[Callable[[Actor, str, str | None, Mapping[str, Any]], object]]:
        """Rows for something that is no database's: they stay only if the block ends well."""
        with write_transaction(self._engine) as session:

            def append(actor: Actor, action: str, target: str | None, details: Mapping[str, Any]) -> object:
                return self.append(session, actor, action, target, details)

            yield append

    def append(
        self,
        session: Session,
        actor: Actor,
        action: str,
        target: str | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> AuditRecord:
        """Add a row within ``session``, which comes from ``write_transaction``. ``details`` are JSON, no secrets.

        Raises ValueError, TypeError for details that are not JSON or larger than 8 KiB.
        """
        text = canonical(dict(details or {}))
        if len(text) > _MOST_DETAILS:
            raise ValueError(f"details of {len(text)} characters")
        head = session.get(AuditHead, _HEAD_ID)
        if head is None:
            empty = ChainHead()
            head = AuditHead(id=_HEAD_ID, seq=empty.seq, hash=empty.hash)
            session.add(head)
        unhashed = AuditRecord(
            seq=head.seq + 1,
            at=self._now().astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            actor_kind=actor.kind,
            actor_name=_plain(actor.name, _NAME_LENGTH),
            actor_id=actor.id,
            address=None if actor.address is None else _plain(actor.address, _NAME_LENGTH),
            action=action,
            target=None if target is None else _plain(target, _TARGET_LENGTH),
            details=text,
            previous_hash=head.hash,
            hash="",
        )
        values = asdict(unhashed) | {"hash": record_hash(unhashed)}
        session.add(AuditEvent(**values))
        head.seq, head.hash = unhashed.seq, values["hash"]
        session.flush()
        return AuditRecord(**values)

    def list(
        self, wanted: AuditFilter | None = None, *, before_seq: int | None = None, limit: int = 100
    ) -> tuple[AuditRecord, ...]:
        """The newest rows first; ``before_seq`` goes on after a page."""
        query = _filtered(wanted or AuditFilter()).order_by(col(AuditEvent.seq).desc()).limit(limit)
        if before_seq is not None:
            query = query.where(col(AuditEvent.seq) < before_seq)
        with Session(self._engine) as session:
            return tuple(_record(row) for row in session.exec(query))

    def walk(self, wanted: AuditFilter | None = None) -> Iterator[AuditRecord]:
        """All rows, the oldest first, read in pages: rows that come meanwhile come too."""
        query = _filtered(wanted or AuditFilter()).order_by(col(AuditEvent.seq)).limit(_PAGE_ROWS)
        after = 0
        while True:
            with Session(self._engine) as session:
                page = [_record(row) for row in session.exec(query.where(col(AuditEvent.seq) > after))]
            yield from page
            if len(page) < _PAGE_ROWS:
                return
            after = page[-1].seq

    def export(self, wanted: AuditFilter | None = None) -> Iterator[str]:
        """The rows as JSON Lines, each with its line break. What is exported whole can be verified elsewhere."""
        for record in self.walk(wanted):
            yield to_line(record)

    def head(self) -> ChainHead:
        """Where the log ends now."""
        with Session(self._engine) as session:
            row = session.get(AuditHead, _HEAD_ID)
            return ChainHead() if row is None else ChainHead(row.seq, row.hash)

    def verify(self, *, known_hash: str | None = None) -> ChainVerdict:
        """Check the whole chain, as it is at one moment."""
        with Session(self._engine) as session:
            # One read transaction: rows and head belong together however much is written meanwhile.
            session.connection().exec_driver_sql("BEGIN")
            row = session.get(AuditHead, _HEAD_ID)
            head = ChainHead() if row is None else ChainHead(row.seq, row.hash)
            rows = session.exec(
                select(AuditEvent).order_by(col(AuditEvent.seq)).execution_options(yield_per=_PAGE_ROWS)
            )
            return verify_chain((_record(one) for one in rows), head, known_hash=known_hash)

    def trim(self, retention: Retention) -> int:
        """Let the oldest rows go, as ``retention`` says, and write a checkpoint that keeps the rest verifiable.

        Returns how many went. Nothing goes while the chain is broken: what is left of it is evidence.
        """
        with write_transaction(self._engine) as session:
            through = self._through(session, retention)
            if through is None or not self._is_whole(session):
                return 0
            rows = session.exec(select(func.count()).where(col(AuditEvent.seq) <= through.seq)).one()
            details = checkpoint_details(through.seq, through.hash, rows, "retention")
            self.append(session, SYSTEM, CHECKPOINT, None, details)
            session.exec(delete(AuditEvent).where(col(AuditEvent.seq) <= through.seq))
            return rows

    def _through(self, session: Session, retention: Retention) -> AuditEvent | None:
        """The last row that may go."""
        ends = []
        head = session.get(AuditHead, _HEAD_ID)
        if head is not None and retention.keep_rows is not None:
            ends.append(head.seq - retention.keep_rows)
        if retention.keep_bytes is not None:
            texts = (AuditEvent.actor_name, AuditEvent.action, AuditEvent.target, AuditEvent.details)
            size = sum((func.coalesce(func.length(text), 0) for text in texts), _ROW_BYTES)
            total = func.sum(size).over(order_by=col(AuditEvent.seq).desc()).label("total")
            sums = select(col(AuditEvent.seq).label("seq"), total).subquery()
            over = select(func.max(sums.c.seq)).where(sums.c.total > retention.keep_bytes)
            last = session.connection().execute(over).scalar()
            if last is not None:
                ends.append(int(last))
        if retention.keep_days is not None:
            oldest = self._now().timestamp() - retention.keep_days * 86_400
            limit = datetime.fromtimestamp(oldest, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
            # Rows in order of their numbers up to the first that is young enough: a clock that was once set back must
            # not make a hole.
            young = session.exec(select(func.min(AuditEvent.seq)).where(col(AuditEvent.at) >= limit)).one()
            newest = session.exec(select(func.max(AuditEvent.seq))).one()
            if newest is not None:
                ends.append((newest + 1 if young is None else young) - 1)
        return session.get(AuditEvent, max(ends)) if ends else None

    @staticmethod
    def _is_whole(session: Session) -> bool:
        row = session.get(AuditHead, _HEAD_ID)
        head = ChainHead() if row is None else ChainHead(row.seq, row.hash)
        rows = session.exec(select(AuditEvent).order_by(col(AuditEvent.seq)))
        return verify_chain((_record(one) for one in rows), head).is_whole


def to_line(record: AuditRecord) -> str:
    """One row as a line of JSON; ``details`` stays text, for it is hashed as that."""
    return json.dumps(asdict(record), ensure_ascii=True, separators=(",", ":")) + "\n"


def from_line(line: str) -> AuditRecord:
    """The row of an exported line. Raises ValueError for what is none."""
    try:
        return AuditRecord(**json.loads(line))
    except TypeError as error:
        raise ValueError("a line that is no row of the audit log") from error


def _filtered(wanted: AuditFilter) -> Any:
    query = select(AuditEvent)
    if wanted.action is not None:
        action = col(AuditEvent.action)
        is_family = wanted.action.endswith(".")
        query = query.where(action.startswith(wanted.action, autoescape=True) if is_family else action == wanted.action)
    if wanted.actor is not None:
        query = query.where(col(AuditEvent.actor_name) == wanted.actor)
    if wanted.target is not None:
        query = query.where(col(AuditEvent.target) == wanted.target)
    if wanted.since is not None:
        query = query.where(col(AuditEvent.at) >= _text(wanted.since))
    if wanted.until is not None:
        query = query.where(col(AuditEvent.at) < _text(wanted.until))
    return query


def _text(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _plain(text: str, length: int) -> str:
    """Text that a terminal can show: what came from outside must not move its cursor."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text[:length])


def _record(row: AuditEvent) -> AuditRecord:
    return AuditRecord(
        seq=row.seq,
        at=row.at,
        actor_kind=row.actor_kind,
        actor_name=row.actor_name,
        actor_id=row.actor_id,
        address=row.address,
        action=row.action,
        target=row.target,
        details=row.details,
        previous_hash=row.previous_hash,
        hash=row.hash,
    )
