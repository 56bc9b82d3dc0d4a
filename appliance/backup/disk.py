"""Files of the state folder, changed so that a power cut leaves the old or the new: the one door that swaps go through.

``Disk`` is narrow on purpose: tests put one in its place that loses power at any step.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Protocol


class Disk(Protocol):
    """What a swap needs. Every method is on the disk when it returns."""

    def rename(self, old: Path, new: Path) -> None: ...

    def make_folder(self, path: Path) -> None: ...

    def write(self, path: Path, data: bytes) -> None: ...

    def remove(self, path: Path) -> None: ...


class RealDisk:
    """The machine's. ``remove`` takes files and whole folders and what is not there."""

    def rename(self, old: Path, new: Path) -> None:
        """Put ``old`` at ``new``, which is not there (or is a file that goes). Raises OSError."""
        old.rename(new)
        sync_folder(new.parent)
        if old.parent != new.parent:
            sync_folder(old.parent)

    def make_folder(self, path: Path) -> None:
        """A folder for this user alone; one that is there stays."""
        path.mkdir(mode=0o700, exist_ok=True)
        own_like(path, path.parent)
        sync_folder(path.parent)

    def write(self, path: Path, data: bytes) -> None:
        """A whole file or none."""
        write_private(path, data)

    def remove(self, path: Path) -> None:
        """Take a file or a folder away. Raises OSError."""
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
        sync_folder(path.parent)


def write_private(path: Path, data: bytes) -> None:
    """Write a file of mode 0600 under a temporary name, then rename it; it belongs to whom the folder does."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        own_like(Path(name), path.parent)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Have the folder's names on the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError:
        # Some file systems of sticks (vfat on old kernels) cannot; the file itself was synced.
        pass
    finally:
        os.close(descriptor)


def sync_tree(folder: Path) -> None:
    """Have everything below ``folder`` on the disk. Raises OSError."""
    for root, _, names in os.walk(folder):
        for name in names:
            descriptor = os.open(Path(root) / name, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        sync_folder(Path(root))


def own_like(path: Path, folder: Path) -> None:
    """Root works in the service's folders; what it makes there must be the service's. Nothing for anybody else."""
    if os.geteuid() != 0:
        return
    owner = folder.stat()
    os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)


def own_tree_like(tree: Path, folder: Path) -> None:
    """``own_like`` for everything below ``tree``, and ``tree``."""
    if os.geteuid() != 0:
        return
    own_like(tree, folder)
    for root, folders, names in os.walk(tree):
        for name in (*folders, *names):
            own_like(Path(root) / name, folder)
