"""Carries actions out, or tells of them: which one is chosen where the parts are wired, and nothing below asks.

The system's executor is the one door of an installation to programs and to the target's files. It works on the disk
whose identity was agreed to, wherever that disk is found now.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from drivers.command import CommandFailed, CommandResult, minimal_environment, run
from drivers.mounts import read_mounts
from installer.actions import (
    Action,
    CheckImage,
    ConfirmDisk,
    CopyFile,
    CopyImage,
    MakeFolder,
    Mount,
    PutFile,
    Run,
    Unmount,
)
from installer.errors import InstallFailed
from installer.inventory import BlockDevice, in_use

CHUNK_BYTES = 4 << 20
MOUNT_S = 60.0
_TOKEN = re.compile(r"@(disk|[1-6])$")

Runner = Callable[[Sequence[str], float, Sequence[int]], CommandResult]


class Executor(Protocol):
    """Carries out one action; it may be carried out again."""

    def execute(self, action: Action) -> None:
        """Raises InstallFailed."""
        ...


class DryRun:
    """Tells what would be done."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say

    def execute(self, action: Action) -> None:
        self._say(f"would {action.describe()}")


def run_command(argv: Sequence[str], timeout_s: float, ok_codes: Sequence[int]) -> CommandResult:
    """The runner of a real installation."""
    return run(argv, timeout_s=timeout_s, environment=minimal_environment(), ok_codes=ok_codes)


def partition_path(disk: str, number: int) -> str:
    """``/dev/sda3``, ``/dev/nvme0n1p3``."""
    return f"{disk}p{number}" if disk[-1].isdigit() else f"{disk}{number}"


def device_paths(disk: BlockDevice) -> dict[str, str]:
    """What ``@disk`` and ``@1`` to ``@6`` stand for."""
    paths = {"@disk": disk.path}
    paths.update({f"@{number}": partition_path(disk.path, number) for number in range(1, 7)})
    return paths


def find_disk(devices: Sequence[BlockDevice], identity: str, size_bytes: int) -> BlockDevice:
    """The disk that was agreed to. Raises InstallFailed (``disk_changed``)."""
    found = [device for device in devices if device.type == "disk" and device.identity == identity]
    if len(found) != 1 or found[0].size_bytes != size_bytes:
        what = "is gone" if not found else "is there more than once" if len(found) > 1 else "has another size now"
        raise InstallFailed("disk_changed", f"The disk {identity} {what}.", "Plug it in again, then resume.")
    return found[0]


class SystemExecutor:
    """Changes this machine. ``inventory`` reads its disks anew; ``paths`` says what the tokens stand for; ``own`` is
    the folder whose mounts are the installation's; ``flush`` brings everything written to the disks."""

    def __init__(
        self,
        paths: Mapping[str, str],
        inventory: Callable[[], Sequence[BlockDevice]],
        own: Path,
        runner: Runner = run_command,
        flush: Callable[[], None] = os.sync,
    ) -> None:
        self._paths = paths
        self._inventory = inventory
        self._own = own
        self._run = runner
        self._flush = flush

    def execute(self, action: Action) -> None:
        try:
            self._carry_out(action)
            if action.lasting:
                # Before the journal says done: what a program left in memory a power cut would take away.
                self._flush()
        except CommandFailed as error:
            raise InstallFailed("action_failed", error.message, error.hint) from error
        except OSError as error:
            raise InstallFailed("action_failed", *_words(error)) from error

    def _carry_out(self, action: Action) -> None:
        match action:
            case Run():
                self._run([self._real(word) for word in action.argv], action.timeout_s, action.ok_codes)
            case ConfirmDisk():
                self._confirm(action)
            case CopyImage():
                self._copy_image(action)
            case CheckImage():
                with Path(self._real(action.target)).open("rb") as file:
                    _compare(_hash(_chunks(file.read, action.size_bytes)), action.sha256, self._real(action.target))
            case CopyFile():
                _copy_file(Path(action.source), Path(action.target), action.sha256)
            case PutFile():
                _replace(Path(action.path), iter([action.content.encode()]), action.mode)
            case MakeFolder():
                Path(action.path).mkdir(parents=True, exist_ok=True)
                Path(action.path).chmod(action.mode)
            case Mount():
                self._mount(action)
            case Unmount():
                self._unmount(action)

    def _real(self, word: str) -> str:
        return self._paths[word] if _TOKEN.fullmatch(word) else word

    def _confirm(self, action: ConfirmDisk) -> None:
        disk = find_disk(self._inventory(), action.identity, action.size_bytes)
        if disk.path != self._paths["@disk"]:
            raise InstallFailed("disk_changed", f"The disk is {disk.path} now.", "Resume: it is looked for again.")
        held = in_use(_without(disk, str(self._own)))
        if held is not None:
            raise InstallFailed("disk_changed", f"{disk.path} is in use: {held}.", "Free it, then resume.")

    def _copy_image(self, action: CopyImage) -> None:
        target = self._real(action.target)
        seen = hashlib.sha256()
        # Not created: a partition that is missing must not become a file of that name in /dev.
        handle = os.open(target, os.O_WRONLY)
        with os.fdopen(handle, "wb", buffering=0) as out, Path(action.source).open("rb") as file:
            for chunk in _chunks(file.read, action.size_bytes):
                seen.update(chunk)
                _write_all(out.fileno(), chunk)
            os.fsync(out.fileno())
        _compare(seen.hexdigest(), action.sha256, action.source)

    def _mount(self, action: Mount) -> None:
        if _is_mounted(action.target):
            return
        if not Path(action.target).is_dir():
            # The folder for the whole is in memory, and gone after a restart.
            Path(action.target).mkdir(parents=True)
        argv = ["mount", "-t", action.file_system, "-o", action.options, self._real(action.source), action.target]
        self._run(argv, MOUNT_S, (0,))

    def _unmount(self, action: Unmount) -> None:
        if _is_mounted(action.target):
            self._run(["umount", "--recursive", action.target], 600.0, (0,))


