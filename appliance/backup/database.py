"""Copies and checks of the SQLite database, beside a daemon that goes on writing to it."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

from sqlalchemy import Engine
from sqlmodel import Session

from appliance.backup.errors import StateDamaged
from appliance.store.database import open_database, write_transaction
from appliance.store.migrations import MIGRATIONS

_STEP_PAGES = 2_048
_BUSY_S = 20.0
_COUNTED = {"user": "users", "api_key": "keys", "chat": "chats", "chat_message": "messages"}


def copy_database(source: Path, target: Path, report: Callable[[int, int], None]) -> None:
    """Copy the database as it is at one moment to ``target``, by SQLite's backup API. Raises StateDamaged.

    The source's connection keeps one read transaction open meanwhile: with WAL writers go on beside it, and the copy is
    not begun anew at each of their commits, as it would be without (sqlite.org/c3ref/backup_finish.html).
    """
    try:
        with closing(_connect(source, "rw")) as old, closing(_connect(target, "rwc")) as new:
            old.execute("BEGIN")
            old.execute("SELECT count(*) FROM sqlite_master").fetchone()
            page_bytes = old.execute("PRAGMA page_size").fetchone()[0]

            def step(_status: int, remaining: int, total: int) -> None:
                report((total - remaining) * page_bytes, total * page_bytes)

            old.backup(new, pages=_STEP_PAGES, progress=step)
            old.execute("ROLLBACK")
            # One file, without a -wal beside it.
            new.execute("PRAGMA journal_mode = DELETE").fetchone()
    except sqlite3.DatabaseError as error:
        raise StateDamaged(problem=str(error)) from error
    problem = quick_check(target)
    if problem is not None:
        raise StateDamaged(problem=problem)


def quick_check(path: Path) -> str | None:
    """What SQLite finds wrong with the file; ``None`` when nothing."""
    try:
        with closing(_connect(path, "rw")) as database:
            found = [str(row[0]) for row in database.execute("PRAGMA quick_check(3)")]
    except sqlite3.DatabaseError as error:
        return str(error)
    return None if found == ["ok"] else "; ".join(" ".join(line.split()) for line in found)[:400]


def counts_of(path: Path) -> dict[str, int]:
    """How many rows the tables that people know have."""
    with closing(_connect(path, "rw")) as database:
        there = {row[0] for row in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        return {
            word: int(database.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0])  # noqa: S608 - our own names
            for name, word in _COUNTED.items()
            if name in there
        }


def revision_of(path: Path) -> str | None:
    """Alembic's revision. ``None`` for a database that is none of ours."""
    with closing(_connect(path, "rw")) as database:
        if database.execute("SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'").fetchone() is None:
            return None
        row = database.execute("SELECT version_num FROM alembic_version").fetchone()
        return None if row is None else str(row[0])


def is_known(revision: str | None) -> bool:
    """Whether this version can bring a database of that revision to its own."""
    return revision in {one.revision for one in MIGRATIONS}


def make_current(path: Path, scratch: Path) -> str | None:
    """Migrate the database to this version's revision, and compare its schema with that of a new one; what is wrong
    with it, or ``None``. ``scratch`` is a folder to make the new one in. Raises AppError of the store.

    A trigger or a view in a made-up backup would run when the daemon writes: whatever a new database does not have is
    refused.
    """
    open_database(path).dispose()
    fresh = scratch / "fresh.db"
    open_database(fresh).dispose()
    more = _schema(path) - _schema(fresh)
    for name in ("fresh.db", "fresh.db.lock", "fresh.db-wal", "fresh.db-shm"):
        (scratch / name).unlink(missing_ok=True)
    if more:
        shown = sorted(f"{kind} {name}" for kind, name, _ in more)
        return f"its database has what no box makes: {', '.join(shown)[:200]}"
    _alone(path)
    return None


def end_sessions(path: Path, after: Callable[[Engine, Session], object]) -> None:
    """End all sessions, which may have ended since: a logout is not undone. ``after`` adds to the same transaction."""
    engine = open_database(path)
    try:
        with write_transaction(engine) as session:
            session.connection().exec_driver_sql("DELETE FROM user_session")
            after(engine, session)
    finally:
        engine.dispose()
    _alone(path)


def _alone(path: Path) -> None:
    """Leave one file: no -wal, no lock."""
    path.with_name(path.name + ".lock").unlink(missing_ok=True)
    with closing(_connect(path, "rw")) as database:
        database.execute("PRAGMA journal_mode = DELETE").fetchone()


def _schema(path: Path) -> set[tuple[str, str, str]]:
    with closing(_connect(path, "rw")) as database:
        rows = database.execute("SELECT type, name, coalesce(sql, '') FROM sqlite_master").fetchall()
    found = {(str(kind), str(name), " ".join(str(sql).split())) for kind, name, sql in rows}
    # Statistics of ANALYZE may be there or not.
    return {one for one in found if not (one[0] == "table" and one[1].startswith("sqlite_stat"))}


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    """``mode``: rw or rwc (sqlite.org/uri.html). Not ro: a database in WAL mode wants its -shm made."""
    connection = sqlite3.connect(
        f"file:{quote(str(path))}?mode={mode}", uri=True, timeout=_BUSY_S, isolation_level=None
    )
    connection.execute("PRAGMA trusted_schema = OFF")
    return connection
