"""The keys whose bundles a box accepts: a folder of minisign's ``*.pub`` files, each with its owner in the comment.

Any number of them: to rotate a key, the new one lies beside the old one until no bundle of the old one is in use.
"""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from models.bundle.errors import (
    BundleKeyUnknown,
    BundleSignatureInvalid,
    BundleTargetUnusable,
    BundleUnsigned,
    KeyFileInvalid,
    KeyNotTrusted,
)
from models.bundle.minisign import PublicKey, parse_public_key, parse_signature, verify
from models.bundle.secret_key import read_key_text
from models.errors import printable
from models.store_files import fsync_path

SUFFIX = ".pub"
MAX_KEYS = 256
_DIR_MODE = 0o755
_FILE_MODE = 0o644


@dataclass(frozen=True, slots=True)
class Signer:
    """Who has signed, as far as it is known: ``owner`` is ``None`` for a key that is not trusted, ``key_id`` also when
    there is no signature at all."""

    key_id: str | None
    owner: str | None
    comment: str | None = None

    @property
    def is_trusted(self) -> bool:
        return self.owner is not None


@dataclass(frozen=True, slots=True)
class TrustedKeys:
    """The keys of the folder by name of their files, and what in it could not be read (a line each)."""

    keys: tuple[tuple[str, PublicKey], ...] = ()
    problems: tuple[str, ...] = ()

    def identify(self, content: bytes, signature: bytes | None) -> Signer:
        """Who has signed ``content``. Raises ``BundleSignatureInvalid`` when a trusted key is named that has not."""
        if signature is None:
            return Signer(None, None)
        parsed = parse_signature(signature)
        named = [key for _, key in self.keys if key.key_id == parsed.key_id]
        failure: BundleSignatureInvalid | None = None
        for key in named:
            try:
                verify(key, parsed, content)
            except BundleSignatureInvalid as error:
                failure = error
                continue
            return Signer(key.id, key.owner, printable(parsed.comment.replace("\t", " ")))
        if failure is not None:
            raise failure
        return Signer(parsed.id, None)

    def demand(self, name: str, signer: Signer) -> None:
        """Raises ``BundleUnsigned`` or ``BundleKeyUnknown`` unless a trusted key has signed."""
        if signer.is_trusted:
            return
        if signer.key_id is None:
            raise BundleUnsigned(name)
        raise BundleKeyUnknown(name, signer.key_id)


def read_trusted_keys(folder: Path) -> TrustedKeys:
    """All keys of the folder; none when there is no such folder. Raises ``KeyFileInvalid`` when it cannot be read."""
    try:
        names = sorted(entry.name for entry in os.scandir(folder) if entry.name.endswith(SUFFIX))
    except FileNotFoundError:
        return TrustedKeys()
    except OSError as error:
        raise KeyFileInvalid(str(folder), (error.strerror or str(error)).lower()) from error
    keys: list[tuple[str, PublicKey]] = []
    problems = []
    for name in names[:MAX_KEYS]:
        try:
            keys.append((name, parse_public_key(read_key_text(folder / name), name)))
        except KeyFileInvalid as error:
            problems.append(error.message)
    if len(names) > MAX_KEYS:
        problems.append(f"{len(names) - MAX_KEYS} more keys were not read: {MAX_KEYS} are enough.")
    return TrustedKeys(tuple(keys), tuple(problems))


def add_key(folder: Path, key: PublicKey) -> Path:
    """Trusts ``key`` from now on and returns its file. Raises ``BundleTargetUnusable``."""
    target = folder / f"{key.id}{SUFFIX}"
    temporary = folder / f".{secrets.token_hex(8)}.new"
    try:
        folder.mkdir(mode=_DIR_MODE, parents=True, exist_ok=True)
        if any(known.raw != key.raw for _, known in read_trusted_keys(folder).keys if known.key_id == key.key_id):
            raise KeyFileInvalid(key.id, "another key with the same id is trusted already")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _FILE_MODE)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(key.text())
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
        fsync_path(folder)
    except OSError as error:
        problem = (error.strerror or str(error)).lower()
        raise BundleTargetUnusable(folder, problem, "Run this as the user that owns the folder of keys.") from error
    return target


def remove_key(folder: Path, key_id: str) -> PublicKey:
    """Trusts a key no more, under whatever file name it lies, and returns it. Raises ``KeyNotTrusted`` or
    ``BundleTargetUnusable``."""
    wanted = key_id.strip().upper()
    found = [(name, key) for name, key in read_trusted_keys(folder).keys if key.id == wanted]
    if not found:
        raise KeyNotTrusted(printable(wanted)[:80])
    try:
        for name, _ in found:
            (folder / name).unlink()
        fsync_path(folder)
    except OSError as error:
        problem = (error.strerror or str(error)).lower()
        raise BundleTargetUnusable(folder, problem, "Run this as the user that owns the folder of keys.") from error
    return found[0][1]
