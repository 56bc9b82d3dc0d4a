"""Backups of real states: they come back whole, of older versions too, and what is wrong changes nothing."""

from __future__ import annotations

import os
import sqlite3
import threading
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from sqlalchemy import create_engine

from appliance.backup import create as creating
from appliance.backup.create import SUFFIX
from appliance.backup.database import copy_database
from appliance.backup.disk import RealDisk
from appliance.backup.errors import (
    BackupDamaged,
    BackupNoRoom,
    BackupTargetUnusable,
    BackupTooNew,
    BackupUnreadable,
    PassphraseMissing,
    StateDamaged,
    WrongPassphrase,
)
from appliance.backup.folder import NIGHTLY, list_backups, prune
from appliance.backup.key import derive, load_key, save_key
from appliance.backup.pending import finish_pending
from appliance.backup.restore import check_backup, stage_backup
from appliance.backup.swap import Swap
from appliance.errors import AppError
from appliance.security.audit import AuditLog
from appliance.security.identity import SYSTEM
from appliance.settings_store import to_toml
from appliance.store.database import open_database
from appliance.store.migrations import HEAD
from appliance.store.upgrade import upgrade
from tests.appliance.backup.states import (
    KEY,
    PASSPHRASE,
    backup_of,
    entries,
    everything,
    make_state,
    order,
    staged,
)

NAMES = st.from_regex(r"[a-zäöü王小明][a-z0-9王]{0,12}", fullmatch=True)


@given(
    users=st.lists(NAMES, max_size=3, unique_by=str.casefold),
    keys=st.lists(st.from_regex(r"[a-z][a-z0-9-]{0,20}", fullmatch=True), max_size=3, unique=True),
    usage=st.lists(st.tuples(NAMES, st.text(max_size=200)), max_size=3),
    files=st.dictionaries(
        st.sampled_from(["tls/server.crt", "tls/server.key", "tls/authority.crt", "trusted-keys/a.pub"]),
        st.binary(max_size=2_000),
    ),
    waiting=st.one_of(st.none(), st.integers(0, 1_000)),
)
# Not shrunk: each try takes some tenths of a second.
@settings(
    max_examples=8,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow],
)
def test_any_state_comes_back(
    tmp_path_factory: pytest.TempPathFactory,
    users: list[str],
    keys: list[str],
    usage: list[tuple[str, str]],
    files: dict[str, bytes],
    waiting: int | None,
) -> None:
    root = tmp_path_factory.mktemp("states")
    old = make_state(root / "old", users=tuple(users), keys=tuple(keys))
    with closing(sqlite3.connect(old / "r1box.db")) as database, database:
        for number, (name, text) in enumerate(usage):
            row = (f"2026-11-{len(text) % 28 + 1:02}", name, str(number), text[:60])
            database.execute("INSERT INTO usage_day VALUES (?, ?, ?, ?, NULL, NULL, 1, 0, 1, 0, 0, 1, 0.5, 1.5)", row)
    for name, data in files.items():
        (old / name).write_bytes(data)
    if waiting is None:
        (old / "settings.toml").unlink()
    else:
        (old / "settings.toml").write_text(to_toml({"max_waiting": waiting}))
    before = everything(old)
    made = backup_of(old, root / "backups")
    new = make_state(root / "new", users=("somebody",), keys=("other",))
    (new / "tls" / "server.crt").write_text("of the new box")
    staged(made.path, new)
    assert everything(new) != before
    finish_pending(new, lambda: None)
    assert everything(new) == before


