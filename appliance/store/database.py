"""Opening the SQLite database: safe for several processes, readable by this user alone, migrated before use."""

from __future__ import annotations

import fcntl
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Engine, create_engine, event
from sqlalchemy.exc import DatabaseError
from sqlmodel import Session

from appliance.store.copies import keep_copy, take_back
from appliance.store.errors import DatabaseBusy, DatabaseUnusable
from appliance.store.migrations import MIGRATIONS
from appliance.store.upgrade import outdated_revision, upgrade

_BUSY_TIMEOUT_MS = 5_000
_LOCK_TIMEOUT_S = 60.0
_LOCK_POLL_S = 0.02


def open_database(path: Path) -> Engine:
    """An engine on the database, which is created or migrated first. ``dispose()`` it when done.

    The daemon and the command line may do this at the same moment: a lock file lets one go first (two processes that
    switch a fresh file to WAL at once can both get SQLITE_BUSY in spite of a busy timeout).
    Raises DatabaseTooNew, DatabaseUnusable, DatabaseBusy.
    """
    engine = _make_engine(path)
    try:
        with _exclusive(path):
            # SQLite gives -wal and -shm the mode of the database itself.
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            with engine.connect() as connection:
                connection.exec_driver_sql("PRAGMA journal_mode = WAL")
            old = outdated_revision(engine)
            if old is not None:
                keep_copy(path, old)
            upgrade(engine)
    except (DatabaseError, sqlite3.Error, OSError) as error:
        engine.dispose()
        raise DatabaseUnusable(path=str(path), reason=_reason(error)) from error
    except BaseException:
        engine.dispose()
        raise
    return engine


@contextmanager
def write_transaction(engine: Engine) -> Iterator[Session]:
    """A transaction that holds the database's write lock from its first statement on, committed at the block's end.

    What it reads is still so when it writes: another process (the command line beside the daemon) waits meanwhile.
    Raises OperationalError when the lock is not to be had within the busy timeout.
    """
    with Session(engine) as session:
        session.connection().exec_driver_sql("BEGIN IMMEDIATE")
        yield session
        session.commit()


def _make_engine(path: Path) -> Engine:
    engine = create_engine(URL.create("sqlite", database=str(path)), pool_size=4, max_overflow=12)

    @event.listens_for(engine, "connect")
    def set_up(connection: Any, record: Any) -> None:
        del record
        assert isinstance(connection, sqlite3.Connection)
        connection.execute(f"PRAGMA busy_timeout = {_BUSY_TIMEOUT_MS}")
        connection.execute("PRAGMA foreign_keys = ON")
        # With WAL a power cut can lose the last commits but never damages the file (sqlite.org/pragma.html).
        connection.execute("PRAGMA synchronous = NORMAL")
        # What people delete is overwritten, not only unlinked.
        connection.execute("PRAGMA secure_delete = ON")

    return engine


@contextmanager
def _exclusive(path: Path) -> Iterator[None]:
    descriptor = os.open(path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        deadline = time.monotonic() + _LOCK_TIMEOUT_S
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise DatabaseBusy(path=str(path), waited_s=int(_LOCK_TIMEOUT_S)) from None
                time.sleep(_LOCK_POLL_S)
        yield
    finally:
        os.close(descriptor)  # also gives the lock back


def go_back(path: Path) -> str | None:
    """For the daemon of a box that may have gone back to its earlier system: where the database is of a newer version
    and a copy from before its migration is there, take the copy. Its revision; None when nothing was done. Raises
    DatabaseUnusable, DatabaseBusy."""
    try:
        with _exclusive(path):
            return take_back(path, tuple(one.revision for one in MIGRATIONS))
    except (sqlite3.Error, OSError) as error:
        raise DatabaseUnusable(path=str(path), reason=_reason(error)) from error


def _reason(error: DatabaseError | sqlite3.Error | OSError) -> str:
    if isinstance(error, OSError):
        return (error.strerror or type(error).__name__).lower()
    return str(error.orig) if isinstance(error, DatabaseError) else str(error)
