"""State folders for the tests of backups: what a box has, made small, and what two of them have in common."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from argon2 import PasswordHasher

from appliance.backup.create import Created, Order, create_backup
from appliance.backup.in_use import LOCK_FILE
from appliance.backup.key import BackupKey, derive
from appliance.backup.restore import Staged, stage_backup
from appliance.security.accounts import Accounts
from appliance.security.identity import SYSTEM
from appliance.security.passwords import Passwords
from appliance.security.roles import Role
from appliance.store.database import open_database

PASSPHRASE = "correct horse battery staple"
KEY = derive(PASSPHRASE, salt=b"\x07" * 16, log2_n=14)
AT = datetime(2026, 11, 22, 2, 30, tzinfo=UTC)
QUICK = Passwords(PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))


def make_state(folder: Path, *, users: tuple[str, ...] = ("li.wei",), keys: tuple[str, ...] = ("nurse-app",)) -> Path:
    """A state folder with people, keys, a login, certificates and settings."""
    folder.mkdir(parents=True, exist_ok=True)
    database = open_database(folder / "r1box.db")
    accounts = Accounts(database, folder, passwords=QUICK)
    for name in users:
        user = accounts.users.create(name, Role.ADMIN, "a long enough one")
        accounts.sessions.create(user.id, actor=SYSTEM, user_agent=None)
    for name in keys:
        accounts.keys.create(name)
    database.dispose()
    (folder / "tls").mkdir(exist_ok=True)
    (folder / "tls" / "authority.crt").write_text("certificate of " + folder.name)
    (folder / "tls" / "authority.key").write_text("key of " + folder.name)
    (folder / "trusted-keys").mkdir(exist_ok=True)
    (folder / "trusted-keys" / "acme.pub").write_text("public key")
    (folder / "settings.toml").write_text("max_waiting = 7\n")
    (folder / "chats.key").write_bytes(b"of this machine")
    return folder


def order(state: Path, *, key: BackupKey = KEY, **more: Any) -> Order:
    return Order(state_dir=state, key=key, at=AT, version="0.1.0", host="ward-3", **more)


def backup_of(state: Path, to: Path, **more: Any) -> Created:
    to.mkdir(exist_ok=True)
    return create_backup(order(state, **more), to)


def staged(backup: Path, state: Path, **more: Any) -> Staged:
    return stage_backup(backup, PASSPHRASE, state, SYSTEM, **more)


def tables(state: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of every table that a restore must bring back: all but sessions, and the audit log's rows of
    restores."""
    found: dict[str, list[tuple[Any, ...]]] = {}
    with closing(sqlite3.connect(state / "r1box.db")) as database:
        names = [row[0] for row in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for name in names:
            if name not in ("user_session", "audit_head") and not name.startswith("chat_search"):
                rows = [tuple(row) for row in database.execute(f'SELECT * FROM "{name}"')]
                found[name] = [row for row in rows if "backup.restore" not in row]
    return found


def small_files(state: Path) -> dict[str, bytes]:
    """What else a restore replaces, by name."""
    names = ("settings.toml", "tls", "trusted-keys")
    paths = [path for name in names for path in ([state / name], (state / name).rglob("*"))[(state / name).is_dir()]]
    return {str(path.relative_to(state)): path.read_bytes() for path in paths if path.is_file()}


def everything(state: Path) -> tuple[dict[str, list[tuple[Any, ...]]], dict[str, bytes]]:
    """A state as tests compare it."""
    return tables(state), small_files(state)


def entries(state: Path) -> set[str]:
    """Names in a state folder, without locks."""
    return {path.name for path in state.iterdir()} - {LOCK_FILE, "r1box.db.lock"}