def test_what_a_restore_tells_and_leaves(tmp_path: Path) -> None:
    old, new = make_state(tmp_path / "old"), make_state(tmp_path / "new", users=("mei",), keys=())
    made = backup_of(old, tmp_path / "backups", models=("r1-7b",), label="nightly")
    assert made.path.name == f"r1box-ward-3-20261122T023000Z-nightly{SUFFIX}"
    assert (made.manifest.counts or {})["users"] == 1
    assert [path.name for path in made.path.parent.iterdir()] == [made.path.name]
    assert made.path.stat().st_mode & 0o777 == 0o600
    opened = check_backup(made.path, PASSPHRASE, new)
    assert opened.manifest == made.manifest
    assert entries(new) == entries(old)
    waiting = staged(made.path, new)
    assert waiting.facts["models"] == ["r1-7b"]
    finish_pending(new, lambda: None)
    database = open_database(new / "r1box.db")
    rows = AuditLog(database).list(limit=1)
    assert [(row.action, row.target) for row in rows] == [("backup.restore", made.path.name)]
    assert AuditLog(database).verify().is_whole
    with database.connect() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM user_session").scalar() == 0
        assert connection.exec_driver_sql("SELECT name FROM user").scalar() == "li.wei"
    database.dispose()
    for file in (new / "r1box.db", new / "tls" / "authority.key"):
        assert file.stat().st_mode & 0o077 == 0
    # The nights of a new box go on under the passphrase that is known there.
    key = load_key(new)
    assert key is not None
    assert key.secret == KEY.secret


def test_it_is_a_copy_of_one_moment_while_the_box_writes(tmp_path: Path) -> None:
    state = make_state(tmp_path / "state")
    with closing(sqlite3.connect(state / "r1box.db")) as database:
        database.execute("CREATE TABLE filler (data BLOB)")
        database.execute("CREATE TABLE pair (a INTEGER, b INTEGER)")
        database.execute("INSERT INTO pair VALUES (0, 0)")
        for _ in range(16):
            database.execute("INSERT INTO filler VALUES (zeroblob(1000000))")
        database.commit()
    ended, written = threading.Event(), threading.Event()

    def write() -> None:
        with closing(sqlite3.connect(state / "r1box.db", timeout=30)) as database:
            while not ended.is_set():
                database.execute("UPDATE pair SET a = a + 1")
                database.execute("INSERT INTO filler VALUES (zeroblob(20000))")
                database.execute("UPDATE pair SET b = b + 1")
                database.commit()
                written.set()

    writer = threading.Thread(target=write)
    writer.start()
    steps: list[tuple[int, int]] = []

    class Watch:
        def phase(self, name: str) -> None:
            assert written.wait(20)

        def bytes_done(self, done: int, total: int) -> None:
            steps.append((done, total))

    try:
        copies = tmp_path / "copies"
        copies.mkdir()
        Watch().phase("copy")
        copy_database(state / "r1box.db", copies / "copy.db", Watch().bytes_done)
    finally:
        ended.set()
        writer.join()
    with closing(sqlite3.connect(copies / "copy.db")) as database:
        a, b = database.execute("SELECT a, b FROM pair").fetchone()
        assert a == b
        assert a > 0
    assert [path.name for path in copies.iterdir()] == ["copy.db"]
    # It was copied in steps, and never begun anew although somebody wrote between them.
    assert len(steps) > 1
    assert steps == sorted(steps)


@pytest.mark.parametrize("revision", ["0001", "0003", "0006"])
def test_a_backup_of_an_older_box_is_brought_to_this_version(tmp_path: Path, revision: str) -> None:
    state = tmp_path / "old"
    state.mkdir()
    engine = create_engine(f"sqlite:///{state / 'r1box.db'}")
    upgrade(engine, revision)
    with engine.begin() as connection:
        connection.exec_driver_sql(
            "INSERT INTO api_key (name, prefix, hash, created_at) VALUES ('old', 'r1b_x', 'h', '2026-01-01 00:00:00')"
        )
    engine.dispose()
    made = backup_of(state, tmp_path / "backups")
    assert made.manifest.revision == revision
    new = make_state(tmp_path / "new")
    staged(made.path, new)
    finish_pending(new, lambda: None)
    database = open_database(new / "r1box.db")
    with database.connect() as connection:
        assert connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar() == HEAD
        assert connection.exec_driver_sql("SELECT name, scopes FROM api_key").fetchall() == [
            ("old", "inference metrics admin:read")
        ]
    database.dispose()


