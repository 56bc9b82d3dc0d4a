"""Copies of the database from before it was migrated, so that an earlier version of R1 Box finds what it can read.

A copy is named after its revision: ``r1box.db.revision-0006``. It is made before the first migration that leads away
from that revision, by SQLite's own backup, whole or not at all. An installed box that goes back to its earlier system
takes the copy of that system's revision again and keeps the newer database beside it.
"""

from __future__ import annotations

import os
import re
import sqlite3
from contextlib import closing
from pathlib import Path

MOST_COPIES = 3
_REVISION = re.compile(r"[0-9A-Za-z_]{1,32}")


def copy_path(database: Path, revision: str) -> Path:
    """Where the copy of that revision lies."""
    return database.with_name(f"{database.name}.revision-{revision}")


def keep_copy(database: Path, revision: str) -> Path:
    """Copy the database, which has this revision; an older copy of the same revision is replaced. Raises
    sqlite3.Error, OSError."""
    target = copy_path(database, revision)
    temporary = target.with_name(f".{target.name}.new")
    temporary.unlink(missing_ok=True)
    os.close(os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    with closing(sqlite3.connect(database)) as source, closing(sqlite3.connect(temporary)) as copy:
        source.backup(copy)
    _into_place(temporary, target)
    copies = sorted(database.parent.glob(f"{database.name}.revision-*"), key=lambda path: path.stat().st_mtime)
    for old in copies[:-MOST_COPIES]:
        old.unlink()
    return target


def take_back(database: Path, known: tuple[str, ...]) -> str | None:
    """Where the database is of a newer version and there is a copy that this version reads: put the copy in its place
    and keep the newer one as ``r1box.db.newer-REVISION``. The copy's revision, or None when nothing was done.

    ``known`` are this version's revisions, oldest first. Only for whoever is sure that nobody else has the database
    open. Raises sqlite3.Error, OSError.
    """
    found = _revision(database)
    if found is None or found in known or not _REVISION.fullmatch(found):
        return None
    copies = [revision for revision in reversed(known) if copy_path(database, revision).is_file()]
    if not copies:
        return None
    with closing(sqlite3.connect(database)) as newer:
        # Everything into the one file; SQLite takes the log away when the last one closes.
        newer.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    copy = copy_path(database, copies[0])
    temporary = database.with_name(f".{database.name}.back")
    temporary.write_bytes(copy.read_bytes())
    temporary.chmod(0o600)
    aside = database.with_name(f"{database.name}.newer-{found}")
    aside.unlink(missing_ok=True)
    # A second name first: at no moment is there no database.
    os.link(database, aside)
    for log in ("-wal", "-shm"):
        database.with_name(database.name + log).unlink(missing_ok=True)
    _into_place(temporary, database)
    return copies[0]


def _revision(database: Path) -> str | None:
    if not database.is_file():
        return None
    try:
        with closing(sqlite3.connect(database)) as connection:
            row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    except sqlite3.Error:
        return None
    return None if row is None else str(row[0])


def _into_place(temporary: Path, target: Path) -> None:
    for path in (temporary, target.parent):
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(handle)
            if path == temporary:
                temporary.replace(target)
        finally:
            os.close(handle)
