from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from appliance.security.errors import BadKeyName, KeyNameTaken, KeyNotFound
from appliance.security.keys import KeyRepository, generate_key, hash_key
from appliance.store.database import open_database


class Clock:
    def __init__(self) -> None:
        self.now = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "r1box.db"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def keys(path: Path, clock: Clock) -> Iterator[KeyRepository]:
    engine = open_database(path)
    yield KeyRepository(engine, clock)
    engine.dispose()


def test_keys_are_long_and_never_the_same() -> None:
    made = {generate_key() for _ in range(100)}
    assert len(made) == 100
    assert all(key.startswith("r1b_") and len(key) == 47 for key in made)


def test_created_key_is_verified(keys: KeyRepository, clock: Clock) -> None:
    created = keys.create("ward-3")
    assert created.record.name == "ward-3"
    assert created.secret.startswith(created.record.prefix)
    assert created.record.created_at == clock.now
    identity = keys.verify(created.secret)
    assert identity is not None
    assert (identity.id, identity.name) == (created.record.id, "ward-3")


def test_the_secret_is_in_no_file(keys: KeyRepository, path: Path) -> None:
    secret = keys.create("a").secret
    content = b"".join(file.read_bytes() for file in path.parent.iterdir())
    assert secret.encode() not in content
    assert secret[12:].encode() not in content
    assert hash_key(secret).encode() in content


@pytest.mark.parametrize(
    "wrong", ["", "r1b_", "x" * 47, "r1b_" + "A" * 43, "r1b_" + "A" * 5000, "r1b_é\udc80" + "A" * 41]
)
def test_wrong_keys(keys: KeyRepository, wrong: str) -> None:
    keys.create("a")
    assert keys.verify(wrong) is None


def test_case_and_last_character_count(keys: KeyRepository) -> None:
    secret = keys.create("a").secret
    assert keys.verify(secret.swapcase()) is None
    assert keys.verify(secret[:-1] + ("A" if secret[-1] != "A" else "B")) is None


def test_revoked_by_another_process(keys: KeyRepository, path: Path) -> None:
    secret = keys.create("a").secret
    assert keys.verify(secret) is not None
    other_engine = open_database(path)
    KeyRepository(other_engine).revoke("a")
    other_engine.dispose()
    assert keys.verify(secret) is None


def test_name_is_unique_among_live_keys_only(keys: KeyRepository) -> None:
    old = keys.create("a")
    with pytest.raises(KeyNameTaken):
        keys.create("a")
    keys.revoke("a")
    new = keys.create("a")
    assert new.record.id != old.record.id
    assert [record.id for record in keys.list()] == [new.record.id]
    assert [record.id for record in keys.list(include_revoked=True)] == [old.record.id, new.record.id]
    assert keys.count() == 1


def test_revoke_unknown(keys: KeyRepository) -> None:
    with pytest.raises(KeyNotFound):
        keys.revoke("nobody")
    keys.create("a")
    keys.revoke("a")
    with pytest.raises(KeyNotFound):
        keys.revoke("a")


@pytest.mark.parametrize("name", ["", " a", "a ", "a\nb", "\x1b[31m", "x" * 65])
def test_bad_names(keys: KeyRepository, name: str) -> None:
    with pytest.raises(BadKeyName):
        keys.create(name)
    assert keys.count() == 0


def test_use_is_noted_once_a_minute(keys: KeyRepository, clock: Clock) -> None:
    secret = keys.create("a").secret
    first = clock.now
    keys.verify(secret)
    clock.now = first + timedelta(seconds=59)
    keys.verify(secret)
    assert keys.list()[0].last_used_at == first
    clock.now = first + timedelta(seconds=60)
    keys.verify(secret)
    assert keys.list()[0].last_used_at == clock.now


def test_a_locked_database_locks_nobody_out(keys: KeyRepository, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = keys.create("a").secret
    with keys._engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA busy_timeout = 1")
    with closing(sqlite3.connect(path)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        assert keys.verify(secret) is not None
    assert keys.list()[0].last_used_at is None
