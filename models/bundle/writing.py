"""Writes the folder of one stick, and signs the folders of a bundle that is there."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path

import msgspec

from models.bundle.errors import BundleSourceChanged, BundleStickMissing, BundleTargetUnusable
from models.bundle.folder import OpenBundle, open_bundle
from models.bundle.lanes import flow, read_fully
from models.bundle.manifest import MANIFEST_FILE, SIGNATURE_FILE, BundleFile, BundleManifest, BundlePart, encode
from models.bundle.minisign import write_signature
from models.bundle.parts import span
from models.bundle.secret_key import SecretKey
from models.bundle.trust import TrustedKeys
from models.gguf import open_model_file
from models.import_copy import unreadable
from models.store_files import fsync_path

_SYNC_BYTES = 64 * 1024 * 1024
_FILE_MODE = 0o644
_DIR_MODE = 0o755
_NO_FSYNC = frozenset({errno.EINVAL, errno.EOPNOTSUPP, errno.EBADF})
"""Folders cannot be fsynced on some file systems of sticks."""


def sign_manifest(raw: bytes, key: SecretKey, now: Callable[[], datetime]) -> bytes:
    """The text of ``manifest.json.minisig``."""
    return write_signature(key.sign, key.key_id, raw, MANIFEST_FILE, clock=lambda: now().timestamp())


def sign_bundle(paths: Sequence[Path], key: SecretKey, now: Callable[[], datetime]) -> BundleManifest:
    """Signs the bundle in ``paths``; all its sticks must be there, for all carry the same manifest and signature.

    Raises ``BundleStickMissing``, ``BundleTargetUnusable`` and as ``open_bundle``.
    """
    with open_bundle(paths, TrustedKeys()) as bundle:
        _demand_all(bundle)
        manifest = msgspec.structs.replace(bundle.manifest, signer=key.id)
        folders = [folder.path for folder in bundle.folders]
    raw = encode(manifest)
    signature = sign_manifest(raw, key, now)
    for folder in folders:
        try:
            # Without a signature first: one that belongs to another manifest would look like tampering.
            (folder / SIGNATURE_FILE).unlink(missing_ok=True)
            _write_small(folder / MANIFEST_FILE, raw)
            _write_small(folder / SIGNATURE_FILE, signature)
            _fsync_folder(folder)
        except OSError as error:
            raise _typed(folder, error) from error
    return manifest


class StickWriter:
    """Writes one stick of a bundle into ``folder``, which must not hold anything else."""

    def __init__(
        self, folder: Path, manifest: BundleManifest, number: int, raw: bytes, signature: bytes | None
    ) -> None:
        """Raises ``BundleTargetUnusable``."""
        self._folder = folder
        self._manifest = manifest
        self._number = number
        self._raw = raw
        self._signature = signature
        self._unsynced = 0
        self._done = 0

    @staticmethod
    def partial_of(folder: Path) -> Path:
        """Where a stick is written until it is whole."""
        return folder.with_name(f".{folder.name}.partial")

    def write(self, sources: Mapping[str, Path], progress: Callable[[int], None]) -> None:
        """Copies the parts of this stick from ``sources`` (by the files' names) and puts the folder into its place.

        Raises ``BundleTargetUnusable`` or ``BundleSourceChanged``.
        """
        try:
            place = self._prepare()
            for file in self._manifest.files:
                start = 0
                for part in file.parts:
                    if part.stick == self._number:
                        self._write_part(place / part.path, file, part, start, sources[file.name], progress)
                    start += part.size_bytes
            if self._signature is not None:
                _write_small(place / SIGNATURE_FILE, self._signature)
            _fsync_folder(place)
            if place != self._folder:
                place.rename(self._folder)
                _fsync_folder(self._folder.parent)
        except OSError as error:
            raise _typed(self._folder, error) from error

    def _prepare(self) -> Path:
        """The folder to write in, with the manifest in it: what an earlier attempt has left of the same bundle is kept,
        anything else of ours is removed."""
        partial = self.partial_of(self._folder)
        if self._folder.exists():
            if _read(self._folder / MANIFEST_FILE) == self._raw:
                return self._folder
            if not self._folder.is_dir() or any(self._folder.iterdir()):
                raise BundleTargetUnusable(
                    self._folder, "something else is there already", "Give another folder, or remove what is there."
                )
        if partial.exists() and _read(partial / MANIFEST_FILE) != self._raw:
            shutil.rmtree(partial)
        partial.mkdir(mode=_DIR_MODE, parents=True, exist_ok=True)
        _write_small(partial / MANIFEST_FILE, self._raw)
        return partial

    def _write_part(
        self,
        target: Path,
        file: BundleFile,
        part: BundlePart,
        start: int,
        source_path: Path,
        progress: Callable[[int], None],
    ) -> None:
        """Writes the chunks of a part that are not there yet."""
        first = start // file.chunk_bytes
        numbers = range(first, first + -(-part.size_bytes // file.chunk_bytes))
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        source = open_model_file(source_path)
        try:
            descriptor = os.open(target, flags, _FILE_MODE)
        except BaseException:
            os.close(source)
            raise

        def read(number: int, buffer: memoryview) -> memoryview | None:
            offset, length = span(file, number)
            try:
                filled = read_fully(source, buffer[:length], offset)
            except OSError as error:
                raise unreadable(source_path, error) from error
            return buffer[:length] if filled == length else None

        def write(number: int, view: memoryview) -> bool:
            if hashlib.sha256(view).hexdigest() != file.chunks[number]:
                return False
            offset = span(file, number)[0] - start
            self._unsynced += len(view)
            while view:
                written = os.pwrite(descriptor, view, offset)
                view, offset = view[written:], offset + written
            if self._unsynced >= _SYNC_BYTES:  # else the progress would be that of the memory, not of the stick
                self._unsynced = 0
                os.fdatasync(descriptor)
            return True

        def done(number: int) -> None:
            self._done += span(file, number)[1]
            progress(self._done)

        try:
            missing = [n for n in numbers if not _is_there(descriptor, file, n, start)]
            self._done += part.size_bytes - sum(span(file, n)[1] for n in missing)
            if flow(missing, max(min(file.chunk_bytes, file.size_bytes), 1), read, write, None, done):
                raise BundleSourceChanged(source_path)
            os.ftruncate(descriptor, part.size_bytes)
            os.fsync(descriptor)
        finally:
            os.close(source)
            os.close(descriptor)


def _is_there(descriptor: int, file: BundleFile, number: int, start: int) -> bool:
    """Whether an earlier attempt has written the chunk."""
    offset, length = span(file, number)
    if os.fstat(descriptor).st_size < offset - start + length:
        return False
    data = os.pread(descriptor, length, offset - start)
    return hashlib.sha256(data).hexdigest() == file.chunks[number]


def _demand_all(bundle: OpenBundle) -> None:
    parts = [p for f in bundle.manifest.files for p in f.parts]
    absent = [p for p in parts if all(folder.size_of(p) is None for folder in bundle.folders)]
    if absent:
        names = [bundle.manifest.stick_name(number) for number in sorted({p.stick for p in absent})]
        size = sum(p.size_bytes for p in absent)
        raise BundleStickMissing(bundle.manifest.id, names, [p.path for p in absent], size)


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None


def _write_small(path: Path, content: bytes) -> None:
    temporary = path.with_name(f".{path.name}.new")
    with contextlib.suppress(FileNotFoundError):
        temporary.unlink()
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _FILE_MODE)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def _fsync_folder(folder: Path) -> None:
    try:
        fsync_path(folder)
    except OSError as error:
        if error.errno not in _NO_FSYNC:
            raise


def _typed(folder: Path, error: OSError) -> BundleTargetUnusable:
    hint = "Start it again with the same stick: what was written is kept."
    problem = (error.strerror or str(error)).lower()
    if error.errno in (errno.EFBIG, errno.EOVERFLOW):
        hint = "FAT32 takes no file of 4 GiB or more: give --fat32, or format the stick as exFAT."
    elif error.errno in (errno.ENOSPC, errno.EDQUOT):
        hint = "Free some room on it, or divide the bundle with --stick-size."
    elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        hint = "Choose a folder this user may write to; some sticks have a switch against writing."
    return BundleTargetUnusable(folder, problem, hint)
