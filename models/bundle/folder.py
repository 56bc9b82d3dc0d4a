"""Opens the folder of a bundle that may be hostile.

Nothing is opened by a path from the manifest: every name is opened relative to the descriptor of its folder, links are
never followed, and only ordinary files are read (a look before the opening keeps devices and pipes from being touched,
one after it makes sure).
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from models.bundle.errors import BundleEntryRefused, BundleMismatch, BundleUnreadable
from models.bundle.manifest import (
    MANIFEST_FILE,
    MAX_MANIFEST_BYTES,
    SIGNATURE_FILE,
    BundleManifest,
    BundlePart,
    decode,
)
from models.bundle.minisign import MAX_FILE_BYTES as MAX_SIGNATURE_BYTES
from models.bundle.trust import Signer, TrustedKeys
from models.errors import printable

_KINDS = (
    (stat.S_ISLNK, "a link"),
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISCHR, "a device"),
)
_MAX_ENTRIES = 1000
_NO_BUNDLE = "Give the folder that holds manifest.json, or the stick it lies on."


class BundleFolder:
    """One folder of a bundle: a stick, or all of it. A context manager: it holds the folder open."""

    def __init__(self, path: Path) -> None:
        """Reads the manifest and its signature as bytes, unchecked. Raises ``BundleUnreadable`` or
        ``BundleEntryRefused``."""
        self.path = path
        try:
            self._fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise BundleUnreadable(path, (error.strerror or str(error)).lower(), _NO_BUNDLE) from error
        try:
            manifest = self._small_file(MANIFEST_FILE, MAX_MANIFEST_BYTES)
            if manifest is None:
                raise BundleUnreadable(path, "it has no manifest.json", _NO_BUNDLE)
            self.raw = manifest
            self.signature = self._small_file(SIGNATURE_FILE, MAX_SIGNATURE_BYTES)
        except BaseException:
            os.close(self._fd)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._fd)

    def open(self, part: BundlePart) -> int | None:
        """A descriptor of the part's file for reading, which the caller closes; ``None`` when it is not there.

        Raises ``BundleEntryRefused`` or ``BundleUnreadable``.
        """
        return self._open(part.path)

    def size_of(self, part: BundlePart) -> int | None:
        """Bytes the part's file has, ``None`` when it is not there. Raises as ``open``."""
        descriptor = self.open(part)
        if descriptor is None:
            return None
        try:
            return os.fstat(descriptor).st_size
        finally:
            os.close(descriptor)

    def is_there(self) -> bool:
        """Whether the stick still answers."""
        try:
            os.stat(MANIFEST_FILE, dir_fd=self._fd, follow_symlinks=False)
        except OSError:
            return False
        return True

    def _open(self, path: str) -> int | None:
        names = path.split("/")
        with contextlib.ExitStack() as stack:
            folder = self._fd
            try:
                for name in names[:-1]:
                    self._demand(folder, name, path, stat.S_ISDIR)
                    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
                    folder = os.open(name, flags, dir_fd=folder)
                    stack.callback(os.close, folder)
                self._demand(folder, names[-1], path, stat.S_ISREG)
                flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
                descriptor = os.open(names[-1], flags, dir_fd=folder)
            except FileNotFoundError:
                return None
            except OSError as error:
                raise BundleUnreadable(self.path, f"{path}: {(error.strerror or str(error)).lower()}") from error
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise BundleEntryRefused(path, "something else now")
        return descriptor

    @staticmethod
    def _demand(folder: int, name: str, path: str, wanted: object) -> None:
        mode = os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode
        for is_kind, said in _KINDS:
            if is_kind(mode) and is_kind is not wanted:
                raise BundleEntryRefused(path, said)
        if wanted is stat.S_ISDIR and stat.S_ISREG(mode):
            raise BundleEntryRefused(path, "below a file")

    def _small_file(self, name: str, limit: int) -> bytes | None:
        descriptor = self._open(name)
        if descriptor is None:
            return None
        try:
            with os.fdopen(descriptor, "rb") as file:
                raw = file.read(limit + 1)
        except OSError as error:
            raise BundleUnreadable(self.path, f"{name}: {(error.strerror or str(error)).lower()}") from error
        if len(raw) > limit:
            raise BundleUnreadable(self.path, f"{name} is longer than {limit:,} bytes", "This is no bundle.")
        return raw


class OpenBundle:
    """The folders at hand of one bundle, its checked manifest, and who signed it."""

    def __init__(self, folders: Sequence[BundleFolder], manifest: BundleManifest, signer: Signer) -> None:
        self.folders = list(folders)
        self.manifest = manifest
        self.signer = signer

    @property
    def manifest_sha256(self) -> str:
        return hashlib.sha256(self.folders[0].raw).hexdigest()

    def add(self, folder: BundleFolder) -> None:
        """One more stick of the same bundle. Raises ``BundleMismatch``."""
        if folder.raw != self.folders[0].raw:
            raise BundleMismatch(folder.path, decode(folder.raw).id, self.manifest.id)
        self.folders.append(folder)


@contextlib.contextmanager
def open_bundle(paths: Sequence[Path], keys: TrustedKeys) -> Iterator[OpenBundle]:
    """Opens the folders of one bundle. Who signed it is found before the manifest is read; nothing is demanded.

    Raises ``BundleUnreadable``, ``BundleEntryRefused``, ``BundleSignatureInvalid``, ``BundleManifestInvalid`` or
    ``BundleMismatch``.
    """
    with contextlib.ExitStack() as stack:
        found = [folder for path in paths for folder in bundle_folders(path)]
        folders = [stack.enter_context(BundleFolder(path)) for path in dict.fromkeys(found)]
        signer = keys.identify(folders[0].raw, folders[0].signature)
        manifest = decode(folders[0].raw)
        bundle = OpenBundle(folders[:1], manifest, signer)
        for folder in folders[1:]:
            bundle.add(folder)
        yield bundle


def bundle_folders(path: Path) -> list[Path]:
    """The folders of a bundle at ``path``: itself, or, for a stick or the parent of several, those in it.

    Raises ``BundleUnreadable`` when there is none or there are different bundles.
    """
    if (path / MANIFEST_FILE).is_file() or (path / MANIFEST_FILE).is_symlink():
        return [path]
    found = []
    try:
        with os.scandir(path) as entries:
            for number, entry in enumerate(entries):
                if number >= _MAX_ENTRIES:
                    break
                inside = Path(entry.path)
                if entry.is_dir(follow_symlinks=False) and (inside / MANIFEST_FILE).is_file():
                    found.append(inside)
    except OSError as error:
        raise BundleUnreadable(path, (error.strerror or str(error)).lower(), _NO_BUNDLE) from error
    found = sorted(folder for folder in found if not folder.name.startswith("."))
    if not found:
        raise BundleUnreadable(path, "there is no manifest.json in it", _NO_BUNDLE)
    if len(found) > 1 and len({_manifest_bytes(folder) for folder in found}) > 1:
        names = ", ".join(printable(folder.name) for folder in found[:5])
        raise BundleUnreadable(path, f"it holds several bundles ({names})", "Give the folder of one of them.")
    return found


def _manifest_bytes(path: Path) -> bytes:
    with BundleFolder(path) as folder:
        return folder.raw
