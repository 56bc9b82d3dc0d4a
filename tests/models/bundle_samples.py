"""Bundles for the tests: real models, real keys, chunks small enough that a model has many."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from models.bundle.create import CreatedBundle, CreateOptions, Sticks, create_bundle, source_of_path
from models.bundle.layout import StickSpace
from models.bundle.manifest import MANIFEST_FILE, SIGNATURE_FILE
from models.bundle.secret_key import SecretKey
from models.bundle.trust import TrustedKeys
from models.bundle.writing import sign_manifest
from models.model_store import ModelStore
from tests.models.store_samples import write_dense

CHUNK = 64 * 1024
KEY = SecretKey(b"labkey01", bytes(range(32)))
OTHER_KEY = SecretKey(b"otherkey", bytes(range(1, 33)))
KEYS = TrustedKeys((("lab.pub", KEY.public("Lab")),))
NOBODY = TrustedKeys()


def now() -> datetime:
    return datetime(2026, 3, 1, 12, tzinfo=UTC)


@dataclass(frozen=True)
class Sample:
    """A bundle on the disk and the model it was made of."""

    source: Path
    made: CreatedBundle

    @property
    def folder(self) -> Path:
        return self.made.folders[0]

    @property
    def payload(self) -> Path:
        return self.folder / self.made.manifest.files[0].parts[0].path


def make_bundle(
    folder: Path,
    *,
    source: Path | None = None,
    size_bytes: int = 600_000,
    key: SecretKey | None = KEY,
    stick_bytes: int | None = None,
    max_file_bytes: int | None = None,
    name: str | None = None,
    seed: int = 0,
) -> Sample:
    """Makes a model (unless ``source`` is one) and a bundle of it below ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    source = source or write_dense(folder / "Big-R1-Q8_0.gguf", size_bytes, seed)

    def folder_of(number: int, _manifest: object) -> Path:
        return folder / ("bundle" if stick_bytes is None else f"stick-{number}")

    sticks = Sticks((StickSpace(stick_bytes, max_file_bytes),), folder_of, repeat_last=stick_bytes is not None)
    options = CreateOptions(key=key, chunk_bytes=CHUNK, now=now, name=name)
    return Sample(source, create_bundle(source_of_path(source), sticks, options=options))


def rewrite(folder: Path, change: Callable[[dict[str, Any]], None], key: SecretKey | None = KEY) -> None:
    """Changes the manifest of a bundle and signs it again, as somebody with the key could."""
    manifest = json.loads((folder / MANIFEST_FILE).read_text())
    change(manifest)
    raw = json.dumps(manifest).encode()
    (folder / MANIFEST_FILE).write_bytes(raw)
    (folder / SIGNATURE_FILE).unlink(missing_ok=True)
    if key is not None:
        (folder / SIGNATURE_FILE).write_bytes(sign_manifest(raw, key, now))


def flip(path: Path, offset: int) -> None:
    """Changes one bit of a file."""
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 1]))


def unfinished(store: ModelStore) -> list[str]:
    return [u.key for u in store.usage().unfinished]


def assert_untouched(store: ModelStore) -> None:
    assert store.list().models == ()
    assert store.list().damaged == ()


def reads(monkeypatch: pytest.MonkeyPatch, below: Path) -> list[tuple[str, int]]:
    """Every read of a payload file below a folder, as (name, offset)."""
    seen: list[tuple[str, int]] = []
    real = os.preadv

    def preadv(descriptor: int, buffers: Any, offset: int) -> int:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        if path.is_relative_to(below) and path.name.startswith("model"):
            seen.append((path.name, offset))
        return real(descriptor, buffers, offset)

    monkeypatch.setattr(os, "preadv", preadv)
    return seen