def _trigger(database: sqlite3.Connection) -> None:
    database.execute("CREATE TRIGGER evil AFTER INSERT ON api_key BEGIN DELETE FROM user; END")


def _view(database: sqlite3.Connection) -> None:
    database.execute("CREATE VIEW evil AS SELECT * FROM user")


def _newer(database: sqlite3.Connection) -> None:
    database.execute("UPDATE alembic_version SET version_num = '9999'")


def _none_of_ours(database: sqlite3.Connection) -> None:
    database.execute("DROP TABLE alembic_version")


@pytest.mark.parametrize(
    ("change", "error"),
    [(_trigger, BackupDamaged), (_view, BackupDamaged), (_newer, BackupTooNew), (_none_of_ours, BackupDamaged)],
)
def test_a_database_that_no_box_makes_is_refused(tmp_path: Path, change: Any, error: type[AppError]) -> None:
    old, new = make_state(tmp_path / "old"), make_state(tmp_path / "new", users=("mei",))
    with closing(sqlite3.connect(old / "r1box.db")) as database, database:
        change(database)
    made = backup_of(old, tmp_path / "backups")
    refused(made.path, new, error)


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda path: path.write_bytes(b"no backup"), BackupUnreadable),
        (lambda path: path.write_bytes(b""), BackupUnreadable),
        (lambda path: os.truncate(path, path.stat().st_size // 2), BackupDamaged),
        (lambda path: os.truncate(path, path.stat().st_size - 1), BackupDamaged),
        (lambda path: path.write_bytes(path.read_bytes() + b"\0"), BackupDamaged),
        (lambda path: path.unlink(), BackupUnreadable),
        (lambda path: (path.unlink(), path.mkdir()), BackupUnreadable),
        (lambda path: (path.unlink(), os.mkfifo(path)), BackupUnreadable),
    ],
)
def test_a_file_that_is_not_whole_changes_nothing(tmp_path: Path, make: Any, error: type[AppError]) -> None:
    old, new = make_state(tmp_path / "old"), make_state(tmp_path / "new", users=("mei",))
    path = backup_of(old, tmp_path / "backups").path
    make(path)
    refused(path, new, error)


def refused(path: Path, state: Path, error: type[AppError], passphrase: str | None = PASSPHRASE) -> None:
    before, names = everything(state), entries(state)
    with pytest.raises(error):
        stage_backup(path, passphrase, state, SYSTEM)
    assert entries(state) == names
    assert everything(state) == before
    assert not Swap(state).is_pending


def test_passphrases(tmp_path: Path) -> None:
    old, new = make_state(tmp_path / "old"), make_state(tmp_path / "new")
    path = backup_of(old, tmp_path / "backups").path
    refused(path, new, WrongPassphrase, "not the passphrase")
    refused(path, new, PassphraseMissing, None)
    save_key(new, derive("another passphrase", log2_n=14))
    refused(path, new, PassphraseMissing, None)
    assert (new / "backup-key.json").stat().st_mode & 0o777 == 0o600
    # The box that made it opens it by its own key.
    save_key(old, KEY)
    assert check_backup(path, None, old).manifest.host == "ward-3"
    (old / "backup-key.json").write_text("{")
    assert load_key(old) is None


def test_settings_that_would_keep_the_box_from_starting_are_left_out(tmp_path: Path) -> None:
    old, new = make_state(tmp_path / "old"), make_state(tmp_path / "new")
    (old / "settings.toml").write_text(
        'max_waiting = 9\nlog_level = "loud"\nno_such_setting = 1\nmodel = "gone"\nstate_dir = "/"\n'
    )
    path = backup_of(old, tmp_path / "backups").path
    assert staged(path, new).settings_left_out == ("log_level", "model", "no_such_setting", "state_dir")
    assert staged(path, new, installed=("gone",)).settings_left_out == ("log_level", "no_such_setting", "state_dir")
    finish_pending(new, lambda: None)
    assert 'model = "gone"' in (new / "settings.toml").read_text()
    (old / "settings.toml").write_text("not toml")
    again = staged(backup_of(old, tmp_path / "more").path, new)
    assert again.settings_left_out == ("all of them: the file cannot be read",)


