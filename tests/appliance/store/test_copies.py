"""The database before and after an update, and after going back: real migrations, real files."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from sqlalchemy import create_engine

from appliance.security.keys import Grant, KeyRepository
from appliance.store import database as opening
from appliance.store import migrations
from appliance.store.copies import MOST_COPIES, copy_path, keep_copy
from appliance.store.database import go_back, open_database
from appliance.store.errors import DatabaseTooNew, DatabaseUnusable
from appliance.store.migrations import HEAD, MIGRATIONS, Migration
from appliance.store.upgrade import upgrade


def names(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as connection:
        return [row[0] for row in connection.execute("SELECT name FROM api_key ORDER BY id")]


def add(path: Path, name: str) -> None:
    engine = open_database(path)
    KeyRepository(engine).create(name, Grant())
    engine.dispose()


def newer_version(monkeypatch: pytest.MonkeyPatch) -> None:
    """The code of the next release: one migration more."""
    from alembic import op

    more = SimpleNamespace(
        __name__="m9999_next",
        revision="9999_next",
        down_revision=HEAD,
        upgrade=lambda: op.execute("CREATE TABLE of_the_next_version (id INTEGER)"),
    )
    monkeypatch.setattr(migrations, "MIGRATIONS", (*MIGRATIONS, cast("Migration", more)))
    monkeypatch.setattr(migrations, "HEAD", "9999_next")


def test_a_new_database_and_one_that_is_up_to_date_are_not_copied(tmp_path: Path) -> None:
    path = tmp_path / "r1box.db"
    for _ in range(2):
        open_database(path).dispose()
    assert list(tmp_path.glob("*.revision-*")) == []


def test_forwards_with_a_copy_and_back_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "r1box.db"
    add(path, "before")
    with monkeypatch.context() as newer:
        newer_version(newer)
        add(path, "of the new version")
    copy = copy_path(path, HEAD)
    assert copy.stat().st_mode & 0o777 == 0o600
    assert names(copy) == ["before"]

    with pytest.raises(DatabaseTooNew):
        open_database(path)
    assert go_back(path) == HEAD
    assert names(path) == ["before"]
    aside = tmp_path / "r1box.db.newer-9999_next"
    assert names(aside) == ["before", "of the new version"]
    add(path, "afterwards")
    assert go_back(path) is None
    assert names(path) == ["before", "afterwards"]
    # The update again, later.
    newer_version(monkeypatch)
    open_database(path).dispose()
    assert names(path) == ["before", "afterwards"]
    assert names(copy) == ["before", "afterwards"]


def test_without_a_copy_nothing_is_touched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "r1box.db"
    with monkeypatch.context() as newer:
        newer_version(newer)
        add(path, "kept")
    before = path.read_bytes()
    assert go_back(path) is None
    assert path.read_bytes() == before
    with pytest.raises(DatabaseTooNew):
        open_database(path)
    assert go_back(tmp_path / "none.db") is None
    (tmp_path / "none.db").write_bytes(b"no database at all")
    assert go_back(tmp_path / "none.db") is None


def test_a_copy_that_cannot_be_made_stops_the_migration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "r1box.db"
    add(path, "before")
    newer_version(monkeypatch)

    def full(database: Path, revision: str) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(opening, "keep_copy", full)
    with pytest.raises(DatabaseUnusable, match="no space left"):
        open_database(path)
    assert names(path) == ["before"]
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT version_num FROM alembic_version").fetchone() == (HEAD,)


def test_old_copies_go(tmp_path: Path) -> None:
    path = tmp_path / "r1box.db"
    engine = create_engine(f"sqlite:///{path}")
    upgrade(engine)
    engine.dispose()
    for number in range(MOST_COPIES + 2):
        keep_copy(path, f"{number:04}")
    assert len(list(tmp_path.glob("r1box.db.revision-*"))) == MOST_COPIES
    assert copy_path(path, f"{MOST_COPIES + 1:04}").is_file()
