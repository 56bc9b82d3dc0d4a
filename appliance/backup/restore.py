"""Reads a backup whole and makes a state of it that waits to be put in place (``swap``). Nothing changes before."""

from __future__ import annotations

import os
import stat
import tomllib
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

from sqlalchemy import Engine
from sqlmodel import Session

from appliance.backup.container import Manifest, read_files, read_manifest
from appliance.backup.create import Silent, Steps, require_room, scratch_folder
from appliance.backup.database import end_sessions, is_known, make_current, quick_check, revision_of
from appliance.backup.disk import own_tree_like, sync_tree
from appliance.backup.envelope import Envelope, SealedReader, read_envelope
from appliance.backup.errors import BackupDamaged, BackupTooNew, BackupUnreadable, PassphraseMissing
from appliance.backup.key import BackupKey, derive, load_key, save_key
from appliance.backup.parts import DATABASE, SETTINGS
from appliance.backup.swap import FILES, SCRATCH, Swap
from appliance.errors import BadSetting
from appliance.security.audit import AuditLog
from appliance.security.identity import Actor
from appliance.settings import FILE_ONLY, load_settings
from appliance.settings_store import to_toml


@dataclass(frozen=True, slots=True)
class Opened:
    """A backup that was read from its first byte to its last and is whole."""

    envelope: Envelope
    manifest: Manifest
    key: BackupKey


@dataclass(frozen=True, slots=True)
class Staged:
    """A state that waits. ``settings_left_out``: names of settings that this version does not take."""

    manifest: Manifest
    settings_left_out: tuple[str, ...]
    facts: dict[str, Any]


def check_backup(path: Path, passphrase: str | None, state_dir: Path, steps: Steps | None = None) -> Opened:
    """Read all of a backup. Without a passphrase the box's own key is tried. Writes nothing.

    Raises BackupUnreadable, BackupTooNew, BackupDamaged, WrongPassphrase, PassphraseMissing.
    """
    told = steps or Silent()
    with _opened(path, passphrase, state_dir, told) as (envelope, key, reader):
        manifest = read_manifest(reader, path=str(path))
        read_files(reader, manifest, None, path=str(path))
    return Opened(envelope, manifest, key)


def stage_backup(
    path: Path,
    passphrase: str | None,
    state_dir: Path,
    actor: Actor,
    steps: Steps | None = None,
    *,
    installed: Collection[str] = (),
) -> Staged:
    """Read a backup into the state folder, check and migrate it, and leave it there for ``Swap.finish`` to put in place
    once nobody works with the state. ``installed`` are ids of the models that are here. Raises as ``check_backup``, and
    BackupNoRoom, OSError."""
    told = steps or Silent()
    with scratch_folder(state_dir, SCRATCH) as scratch:
        files = scratch / FILES
        files.mkdir(mode=0o700)
        with _opened(path, passphrase, state_dir, told) as (_, key, reader):
            manifest = read_manifest(reader, path=str(path))
            # The database's copy, and what its migration writes beside it.
            require_room(state_dir, 2 * manifest.size_bytes)
            read_files(reader, manifest, files, path=str(path))
        told.phase("migrate")
        _check_database(files / DATABASE, scratch, path)
        for path in files.glob(f"{DATABASE}.*"):
            # Copies that migrations leave for a system that goes back: this state has never run here.
            path.unlink()
        left_out = _keep_usable_settings(files / SETTINGS, installed)
        facts = {
            "backup": path.name,
            "created_at": manifest.created_at,
            "host": manifest.host,
            "version": manifest.version,
            "restored_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "settings_left_out": list(left_out),
            "models": list(manifest.models),
        }
        _note(files / DATABASE, actor, facts)
        sync_tree(scratch)
        own_tree_like(scratch, state_dir)
        Swap(state_dir).commit(scratch, facts)
    if load_key(state_dir) is None:
        # A new box goes on with its nightly backups under the passphrase that is known here.
        save_key(state_dir, key)
    return Staged(manifest, left_out, facts)


@contextmanager
def _opened(
    path: Path, passphrase: str | None, state_dir: Path, told: Steps
) -> Iterator[tuple[Envelope, BackupKey, SealedReader]]:
    shown = str(path)
    told.phase("check")
    try:
        with _regular(path) as file:
            total = os.fstat(file.fileno()).st_size
            envelope = read_envelope(file, path=shown)
            key = _key(envelope, passphrase, state_dir)
            yield (
                envelope,
                key,
                SealedReader(file, envelope, key, path=shown, report=lambda done: told.bytes_done(done, total)),
            )
    except OSError as error:
        raise BackupUnreadable(path=shown, reason=(error.strerror or str(error)).lower()) from error


@contextmanager
def _regular(path: Path) -> Iterator[BinaryIO]:
    """A file, and no pipe or device that never ends. Raises OSError, BackupUnreadable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise BackupUnreadable(path=path, reason="it is no file")
        yield file


def _key(envelope: Envelope, passphrase: str | None, state_dir: Path) -> BackupKey:
    if passphrase is not None:
        return derive(passphrase, salt=envelope.salt, log2_n=envelope.log2_n)
    own = load_key(state_dir)
    if own is None or (own.salt, own.log2_n) != (envelope.salt, envelope.log2_n):
        raise PassphraseMissing
    return own


def _check_database(database: Path, scratch: Path, path: Path) -> None:
    """Raises BackupDamaged, BackupTooNew, AppError of the store."""
    problem = quick_check(database)
    if problem is not None:
        raise BackupDamaged(path=path, reason=f"its database is damaged ({problem})")
    revision = revision_of(database)
    if revision is None:
        raise BackupDamaged(path=path, reason="its database is none of a box")
    if not is_known(revision):
        raise BackupTooNew(path=path, found=f"database {revision[:32]}", known="older ones")
    problem = make_current(database, scratch)
    if problem is not None:
        raise BackupDamaged(path=path, reason=problem)


def _note(database: Path, actor: Actor, facts: dict[str, Any]) -> None:
    def append(engine: Engine, session: Session) -> None:
        told = {name: facts[name] for name in ("created_at", "host", "version")}
        AuditLog(engine).append(session, actor, "backup.restore", str(facts["backup"])[:256], told)

    end_sessions(database, append)


def _keep_usable_settings(file: Path, installed: Collection[str]) -> tuple[str, ...]:
    """Leave out of the changed settings what this version, or this machine, does not take: with it the box would not
    start. The names that went."""
    if not file.is_file():
        return ()
    try:
        values = tomllib.loads(file.read_text(encoding="utf-8"))
    except (ValueError, OSError):
        file.unlink()
        return ("all of them: the file cannot be read",)
    usable: dict[str, Any] = {}
    for name, value in values.items():
        try:
            load_settings(changed={**usable, name: value})
        except BadSetting:
            continue
        if name not in FILE_ONLY and (name != "model" or value in installed):
            usable[name] = value
    left_out = tuple(sorted(set(values) - set(usable)))
    if left_out:
        file.write_text(to_toml(usable), encoding="utf-8")
    return left_out
