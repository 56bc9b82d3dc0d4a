"""The audit log: whatever is done to its rows behind its back is found, and what may go goes without a break."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine

from appliance.security.audit import AuditFilter, AuditLog, Retention, from_line, to_line
from appliance.security.audit_chain import (
    CHECKPOINT,
    GENESIS_HASH,
    AuditRecord,
    ChainHead,
    canonical,
    record_hash,
    verify_chain,
)
from appliance.security.identity import SYSTEM, Actor
from appliance.store.database import open_database, write_transaction

LI = Actor(kind="user", name="li", id=3, address="192.0.2.4")


class Clock:
    def __init__(self) -> None:
        self.now = datetime(2026, 11, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        self.now += timedelta(hours=1)
        return self.now


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = open_database(tmp_path / "r1box.db")
    yield engine
    engine.dispose()


@pytest.fixture
def log(engine: Engine) -> AuditLog:
    return AuditLog(engine, Clock())


def fill(log: AuditLog, count: int) -> None:
    for number in range(count):
        log.record(LI, "key.create", f"key {number}", {"n": number, "text": "\u4f60\u597d \ud83d\ude00"})


def chain(count: int) -> list[AuditRecord]:
    rows: list[AuditRecord] = []
    for seq in range(1, count + 1):
        unhashed = AuditRecord(
            seq=seq,
            at=f"2026-11-{seq:02}T00:00:00.000Z",
            actor_kind="user",
            actor_name="li",
            actor_id=3,
            address=None,
            action="key.create",
            target="a",
            details=canonical({"n": seq}),
            previous_hash=rows[-1].hash if rows else GENESIS_HASH,
            hash="",
        )
        rows.append(replace(unhashed, hash=record_hash(unhashed)))
    return rows


CHANGES: dict[str, Any] = {
    "seq": lambda v: v + 1,
    "at": lambda v: v.replace("2026", "2027"),
    "actor_kind": lambda v: "key",
    "actor_name": lambda v: v + "x",
    "actor_id": lambda v: None,
    "address": lambda v: "10.0.0.1",
    "action": lambda v: "key.revoke",
    "target": lambda v: None,
    "details": lambda v: v.replace(":", ": "),
    "previous_hash": lambda v: "1" * 64,
    "hash": lambda v: v[::-1],
}


@given(st.integers(2, 25), st.data())
@settings(max_examples=200, deadline=None)
def test_every_change_of_rows_is_found(count: int, data: st.DataObject) -> None:
    rows = chain(count)
    head = ChainHead(rows[-1].seq, rows[-1].hash)
    assert verify_chain(rows, head).is_whole
    assert verify_chain(rows, head, known_hash=data.draw(st.sampled_from(rows)).hash).is_whole
    place = data.draw(st.integers(0, count - 1))
    how = data.draw(st.sampled_from(["change", "remove", "swap", "repeat", "cut", "forge"]))
    broken = list(rows)
    if how == "change":
        name = data.draw(st.sampled_from(sorted(CHANGES)))
        broken[place] = replace(rows[place], **{name: CHANGES[name](getattr(rows[place], name))})
    elif how == "remove":
        del broken[place]
    elif how == "swap":
        other = data.draw(st.integers(0, count - 1).filter(lambda n: n != place))
        broken[place], broken[other] = broken[other], broken[place]
    elif how == "repeat":
        broken.insert(place, rows[place])
    elif how == "cut":
        broken = broken[:place]
    else:  # with a new hash of its own: the next row, or the head, tells
        forged = replace(rows[place], target="b")
        broken[place] = replace(forged, hash=record_hash(forged))
    verdict = verify_chain(broken, head)
    assert not verdict.is_whole
    assert verdict.problem


def test_every_field_is_in_the_hash() -> None:
    row = chain(1)[0]
    for name, change in CHANGES.items():
        if name != "hash":
            assert record_hash(replace(row, **{name: change(getattr(row, name))})) != row.hash, name


def test_a_chain_made_anew_is_betrayed_by_a_kept_hash() -> None:
    kept = chain(3)[-1].hash
    others = chain(4)
    forged = [replace(others[0], target="other")]
    forged[0] = replace(forged[0], hash=record_hash(forged[0]))
    assert verify_chain(forged, ChainHead(1, forged[0].hash)).is_whole
    assert not verify_chain(forged, ChainHead(1, forged[0].hash), known_hash=kept).is_whole


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE audit_event SET actor_name = 'nobody' WHERE seq = 3",
        "UPDATE audit_event SET details = '{}' WHERE seq = 3",
        "DELETE FROM audit_event WHERE seq = 3",
        "DELETE FROM audit_event WHERE seq = 1",
        "DELETE FROM audit_event WHERE seq = 6",
        "DELETE FROM audit_event",
        "UPDATE audit_event SET seq = seq + 10 WHERE seq > 3",
        "UPDATE audit_head SET seq = 5",
    ],
)
def test_what_is_done_in_the_database_is_found(log: AuditLog, engine: Engine, sql: str) -> None:
    fill(log, 6)
    assert log.verify().is_whole
    with engine.begin() as connection:
        connection.exec_driver_sql(sql)
    verdict = log.verify()
    assert not verdict.is_whole
    assert log.trim(Retention(keep_rows=1)) == 0


def test_export_is_verified_elsewhere(log: AuditLog) -> None:
    fill(log, 5)
    lines = list(log.export())
    assert all(line.isascii() and line.endswith("\n") for line in lines)
    records = [from_line(line) for line in lines]
    assert [to_line(record) for record in records] == lines
    assert verify_chain(records, None).is_whole
    assert not verify_chain(records[:2] + records[3:], None).is_whole
    assert not verify_chain(records[1:], None).is_whole
    with pytest.raises(ValueError, match="no row"):
        from_line("{}")


@pytest.mark.parametrize(
    ("retention", "left"), [(Retention(keep_rows=4), 4), (Retention(keep_days=1), 24), (Retention(), 30)]
)
def test_what_is_old_goes_and_the_rest_is_whole(log: AuditLog, retention: Retention, left: int) -> None:
    fill(log, 30)
    before = log.head()
    assert log.trim(retention) == 30 - left
    verdict = log.verify()
    assert verdict.is_whole
    if left < 30:
        assert verdict.rows == left + 1
        assert log.list(limit=1)[0].action == CHECKPOINT
    assert log.verify(known_hash=before.hash).is_whole
    fill(log, 3)
    log.trim(Retention(keep_rows=2))
    assert log.verify().is_whole
    log.trim(Retention(keep_rows=1))
    assert log.verify().is_whole


def test_a_checkpoint_does_not_excuse_more_than_it_says(log: AuditLog, engine: Engine) -> None:
    fill(log, 10)
    log.trim(Retention(keep_rows=5))
    with engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM audit_event WHERE seq = 6")
    assert not log.verify().is_whole


def test_rows_and_what_they_tell_about_come_together(log: AuditLog, engine: Engine) -> None:
    def broken() -> None:
        with write_transaction(engine) as session:
            log.append(session, LI, "key.create")
            raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        broken()
    assert log.list() == ()
    assert log.head() == ChainHead()


def test_filters_and_pages(log: AuditLog) -> None:
    fill(log, 3)
    log.record(SYSTEM, "user.create", "li")
    log.record(SYSTEM, "keynote", "li")
    assert [row.seq for row in log.list(limit=2)] == [5, 4]
    assert [row.seq for row in log.list(before_seq=4, limit=2)] == [3, 2]
    assert [row.seq for row in log.list(AuditFilter(action="key."))] == [3, 2, 1]
    assert [row.seq for row in log.list(AuditFilter(actor="r1box"))] == [5, 4]
    assert [row.seq for row in log.list(AuditFilter(since=datetime(2026, 11, 1, 4, tzinfo=UTC)))] == [5, 4]
    assert [row.seq for row in log.list(AuditFilter(until=datetime(2026, 11, 1, 2, tzinfo=UTC)))] == [1]


def test_names_from_outside_move_no_cursor(log: AuditLog) -> None:
    row = log.record(Actor(kind="nobody", name="", address="::1"), "session.login_failed", "\x1b[2J\u202eevil\n" * 50)
    assert row.target is not None
    assert row.target.isprintable()
    assert len(row.target) <= 256
    assert log.verify().is_whole


@pytest.mark.parametrize("details", [{"x": object()}, {"x": float("nan")}, {"x": "y" * 9_000}])
def test_details_are_json_of_a_sane_size(log: AuditLog, details: dict[str, Any]) -> None:
    with pytest.raises((TypeError, ValueError)):
        log.record(SYSTEM, "x", None, details)
    assert log.list() == ()


def test_two_processes_make_one_chain(engine: Engine, log: AuditLog, tmp_path: Path) -> None:
    program = (
        "import sys, pathlib\n"
        "from appliance.store.database import open_database\n"
        "from appliance.security.audit import AuditLog\n"
        "from appliance.security.keys import KeyRepository\n"
        "engine = open_database(pathlib.Path(sys.argv[1]))\n"
        "log, keys = AuditLog(engine), KeyRepository(engine)\n"
        "for n in range(25):\n"
        "    keys.create(f'{sys.argv[2]}-{n}')\n"
    )
    path = str(tmp_path / "r1box.db")
    running = [
        subprocess.Popen([sys.executable, "-c", program, path, name], stderr=subprocess.PIPE) for name in ("a", "b")
    ]
    fill(log, 25)
    assert [(process.communicate()[1], process.returncode) for process in running] == [(b"", 0), (b"", 0)]
    verdict = log.verify()
    assert verdict.is_whole
    assert verdict.rows == 75


def test_the_oldest_rows_go_when_there_are_too_many_bytes(engine: Engine) -> None:
    log = AuditLog(engine)
    for number in range(100):
        log.record(SYSTEM, "test.row", None, {"text": "x" * 700, "number": number})
    assert log.trim(Retention(keep_bytes=200_000)) == 0
    gone = log.trim(Retention(keep_bytes=50_000))
    assert 45 < gone < 55
    assert log.verify().is_whole
    assert json.loads(log.list()[1].details)["number"] == 99
