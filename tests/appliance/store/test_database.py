from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Engine, create_engine
from sqlalchemy.exc import DatabaseError
from sqlmodel import SQLModel

from appliance.errors import AppError
from appliance.store import chat_tables, migrations, tables
from appliance.store.database import open_database
from appliance.store.errors import DatabaseTooNew, DatabaseUnusable
from appliance.store.upgrade import current_revision, upgrade


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "r1box.db"


@pytest.fixture
def engine(path: Path) -> Iterator[Engine]:
    engine = open_database(path)
    yield engine
    engine.dispose()


def differences(engine: Engine) -> list[object]:
    assert tables.ApiKey.metadata is chat_tables.Chat.metadata is SQLModel.metadata

    def has_class(name: str | None, kind: str, parents: object) -> bool:
        """The search index and the tables that FTS5 keeps it in have none."""
        return not (kind == "table" and name is not None and name.startswith("chat_search"))

    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection,
            opts={
                "compare_type": True,
                "compare_server_default": True,
                "target_metadata": SQLModel.metadata,
                "include_name": has_class,
            },
        )
        return list(compare_metadata(context, SQLModel.metadata))


def test_new_database_has_the_tables_of_the_code(engine: Engine) -> None:
    assert differences(engine) == []
    with engine.connect() as connection:
        assert current_revision(connection) == migrations.HEAD


@pytest.mark.parametrize("revision", [module.revision for module in migrations.MIGRATIONS])
def test_upgrade_from_each_revision(path: Path, revision: str) -> None:
    engine = create_engine(f"sqlite:///{path}")
    upgrade(engine, revision)
    with engine.connect() as connection:
        assert current_revision(connection) == revision
    engine.dispose()
    engine = open_database(path)
    assert differences(engine) == []
    engine.dispose()


def test_migrations_form_one_line() -> None:
    expected = None
    for module in migrations.MIGRATIONS:
        assert module.down_revision == expected
        expected = module.revision


def test_pragmas_hold_on_every_connection(engine: Engine) -> None:
    with engine.connect() as first, engine.connect() as second:
        for connection in (first, second):
            values = [
                connection.exec_driver_sql(f"PRAGMA {name}").scalar()
                for name in ("journal_mode", "foreign_keys", "synchronous", "busy_timeout")
            ]
            assert values == ["wal", 1, 1, 5000]


def test_files_are_for_this_user_alone(engine: Engine, path: Path) -> None:
    with engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM api_key")
    files = sorted(path.parent.iterdir())
    assert {file.name for file in files} >= {"r1box.db", "r1box.db-wal", "r1box.db.lock"}
    assert {file.stat().st_mode & 0o777 for file in files} == {0o600}


def test_newer_database_is_refused_and_left_alone(engine: Engine, path: Path) -> None:
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(DatabaseTooNew, match="9999"):
        open_database(path)
    with engine.connect() as connection:
        assert current_revision(connection) == "9999"


def test_failed_migration_leaves_nothing_behind(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = migrations.MIGRATIONS[-1]
    original = module.upgrade

    def broken() -> None:
        original()
        raise RuntimeError("power cut")

    monkeypatch.setattr(module, "upgrade", broken)
    with pytest.raises(RuntimeError, match="power cut"):
        open_database(path)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM sqlite_master WHERE name = 'api_key'").fetchone() == (0,)
    monkeypatch.undo()
    engine = open_database(path)
    assert differences(engine) == []
    engine.dispose()


@pytest.mark.parametrize("content", [b"not a database at all, but long enough to be looked at" * 40])
def test_file_that_is_not_a_database(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(DatabaseUnusable, match="not a database"):
        open_database(path)
    assert path.read_bytes() == content


def test_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DatabaseUnusable, match="no such file"):
        open_database(tmp_path / "none" / "r1box.db")


def test_path_with_odd_characters(tmp_path: Path) -> None:
    path = tmp_path / "a?b=%20 c#d" / "r1box.db"
    path.parent.mkdir()
    open_database(path).dispose()
    assert path.is_file()


def test_many_openers_at_once(path: Path) -> None:
    together = threading.Barrier(6)
    failures: list[Exception] = []

    def open_it() -> None:
        together.wait()
        try:
            engine = open_database(path)
            with engine.connect() as connection:
                assert current_revision(connection) == migrations.HEAD
            engine.dispose()
        except (AppError, DatabaseError, sqlite3.Error) as error:
            failures.append(error)

    threads = [threading.Thread(target=open_it) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_two_processes_at_once(path: Path) -> None:
    program = (
        "import sys, pathlib; from appliance.store.database import open_database\n"
        "open_database(pathlib.Path(sys.argv[1])).dispose()"
    )
    running = [subprocess.Popen([sys.executable, "-c", program, str(path)], stderr=subprocess.PIPE) for _ in range(2)]
    assert [(process.communicate()[1], process.returncode) for process in running] == [(b"", 0), (b"", 0)]


def test_alembic_stays_out_when_there_is_nothing_to_do(engine: Engine, path: Path) -> None:
    program = (
        "import sys, pathlib; from appliance.store.database import open_database\n"
        "open_database(pathlib.Path(sys.argv[1])).dispose()\n"
        "print([name for name in sys.modules if name.split('.')[0] == 'alembic'])"
    )
    done = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
