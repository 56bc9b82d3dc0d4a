"""Makes a backup: a consistent copy of the state, sealed, read back, and only then under its name."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

from appliance.backup.container import Manifest, describe_file, read_files, read_manifest, write_container
from appliance.backup.database import copy_database, counts_of, revision_of
from appliance.backup.disk import own_like, sync_folder
from appliance.backup.envelope import SealedReader, SealedWriter, read_envelope
from appliance.backup.errors import BackupNoRoom, BackupTargetUnusable, StateDamaged
from appliance.backup.key import BackupKey
from appliance.backup.parts import DATABASE, MACHINE_SETTINGS, found_in
from appliance.backup.swap import COPYING

SUFFIX = ".r1backup"
_MIB = 1024 * 1024
_SPARE_BYTES = 16 * _MIB


class Steps(Protocol):
    """Is told how far the work is: ``appliance.jobs.control.Control``. May raise to end the work."""

    def phase(self, name: str) -> None: ...

    def bytes_done(self, done_bytes: int, total_bytes: int) -> None: ...


class Silent:
    """Steps that nobody watches."""

    def phase(self, name: str) -> None:
        """Nothing."""

    def bytes_done(self, done_bytes: int, total_bytes: int) -> None:
        """Nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What to back up. ``label``: ``manual`` or ``nightly``; ``config`` is the machine's settings file, if any."""

    state_dir: Path
    key: BackupKey
    at: datetime
    version: str
    host: str
    label: str = "manual"
    config: Path | None = None
    models: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Created:
    """A backup that was written and read back."""

    path: Path
    size_bytes: int
    manifest: Manifest


def create_backup(order: Order, folder: Path, steps: Steps | None = None) -> Created:
    """Write a backup into ``folder``, which is there. Blocks.

    Raises StateDamaged, BackupNoRoom, BackupTargetUnusable, and what ``steps`` raises; then nothing is left in the
    folder.
    """
    told = steps or Silent()
    database = order.state_dir / DATABASE
    if not database.is_file():
        raise StateDamaged(problem="there is no database")
    needed = sum(_size(database.with_name(database.name + tail)) for tail in ("", "-wal"))
    for place in {order.state_dir, folder}:
        require_room(place, needed)
    with scratch_folder(order.state_dir, COPYING) as copy:
        told.phase("copy")
        copy_database(database, copy / DATABASE, told.bytes_done)
        names = [DATABASE, *_copy_small(order, copy)]
        manifest = Manifest(
            created_at=order.at.isoformat(timespec="seconds"),
            version=order.version,
            host=order.host,
            revision=revision_of(copy / DATABASE) or "",
            models=tuple(order.models),
            counts=counts_of(copy / DATABASE),
            files=tuple(describe_file(copy, name) for name in names),
        )
        path = folder / file_name(order)
        part = folder / f".{path.name}.part"
        try:
            told.phase("write")
            _write(order, manifest, copy, part, told)
            told.phase("check")
            _read_back(part, order.key, manifest, told)
            own_like(part, folder)
            part.replace(path)
            sync_folder(folder)
        except OSError as error:
            raise _unusable(folder, error) from error
        finally:
            _gone(part)
    return Created(path, path.stat().st_size, manifest)


def file_name(order: Order) -> str:
    """``r1box-HOST-20261122T023000Z-nightly.r1backup``."""
    host = "".join(char if char.isalnum() and char.isascii() else "-" for char in order.host)[:40] or "box"
    return f"r1box-{host}-{order.at.strftime('%Y%m%dT%H%M%SZ')}-{order.label}{SUFFIX}"


@contextmanager
def scratch_folder(state_dir: Path, prefix: str) -> Iterator[Path]:
    """A folder in the state folder for this user alone, gone afterwards."""
    path = Path(tempfile.mkdtemp(dir=state_dir, prefix=prefix))
    try:
        own_like(path, state_dir)
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def require_room(place: Path, needed_bytes: int) -> None:
    """Raises BackupNoRoom when the disk of ``place`` has less; BackupTargetUnusable when it cannot be asked."""
    try:
        free = shutil.disk_usage(place).free
    except OSError as error:
        raise _unusable(place, error) from error
    if free < needed_bytes + _SPARE_BYTES:
        raise BackupNoRoom(path=place, free_mib=free // _MIB, needed_mib=(needed_bytes + _SPARE_BYTES) // _MIB)


def _copy_small(order: Order, copy: Path) -> tuple[str, ...]:
    """Copies of the files beside the database. Each is written whole or not at all by whoever writes it."""
    names = list(found_in(order.state_dir))
    for name in list(names):
        (copy / name).parent.mkdir(mode=0o700, exist_ok=True)
        try:
            shutil.copyfile(order.state_dir / name, copy / name, follow_symlinks=False)
        except FileNotFoundError:
            names.remove(name)
    if order.config is not None:
        try:
            shutil.copyfile(order.config, copy / MACHINE_SETTINGS)
        except OSError:
            # It is there to be read by people, and belongs to somebody else.
            (copy / MACHINE_SETTINGS).unlink(missing_ok=True)
        else:
            names.append(MACHINE_SETTINGS)
    return tuple(names)


def _write(order: Order, manifest: Manifest, copy: Path, part: Path, told: Steps) -> None:
    facts = {
        "created_at": manifest.created_at,
        "version": manifest.version,
        "host": manifest.host,
        "label": order.label,
    }
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        writer = SealedWriter(file, order.key, facts)
        write_container(writer, manifest, copy, told.bytes_done)
        writer.finish()
        file.flush()
        os.fsync(file.fileno())


def _read_back(part: Path, key: BackupKey, manifest: Manifest, told: Steps) -> None:
    """A backup that cannot be read is found out now, not on the day it is needed."""
    with part.open("rb") as file:
        # From the medium and not from memory, as far as the system can be asked for that.
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        total = os.fstat(file.fileno()).st_size
        envelope = read_envelope(file, path=str(part))
        reader = SealedReader(file, envelope, key, path=str(part), report=lambda done: told.bytes_done(done, total))
        if read_manifest(reader, path=str(part)) != manifest:
            raise OSError(errno.EIO, "it reads otherwise than it was written")
        read_files(reader, manifest, None, path=str(part))


def _unusable(folder: Path, error: OSError) -> BackupTargetUnusable:
    return BackupTargetUnusable(path=folder, reason=(error.strerror or str(error)).lower())


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _gone(path: Path) -> None:
    # The stick may have been pulled out: what is left on it has a name that nobody takes for a backup.
    with suppress(OSError):
        path.unlink(missing_ok=True)
