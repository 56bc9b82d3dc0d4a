"""Whether the watch sees every commit, whoever makes it, and nothing else."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from sqlmodel import Session

from appliance.store.changes import ChangeWatch
from appliance.store.database import open_database, write_transaction


def test_commits_of_any_connection_change_the_number(tmp_path: Path) -> None:
    path = tmp_path / "r1box.db"
    engine = open_database(path)
    watch = ChangeWatch(engine)
    before = watch.version()
    assert before is not None
    with Session(engine) as session:
        session.connection().exec_driver_sql("SELECT * FROM api_key").all()
    assert watch.version() == before
    with write_transaction(engine) as session:
        session.connection().exec_driver_sql("CREATE TABLE t (x)")
        assert watch.version() == before, "not yet committed"
    second = watch.version()
    assert second != before
    # As another process does it, also while the watch's owner does nothing.
    with closing(sqlite3.connect(path)) as other:
        other.execute("INSERT INTO t VALUES (1)")
        other.commit()
        third = watch.version()
        assert third != second
        other.execute("DELETE FROM t")
        other.rollback()
        assert watch.version() == third
    engine.dispose()
    assert watch.version() is None
    watch.close()
