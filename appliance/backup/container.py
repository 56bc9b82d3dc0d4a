"""What is inside a backup: a manifest that names the files with sizes and hashes, then their bytes in that order.

Made for one purpose, so that there is little to attack: no paths but the known names (``parts``), no links, no modes,
no compression, every length known before the first byte of content.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from appliance.backup.errors import BackupDamaged, BackupTooNew
from appliance.backup.parts import DATABASE, MOST_FILES, part_of

SCHEMA = 1
MOST_MANIFEST_BYTES = 1024 * 1024
MOST_MODELS = 1_000
COPY_BYTES = 1024 * 1024
_LENGTH_BYTES = 4
_SHA256 = re.compile(r"[0-9a-f]{64}")

Report = Callable[[int, int], None]
"""Called with the bytes that are done and those there are in all."""


class Sink(Protocol):
    """Takes content: ``SealedWriter``."""

    def write(self, data: bytes) -> None: ...


class Source(Protocol):
    """Gives content: ``SealedReader``."""

    def read(self, size: int) -> bytes: ...


@dataclass(frozen=True, slots=True)
class BackedUpFile:
    """A file of a backup. ``sha256`` is hexadecimal."""

    name: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What a backup has. ``revision`` is the database's; ``models`` are ids of models the box had, which are not in
    it; ``counts`` says how many users, keys and chats."""

    created_at: str
    version: str
    host: str
    revision: str
    files: tuple[BackedUpFile, ...]
    models: tuple[str, ...] = ()
    counts: Mapping[str, int] | None = None

    @property
    def size_bytes(self) -> int:
        """Of all files."""
        return sum(one.size_bytes for one in self.files)


def describe_file(folder: Path, name: str) -> BackedUpFile:
    """Read a file whole. Raises OSError."""
    digest, size = hashlib.sha256(), 0
    with (folder / name).open("rb") as file:
        while block := file.read(COPY_BYTES):
            digest.update(block)
            size += len(block)
    return BackedUpFile(name, size, digest.hexdigest())


def write_container(sink: Sink, manifest: Manifest, folder: Path, report: Report) -> None:
    """Write manifest and files. Raises OSError, and RuntimeError for a file that is not as the manifest says."""
    text = json.dumps(_to_json(manifest), ensure_ascii=False, separators=(",", ":")).encode()
    sink.write(len(text).to_bytes(_LENGTH_BYTES, "big") + text)
    done = 0
    for one in manifest.files:
        left = one.size_bytes
        with (folder / one.name).open("rb") as file:
            while left:
                block = file.read(min(COPY_BYTES, left))
                if not block:
                    raise RuntimeError(f"{one.name} became shorter while it was read")
                sink.write(block)
                left -= len(block)
                done += len(block)
                report(done, manifest.size_bytes)


def read_manifest(source: Source, *, path: str) -> Manifest:
    """The manifest, checked: known names alone, each once, sizes within bounds. Raises BackupDamaged, BackupTooNew."""
    length = int.from_bytes(_exactly(source, _LENGTH_BYTES, path), "big")
    if length > MOST_MANIFEST_BYTES:
        raise BackupDamaged(path=path, reason="its list of contents is too long")
    try:
        values = json.loads(_exactly(source, length, path))
        if isinstance(values, dict) and isinstance(values.get("schema"), int) and values["schema"] > SCHEMA:
            raise BackupTooNew(path=path, found=f"contents {values['schema']}", known=f"contents {SCHEMA}")
        manifest = _from_json(values)
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise BackupDamaged(path=path, reason="its list of contents makes no sense") from error
    _check(manifest, path)
    return manifest


def read_files(source: Source, manifest: Manifest, folder: Path | None, *, path: str) -> None:
    """Read every file, compare it with the manifest, and with ``folder`` write it there (mode 0600). Nothing may follow
    the last. Raises BackupDamaged, OSError."""
    for one in manifest.files:
        target = None if folder is None else folder / one.name
        if target is not None:
            target.parent.mkdir(mode=0o700, exist_ok=True)
            descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                digest = _copy(source, one.size_bytes, file.write, path)
        else:
            digest = _copy(source, one.size_bytes, lambda block: len(block), path)
        if digest != one.sha256:
            raise BackupDamaged(path=path, reason=f"{one.name} is not the file that was backed up")
    if source.read(1):
        raise BackupDamaged(path=path, reason="it has more in it than it says")


def _copy(source: Source, size: int, write: Callable[[bytes], int], path: str) -> str:
    digest, left = hashlib.sha256(), size
    while left:
        block = _exactly(source, min(COPY_BYTES, left), path)
        digest.update(block)
        write(block)
        left -= len(block)
    return digest.hexdigest()


def _exactly(source: Source, size: int, path: str) -> bytes:
    found = source.read(size)
    if len(found) < size:
        raise BackupDamaged(path=path, reason="it has less in it than it says")
    return found


def _check(manifest: Manifest, path: str) -> None:
    names = [one.name for one in manifest.files]
    if DATABASE not in names:
        raise BackupDamaged(path=path, reason="it has no database")
    if len(names) != len(set(names)) or len(names) > MOST_FILES:
        raise BackupDamaged(path=path, reason="its list of contents makes no sense")
    for one in manifest.files:
        part = part_of(one.name)
        if part is None:
            shown = "".join(char if char.isprintable() else "?" for char in one.name[:80])
            raise BackupDamaged(path=path, reason=f"it has a file that no box makes: '{shown}'")
        if not 0 <= one.size_bytes <= part.most_bytes or not _SHA256.fullmatch(one.sha256):
            raise BackupDamaged(path=path, reason=f"what it says of {one.name} makes no sense")


def _to_json(manifest: Manifest) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "created_at": manifest.created_at,
        "version": manifest.version,
        "host": manifest.host,
        "revision": manifest.revision,
        "models": list(manifest.models),
        "counts": dict(manifest.counts or {}),
        "files": [{"name": one.name, "size_bytes": one.size_bytes, "sha256": one.sha256} for one in manifest.files],
    }


def _from_json(values: Any) -> Manifest:
    return Manifest(
        created_at=_text(values["created_at"]),
        version=_text(values["version"]),
        host=_text(values["host"]),
        revision=_text(values["revision"]),
        models=tuple(_text(one) for one in _list(values["models"])[:MOST_MODELS]),
        counts={_text(name): _number(count) for name, count in dict(values["counts"]).items()},
        files=tuple(
            BackedUpFile(_text(one["name"]), _number(one["size_bytes"]), _text(one["sha256"]))
            for one in _list(values["files"])
        ),
    )


def _text(value: Any) -> str:
    if not isinstance(value, str) or len(value) > 1024:
        raise TypeError("no text")
    return value


def _number(value: Any) -> int:
    if type(value) is not int:
        raise TypeError("no number")
    return value


def _list(value: Any) -> Sequence[Any]:
    if not isinstance(value, list):
        raise TypeError("no list")
    return value
