"""Deleted is deleted: not in the tables, not in the index, not in the files."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from sqlalchemy import Engine

from appliance.chats.purge import purge
from appliance.chats.repository import utc_now
from tests.appliance.chats.notes import OWNER, Notes

SECRET = "Zyklotronwartungsvertrag"


def everywhere(folder: Path) -> bytes:
    """All bytes of the database and its log."""
    return b"".join(file.read_bytes() for file in sorted(folder.glob("r1box.db*")))


def terms(engine: Engine) -> set[str]:
    """What is in the search index, deleted or not: its segments are read, not its answers."""
    with engine.connect() as connection:
        rows = connection.exec_driver_sql("SELECT block FROM chat_search_data")
        return {SECRET[start : start + 3].lower() for row in rows for start in range(20) if _holds(row[0], start)}


def _holds(block: bytes, start: int) -> bool:
    # FTS5 leaves out what a term has in common with the one before it; of most trigrams the last two letters stay.
    return SECRET[start + 1 : start + 3].lower().encode() in block


def test_what_was_deleted_is_nowhere(engine: Engine, tmp_path: Path) -> None:
    notes = Notes(engine)
    kept = notes.chat("0123456789" * 20, "98765 43210").id
    gone = notes.chat(f"Send the {SECRET}!", f"Here: {SECRET}", title=f"On {SECRET}").id
    assert SECRET.encode() in everywhere(tmp_path)
    assert notes.found(SECRET) == [gone]
    assert notes.chats.delete(OWNER, [gone]) == 1
    assert notes.found(SECRET) == []
    assert purge(engine)
    assert SECRET.encode() not in everywhere(tmp_path)
    assert terms(engine) == set()
    assert notes.found("12345") == [kept]
    with engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM chat_message").scalar() == 2
        assert connection.exec_driver_sql("SELECT count(*) FROM chat_purge").scalar() == 0
        connection.exec_driver_sql("INSERT INTO chat_search(chat_search, rank) VALUES ('integrity-check', 1)")


def test_a_purge_that_was_disturbed_is_tried_again(engine: Engine) -> None:
    notes = Notes(engine)
    chat_id = notes.chat("a question").id
    with engine.connect() as reader:
        reader.exec_driver_sql("BEGIN")
        reader.exec_driver_sql("SELECT count(*) FROM chat").scalar()  # holds the log's pages
        notes.chats.delete(OWNER, [chat_id])
        assert not purge(engine, patience_ms=1)
        reader.exec_driver_sql("ROLLBACK")
    assert purge(engine)
    assert purge(engine), "nothing to do"


def test_old_chats_go_pinned_or_not(engine: Engine) -> None:
    notes = Notes(engine)
    ids = [notes.chat(f"needle {number}").id for number in range(3)]
    notes.chats.change(OWNER, ids[0], pinned=True)
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE chat SET updated_at = '2020-01-01 00:00:00.000000' WHERE id < ?", (ids[2],))
    assert notes.chats.expire(utc_now() - timedelta(days=30)) == 2
    assert notes.found("needle") == [ids[2]]


def test_ids_are_not_given_again(engine: Engine) -> None:
    notes = Notes(engine)
    first = notes.chat("one")
    notes.chats.delete(OWNER, [first.id])
    assert notes.chat("two").id > first.id
