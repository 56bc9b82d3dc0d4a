"""The folder of one model's blocks and the thread that reads and writes it: no step waits for a disk.

Each model, with the build and the settings that its bytes depend on, has a folder of its own below the cache folder. A
worker locks its folder; a second one with the same model does without a disk. Other models' folders are emptied, the
one unused for longest first, where they take more than half of what the disk may hold.

The thread gives what it did to ``post``: reads go before writes, everything else keeps its order. Files that do not
open are deleted with a line in the log.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from appliance.engine.llamacpp.tier_blocks import block_key
from appliance.engine.llamacpp.tier_files import (
    SUFFIX,
    TEMPORARY,
    BadBlockFile,
    BlockFiles,
    BlockHeader,
    load_secret,
)

LOCK = "lock"
MOST_FILES = 100_000
KEEP_FREE_BYTES = 1024**3
"""Room on the disk that is left for others, whatever the bound says."""

TICK_S = 5.0
LOCK_TRIES, LOCK_PAUSE_S = 5, 0.1


@dataclass(frozen=True, slots=True)
class BlocksFound:
    """What earlier runs left, each after the one that it follows, the one used last first. ``bound_bytes`` may lie
    here."""

    headers: list[BlockHeader]
    bound_bytes: int


@dataclass(frozen=True, slots=True)
class BlockRead:
    """A block's bytes, None when its file was no good."""

    key: bytes
    data: np.ndarray[Any, Any] | None
    seconds: float


@dataclass(frozen=True, slots=True)
class BlockWritten:
    """Whether a block's file is there now."""

    key: bytes
    good: bool


@dataclass(frozen=True, slots=True)
class DiskRoom:
    """What may lie here has changed to ``bound_bytes``."""

    bound_bytes: int


@dataclass(frozen=True, slots=True)
class DiskTick:
    """Some seconds have gone; ``wiped`` when the key is gone from its place: everything shall be forgotten."""

    wiped: bool = False


DiskMessage = BlocksFound | BlockRead | BlockWritten | DiskRoom | DiskTick


@dataclass(slots=True)
class _Queues:
    reads: deque[bytes] = field(default_factory=deque)
    changes: deque[tuple[bytes, BlockHeader | None, Any]] = field(default_factory=deque)
    resized: bool = False
    busy: bool = False
    stopped: bool = False


