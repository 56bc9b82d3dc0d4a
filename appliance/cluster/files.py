"""Files of the cluster's folder: whole or not at all, for the box's own user alone."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


def make_folder(folder: Path) -> None:
    """The folder, closed to others. Made by root for a box of another user it is that user's. Blocks."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    _hand_over(folder, folder.parent)


def write_private(path: Path, content: bytes) -> None:
    """Replace a file. Blocks. Raises OSError."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(descriptor)
    _hand_over(temporary, path.parent)
    temporary.replace(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """One writer at a time, the daemon and commands. Blocks. Raises OSError."""
    make_folder(folder)
    path = folder / "lock"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        _hand_over(path, folder)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _hand_over(path: Path, like: Path) -> None:
    """What root makes for a box of another user belongs to that user."""
    if os.geteuid() == 0:
        owner = like.stat()
        with suppress(PermissionError):
            os.chown(path, owner.st_uid, owner.st_gid)
