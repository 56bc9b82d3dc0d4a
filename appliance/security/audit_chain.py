"""The chain of the audit log: each row's hash covers the hash before it. Pure functions of values.

A row's hash is SHA-256 over the previous row's hash (64 hexadecimal characters), a line break, and the row without its
two hashes as canonical JSON: keys sorted, no spaces, ASCII. So a row that is changed, removed, put in or moved breaks
the chain where it was; the head, kept apart, shows rows missing at the end.

Old rows may go: what removes rows 1 to N first writes a checkpoint row (``CHECKPOINT``) at the chain's end, with N and
the hash of row N. A log that begins at row N + 1 is whole when such a checkpoint is in it.

What this cannot do: someone who can write the database file can compute a new chain. Keep exports, or the head's hash,
elsewhere (``verify_chain`` takes a known hash).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

GENESIS_HASH = "0" * 64
CHECKPOINT = "audit.checkpoint"


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditRecord:
    """A row of the log. ``at`` is RFC 3339 in UTC, ``details`` canonical JSON of an object."""

    seq: int
    at: str
    actor_kind: str
    actor_name: str
    actor_id: int | None
    address: str | None
    action: str
    target: str | None
    details: str
    previous_hash: str
    hash: str


@dataclass(frozen=True, slots=True)
class ChainHead:
    """Where the log ends: number and hash of its last row."""

    seq: int = 0
    hash: str = GENESIS_HASH


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainVerdict:
    """What a verification found. ``broken_seq`` is the first row that is wrong or missing, ``problem`` says how;
    both are None for a whole log. ``head_hash`` is the last row's."""

    rows: int
    first_seq: int | None
    last_seq: int | None
    head_hash: str
    broken_seq: int | None = None
    problem: str | None = None

    @property
    def is_whole(self) -> bool:
        return self.problem is None


def canonical(value: Any) -> str:
    """JSON that is the same for the same value. Raises TypeError, ValueError for what JSON has not."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def record_hash(record: AuditRecord) -> str:
    """The hash that the row should have."""
    body = {
        "seq": record.seq,
        "at": record.at,
        "actor": {
            "kind": record.actor_kind,
            "name": record.actor_name,
            "id": record.actor_id,
            "address": record.address,
        },
        "action": record.action,
        "target": record.target,
        "details": record.details,
    }
    return hashlib.sha256(f"{record.previous_hash}\n{canonical(body)}".encode("ascii")).hexdigest()


def verify_chain(
    records: Iterable[AuditRecord], head: ChainHead | None, *, known_hash: str | None = None
) -> ChainVerdict:
    """Check rows in the order of their numbers, from the first that is there.

    ``head`` is where the log should end, None for an export, which has none. With ``known_hash`` a row with that hash
    (or, for a log whose older rows have gone, a checkpoint with it) must be among them.
    """
    rows = 0
    first: AuditRecord | None = None
    last: AuditRecord | None = None
    checkpoints: set[tuple[int, str]] = set()
    is_known = known_hash is None

    def verdict(broken_seq: int | None = None, problem: str | None = None) -> ChainVerdict:
        return ChainVerdict(
            rows=rows,
            first_seq=None if first is None else first.seq,
            last_seq=None if last is None else last.seq,
            head_hash=GENESIS_HASH if last is None else last.hash,
            broken_seq=broken_seq,
            problem=problem,
        )

    for record in records:
        if last is not None and record.seq != last.seq + 1:
            return verdict(last.seq + 1, f"after row {last.seq} comes row {record.seq}")
        if last is not None and record.previous_hash != last.hash:
            return verdict(record.seq, f"row {record.seq} does not follow from row {last.seq}")
        if record.hash != record_hash(record):
            return verdict(record.seq, f"row {record.seq} was changed")
        if record.action == CHECKPOINT:
            checkpoints.add(_checkpoint_of(record))
        rows += 1
        is_known = is_known or record.hash == known_hash
        first, last = first or record, record
    if first is not None and (first.seq - 1, first.previous_hash) not in checkpoints | {(0, GENESIS_HASH)}:
        return verdict(first.seq - 1, f"the log begins with row {first.seq}, and no checkpoint says why")
    if head is not None and head != ChainHead(
        0 if last is None else last.seq, GENESIS_HASH if last is None else last.hash
    ):
        return verdict(head.seq, f"the log should end with row {head.seq} and its known hash")
    if not is_known and known_hash not in {hash_ for _, hash_ in checkpoints}:
        return verdict(None, "no row has the hash that was kept elsewhere")
    return verdict()


def checkpoint_details(through_seq: int, through_hash: str, rows: int, reason: str) -> dict[str, Any]:
    """What a checkpoint row says about the rows that go."""
    return {"through_seq": through_seq, "through_hash": through_hash, "rows": rows, "reason": reason}


def _checkpoint_of(record: AuditRecord) -> tuple[int, str]:
    details = json.loads(record.details)
    return int(details["through_seq"]), str(details["through_hash"])
