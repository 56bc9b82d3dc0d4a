"""Files and locks under the store: written, synced, compared, linked and measured."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Callable, Iterable
from pathlib import Path

from models.errors import NoSpace, StoreNotWritable

DIR_MODE = 0o750
FILE_MODE = 0o640
_COMPARE_BYTES = 1024 * 1024
_NO_LINK = frozenset({errno.EPERM, errno.EACCES, errno.EMLINK, errno.EXDEV, errno.EOPNOTSUPP, errno.ENOSYS})
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_TOO_BIG = frozenset({errno.EFBIG, errno.EOVERFLOW})


def write_file(path: Path, content: bytes) -> None:
    """Writes a new file and fsyncs it; the caller renames it into place. Raises ``OSError``."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, FILE_MODE)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def fsync_path(path: Path) -> None:
    """Fsyncs a file or a folder by its name. Raises ``OSError``."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def take_lock(path: Path) -> int:
    """Makes ``path`` if need be and locks it for this process; returns the descriptor that holds the lock. Raises
    ``BlockingIOError`` when somebody else holds it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, FILE_MODE)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def is_held(path: Path) -> bool:
    """Whether some process holds a lock on the file; one that is not there is not held."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


def link_file(existing: Path, new: Path) -> bool:
    """Gives a file a second name on the same disk; false where the file system or its owner does not allow it. Raises
    ``OSError`` for anything else."""
    try:
        os.link(existing, new, follow_symlinks=False)
    except OSError as error:
        if error.errno in _NO_LINK:
            return False
        raise
    return True


def same_bytes(
    one: int, other: int, size_bytes: int, progress: Callable[[int], None], use: Callable[[bytes], None]
) -> bool:
    """Whether two open files agree in their first ``size_bytes``; stops at the first difference.

    Each agreeing block of ``one`` goes to ``use`` (a hash's ``update``) and its end to ``progress``. Raises
    ``OSError``.
    """
    done = 0
    while done < size_bytes:
        wanted = min(_COMPARE_BYTES, size_bytes - done)
        block = os.pread(one, wanted, done)  # bytes compare eight times as fast as memoryviews
        if not block or block != os.pread(other, len(block), done):
            return False
        use(block)
        done += len(block)
        progress(done)
    return True


def unique_bytes(paths: Iterable[Path]) -> int:
    """Bytes of the ordinary files among ``paths``, one that has several names counted once. What vanishes meanwhile is
    not counted."""
    sizes: dict[tuple[int, int], int] = {}
    for path in paths:
        try:
            info = path.lstat()
        except OSError:
            continue
        if stat.S_ISREG(info.st_mode):
            sizes[info.st_dev, info.st_ino] = info.st_size
    return sum(sizes.values())


def disk_bytes(folders: Iterable[Path]) -> int:
    """Bytes of all files under ``folders``, counted as ``unique_bytes`` counts."""
    return unique_bytes(
        Path(found) / name for folder in folders for found, _, names in os.walk(folder) for name in names
    )


def written_bytes(folder: Path) -> int:
    """Bytes that really lie on the disk under ``folder``: files of imports are given their length first and filled
    later."""
    total = 0
    for found, _, names in os.walk(folder):
        for name in names:
            try:
                info = (Path(found) / name).lstat()
            except OSError:
                continue
            total += min(info.st_size, info.st_blocks * 512)
    return total


def not_writable(root: Path, error: OSError) -> StoreNotWritable:
    """The typed form of a failure in the store's folder."""
    return StoreNotWritable(root, error.strerror or str(error))


def write_error(root: Path, error: OSError, needed_bytes: int, free_bytes: int) -> NoSpace | StoreNotWritable:
    """The typed form of a failed write to the store."""
    if error.errno in _FULL:
        return NoSpace(root, needed_bytes, free_bytes)
    if error.errno in _TOO_BIG:
        return StoreNotWritable(root, f"it does not take a file of {needed_bytes:,} bytes ({error.strerror})")
    return not_writable(root, error)