def test_a_damaged_database_is_not_backed_up(tmp_path: Path) -> None:
    state = make_state(tmp_path / "state")
    data = bytearray((state / "r1box.db").read_bytes())
    data[4096 * 3 : 4096 * 12] = b"\xff" * 4096 * 9
    (state / "r1box.db").write_bytes(data)
    (tmp_path / "backups").mkdir()
    with pytest.raises(StateDamaged):
        backup_of(state, tmp_path / "backups")
    assert list((tmp_path / "backups").iterdir()) == []
    assert not [name for name in entries(state) if name.startswith(".backup-")]
    (state / "r1box.db").unlink()
    with pytest.raises(StateDamaged, match="there is no database"):
        backup_of(state, tmp_path / "backups")


def test_a_full_or_lost_stick_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state, stick = make_state(tmp_path / "state"), tmp_path / "stick"
    stick.mkdir()
    with pytest.raises(BackupTargetUnusable):
        creating.create_backup(order(state), tmp_path / "not there")
    monkeypatch.setattr(creating, "_SPARE_BYTES", 2**60)
    with pytest.raises(BackupNoRoom):
        backup_of(state, stick)
    monkeypatch.undo()

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(creating, "write_container", full)
    with pytest.raises(BackupTargetUnusable, match="no space left"):
        backup_of(state, stick)
    assert list(stick.iterdir()) == []


def test_one_that_reads_otherwise_than_it_was_written_gets_no_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state, stick = make_state(tmp_path / "state"), tmp_path / "stick"
    writing = creating._write

    def worn_out(order: Any, manifest: Any, copy: Path, part: Path, told: Any) -> None:
        writing(order, manifest, copy, part, told)
        data = bytearray(part.read_bytes())
        data[-100] ^= 1
        part.write_bytes(data)

    monkeypatch.setattr(creating, "_write", worn_out)
    with pytest.raises(BackupDamaged):
        backup_of(state, stick)
    assert list(stick.iterdir()) == []


def test_nightly_ones_go_by_count_and_others_stay(tmp_path: Path) -> None:
    state, folder = make_state(tmp_path / "state"), tmp_path / "backups"
    folder.mkdir()
    for night in range(4):
        one = order(state, label=NIGHTLY)
        creating.create_backup(replace(one, at=one.at + timedelta(days=night)), folder)
    creating.create_backup(order(state), folder)
    creating.create_backup(replace(order(state, label=NIGHTLY), host="ward-4"), folder)
    (folder / f"broken{SUFFIX}").write_bytes(b"x")
    (folder / f".half{SUFFIX}.part").write_bytes(b"x")
    gone = prune(folder, keep=2, host="ward-3")
    assert gone == (
        f"r1box-ward-3-20261123T023000Z-nightly{SUFFIX}",
        f"r1box-ward-3-20261122T023000Z-nightly{SUFFIX}",
    )
    found = list_backups(folder)
    assert [one.label for one in found[:2]] == [NIGHTLY, NIGHTLY]
    assert {one.host for one in found} == {"ward-3", "ward-4", None}
    assert [one.path.name for one in found if one.problem] == [f"broken{SUFFIX}"]
    assert list_backups(tmp_path / "none") == ()


def test_the_door_to_the_disk(tmp_path: Path) -> None:
    disk = RealDisk()
    disk.make_folder(tmp_path / "a")
    disk.make_folder(tmp_path / "a")
    disk.write(tmp_path / "a" / "f", b"1")
    disk.write(tmp_path / "a" / "f", b"2")
    disk.rename(tmp_path / "a" / "f", tmp_path / "g")
    assert (tmp_path / "g").read_bytes() == b"2"
    disk.remove(tmp_path / "a")
    disk.remove(tmp_path / "g")
    disk.remove(tmp_path / "g")
    assert list(tmp_path.iterdir()) == []