class DiskTier:
    """Owns the thread. Methods return at once; what came of them is posted."""

    def __init__(
        self,
        folder: Path,
        key_file: Path,
        identity: bytes,
        bound_bytes: int,
        post: Callable[[DiskMessage], None],
        *,
        tick_s: float = TICK_S,
        keep_free_bytes: int = KEEP_FREE_BYTES,
    ) -> None:
        self._folder = folder / hashlib.blake2b(identity, digest_size=8).hexdigest()
        self._key_file = key_file
        self._identity = identity
        self._bound_bytes = bound_bytes
        self._post = post
        self._tick_s = tick_s
        self._keep_free_bytes = keep_free_bytes
        self._queues = _Queues()
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="blocks on disk", daemon=True)

    def start(self) -> None:
        """Begin with what earlier runs left."""
        self._thread.start()

    def read(self, key: bytes) -> None:
        """Answered by BlockRead."""
        with self._changed:
            if self._queues.stopped:
                self._post(BlockRead(key, None, 0.0))
                return
            self._queues.reads.append(key)
            self._changed.notify_all()

    def write(self, key: bytes, header: BlockHeader, data: Any) -> None:
        """Answered by BlockWritten."""
        self._change(key, header, data)

    def resize(self, bound_bytes: int) -> None:
        """So many bytes may lie here and in the folders of models that do not run. Answered by DiskRoom."""
        with self._changed:
            self._bound_bytes, self._queues.resized = bound_bytes, True
            self._changed.notify_all()

    def delete(self, key: bytes) -> None:
        """Not answered."""
        self._change(key, None, None)

    def _change(self, key: bytes, header: BlockHeader | None, data: Any) -> None:
        with self._changed:
            if self._queues.stopped:
                if header is not None:
                    self._post(BlockWritten(key, good=False))
                return
            self._queues.changes.append((key, header, data))
            self._changed.notify_all()

    def close(self, timeout_s: float) -> int:
        """Write what waits, as far as the time goes; the result is how much was not written."""
        with self._changed:
            self._queues.reads.clear()
            self._changed.wait_for(
                lambda: not (self._queues.changes or self._queues.busy) or not self._thread.is_alive(), timeout_s
            )
            left = sum(header is not None for _, header, _ in self._queues.changes)
            self._queues.changes.clear()
            self._queues.stopped = True
            self._changed.notify_all()
        self._thread.join(timeout=1.0)
        return left

    # -- the thread -------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            with self._lock():
                secret = load_secret(self._key_file)
                self._work(BlockFiles(self._folder, self._identity, secret), self._key_file.stat().st_ino)
        except BlockingIOError:
            _say(f"{self._folder} is used by another worker: chats are not kept on disk")
        except OSError as error:
            _say(f"chats are not kept on disk: {error}")
        with self._changed:
            self._queues.stopped = True
            self._fail_all()
            self._changed.notify_all()

    def _lock(self) -> _locked:
        """The folder for this process alone. Another worker that looks what lies here holds it for a moment."""
        for _ in range(LOCK_TRIES - 1):
            with suppress(BlockingIOError):
                return _locked(self._folder)
            threading.Event().wait(LOCK_PAUSE_S)
        return _locked(self._folder)

    def _room(self) -> int:
        """What may lie here beside what lies in the folders of models that do not run."""
        bound = self._bound_bytes
        return max(0, bound - _drop_others(self._folder, bound // 2))

    def _work(self, files: BlockFiles, key_inode: int) -> None:
        room = self._room()
        self._post(BlocksFound(_leftovers(files), room))
        queues = self._queues
        while True:
            with self._changed:
                self._changed.wait_for(
                    lambda: queues.reads or queues.changes or queues.stopped or queues.resized, self._tick_s
                )
                if queues.stopped:
                    return
                resized, queues.resized = queues.resized, False
                read = queues.reads.popleft() if queues.reads else None
                change = queues.changes.popleft() if read is None and queues.changes else None
                queues.busy = change is not None
            if not _is_inode(self._key_file, key_inode):
                self._post(DiskTick(wiped=True))
                _say("the key of the chats on disk is gone: they are forgotten")
                _empty(self._folder)
                return
            if read is not None:
                self._post(_read(files, read))
            elif change is not None:
                self._do(files, *change)
            elif not resized:
                self._post(DiskTick())
            if resized:
                self._post(DiskRoom(self._room()))
            with self._changed:
                queues.busy = False
                self._changed.notify_all()

    def _do(self, files: BlockFiles, key: bytes, header: BlockHeader | None, data: Any) -> None:
        if header is None:
            files.path(key).unlink(missing_ok=True)
            return
        try:
            free_bytes = shutil.disk_usage(files.folder).free
            if free_bytes - len(data) < self._keep_free_bytes:
                raise OSError(f"the disk has only {free_bytes:,} bytes left")
            files.write(key, header, data)
        except OSError as error:
            _say(f"a chat could not be kept on disk: {error}")
            self._post(BlockWritten(key, good=False))
        else:
            self._post(BlockWritten(key, good=True))

    def _fail_all(self) -> None:
        """Nobody does what still waits."""
        for key in self._queues.reads:
            self._post(BlockRead(key, None, 0.0))
        for key, header, _ in self._queues.changes:
            if header is not None:
                self._post(BlockWritten(key, good=False))
        self._queues.reads.clear()
        self._queues.changes.clear()
        self._queues.busy = False


def _read(files: BlockFiles, key: bytes) -> BlockRead:
    started = time.perf_counter()
    try:
        data = files.read(key)
        os.utime(files.path(key))
    except (OSError, BadBlockFile) as error:
        _say(f"{files.path(key).name} is dropped: {error}")
        files.path(key).unlink(missing_ok=True)
        return BlockRead(key, None, 0.0)
    return BlockRead(key, data, time.perf_counter() - started)


def _leftovers(files: BlockFiles) -> list[BlockHeader]:
    """Headers of all good files in the order of ``BlocksFound``; the others are deleted, half-written ones too."""
    found: list[tuple[float, Path]] = []
    for entry in os.scandir(files.folder):
        if entry.name.endswith(TEMPORARY) or len(found) >= MOST_FILES:
            Path(entry.path).unlink(missing_ok=True)
        elif entry.name.endswith(SUFFIX):
            found.append((entry.stat(follow_symlinks=False).st_mtime, Path(entry.path)))
    headers: dict[bytes, BlockHeader] = {}
    for _, path in sorted(found, reverse=True):
        try:
            header = files.read_header(path)
            key = block_key(header.parent, header.tokens)
            if files.path(key) != path:
                raise BadBlockFile("it has another block's name")
            headers[key] = header
        except (OSError, BadBlockFile) as error:
            _say(f"{path.name} is dropped: {error}")
            with suppress(OSError):
                path.unlink()
    return _in_order(files, headers)


def _in_order(files: BlockFiles, headers: dict[bytes, BlockHeader]) -> list[BlockHeader]:
    done: dict[bytes, BlockHeader] = {}
    for key in headers:
        chain: list[bytes] = []
        while key and key not in done and key in headers and key not in chain:
            chain.append(key)
            key = headers[key].parent
        if key and key not in done:
            # What it follows is gone: nobody can use it.
            continue
        done.update((one, headers[one]) for one in reversed(chain))
    for key in headers.keys() - done.keys():
        files.path(key).unlink(missing_ok=True)
    return list(done.values())


def _drop_others(own: Path, most_bytes: int) -> int:
    """Empty other models' folders, unused for longest first, until they hold ``most_bytes`` at most; what they hold.

    Folders of workers that run do not count: they have a share of their own.
    """
    sizes: list[tuple[float, int, Path]] = []
    for folder in own.parent.iterdir():
        if folder != own and folder.is_dir() and not folder.is_symlink():
            stats = [entry.stat(follow_symlinks=False) for entry in os.scandir(folder)]
            sizes.append((max((s.st_mtime for s in stats), default=0.0), sum(s.st_size for s in stats), folder))
    total = sum(size for _, size, _ in sizes)
    idle: list[tuple[int, Path]] = []
    for _, size, folder in sorted(sizes):
        try:
            with _locked(folder):
                idle.append((size, folder))
        except BlockingIOError:
            total -= size
    for size, folder in idle:
        if total <= most_bytes:
            break
        with suppress(OSError), _locked(folder):
            _empty(folder)
            total -= size
    return total


def _empty(folder: Path) -> None:
    for entry in os.scandir(folder):
        if entry.name.endswith((SUFFIX, TEMPORARY)):
            with suppress(OSError):
                Path(entry.path).unlink()


def forget_chats(folder: Path, key_file: Path) -> tuple[int, int]:
    """Delete the key, so that nothing on disk can be read any more, then the files: how many, and their bytes.

    Raises OSError. A worker that runs notices within seconds and forgets what it has in memory too.
    """
    key_file.unlink(missing_ok=True)
    files = [path for path in folder.glob("*/*") if path.suffix in (SUFFIX, TEMPORARY) and not path.is_symlink()]
    size = 0
    for path in files:
        with suppress(FileNotFoundError):
            size += path.stat().st_size
            path.unlink()
    return len(files), size


class _locked:  # noqa: N801  a context manager that reads as a word
    """The folder, made if it is not there, for this process alone. Raises BlockingIOError when another one has it."""

    def __init__(self, folder: Path) -> None:
        folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        folder.chmod(0o700)
        self._descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BaseException:
            os.close(self._descriptor)
            raise

    def __enter__(self) -> None:
        """Locked since it was made."""

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)


def _is_inode(path: Path, inode: int) -> bool:
    try:
        return path.stat().st_ino == inode
    except OSError:
        return False


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")