def _is_mounted(target: str) -> bool:
    return any(mount.mount_point == target for mount in read_mounts())


def _without(device: BlockDevice, folder: str) -> BlockDevice:
    """The disk without the installation's own mounts, which a run that goes on finds there."""
    points = tuple(point for point in device.mount_points if point != folder and not point.startswith(f"{folder}/"))
    return replace(device, mount_points=points, children=tuple(_without(child, folder) for child in device.children))


def _chunks(read: Callable[[int], bytes], size_bytes: int) -> Iterator[bytes]:
    left = size_bytes
    while left > 0:
        chunk = read(min(CHUNK_BYTES, left))
        if not chunk:
            raise InstallFailed("copy_damaged", "The file is shorter than it should be.", "Write the medium anew.")
        left -= len(chunk)
        yield chunk


def _hash(chunks: Iterator[bytes]) -> str:
    seen = hashlib.sha256()
    for chunk in chunks:
        seen.update(chunk)
    return seen.hexdigest()


def _compare(found: str, wanted: str, what: str) -> None:
    if found != wanted:
        raise InstallFailed(
            "copy_damaged", f"{what} is damaged: its hash is not the one it should have.", "Write the medium anew."
        )


def _copy_file(source: Path, target: Path, sha256: str | None) -> None:
    size_bytes = source.stat().st_size
    wanted = sha256
    with source.open("rb") as file:
        seen = hashlib.sha256()

        def hashed() -> Iterator[bytes]:
            for chunk in _chunks(file.read, size_bytes):
                seen.update(chunk)
                yield chunk
            if wanted is not None:
                _compare(seen.hexdigest(), wanted, str(source))

        _replace(target, hashed(), 0o644)
    # What lies on the disk, not what was sent there.
    _drop_cache(target)
    with target.open("rb") as file:
        _compare(_hash(_chunks(file.read, size_bytes)), seen.hexdigest(), str(target))


def _drop_cache(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(handle)


def _replace(path: Path, chunks: Iterator[bytes], mode: int) -> None:
    """The whole file or the old one: written beside it, flushed, renamed."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            for chunk in chunks:
                file.write(chunk)
            os.fchmod(file.fileno(), mode)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _write_all(handle: int, chunk: bytes) -> None:
    view = memoryview(chunk)
    while view:
        view = view[os.write(handle, view) :]


def _words(error: OSError) -> tuple[str, str]:
    where = f" ({error.filename})" if error.filename else ""
    if error.errno == errno.ENOSPC:
        return f"The target is full{where}.", "Give more room under [disk], then begin anew."
    if error.errno in {errno.EIO, errno.ENODEV, errno.ENXIO}:
        return f"The disk or the stick gave no answer{where}.", "Was it pulled out? Plug it in, then resume."
    return f"{error.strerror or error}{where}.", "Mend it, then resume."
