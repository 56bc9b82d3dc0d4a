"""Reads a whole bundle and names everything that is wrong with it: signature, missing files, every bad range."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from models.bundle.folder import open_bundle
from models.bundle.lanes import Digest, flow
from models.bundle.manifest import BundleFile, BundleManifest, BundlePart
from models.bundle.parts import BadRange, FileReader, span
from models.bundle.trust import Signer, TrustedKeys
from models.hashing import Progress, ignore_progress


@dataclass(frozen=True, slots=True)
class BundleReport:
    """What was found. ``missing`` are parts on sticks that were not given; ``contradictions`` are files whose chunks
    are right and whose own sha256 is not: whoever made the bundle was wrong."""

    manifest: BundleManifest
    signer: Signer
    bad: tuple[BadRange, ...]
    missing: tuple[BundlePart, ...]
    contradictions: tuple[str, ...]

    @property
    def is_whole(self) -> bool:
        return not (self.bad or self.missing or self.contradictions)


def verify_bundle(paths: Sequence[Path], keys: TrustedKeys, progress: Progress = ignore_progress) -> BundleReport:
    """Checks the signature and every chunk of the folders of one bundle. Who signed is told, not demanded.

    Raises ``BundleUnreadable``, ``BundleEntryRefused``, ``BundleSignatureInvalid``, ``BundleManifestInvalid`` or
    ``BundleMismatch``.
    """
    bad: list[BadRange] = []
    missing: list[BundlePart] = []
    contradictions: list[str] = []
    with open_bundle(paths, keys) as bundle:
        before = 0
        total = bundle.manifest.size_bytes
        for file in bundle.manifest.files:
            with FileReader(bundle, file) as reader:
                missing += reader.missing_parts
                digest, found = _check(reader, before, total, progress)
            bad += found
            if digest is not None and digest != file.sha256:
                contradictions.append(f"{file.name} as a whole does not have the sha256 of the manifest")
            before += file.size_bytes
            progress(before, total)
        return BundleReport(bundle.manifest, bundle.signer, tuple(bad), tuple(missing), tuple(contradictions))


def _check(reader: FileReader, before: int, total: int, progress: Progress) -> tuple[str | None, list[BadRange]]:
    """The file's sha256 where all of it is right, and its bad ranges."""
    file = reader.file

    def is_right(number: int, view: memoryview) -> bool:
        return hashlib.sha256(view).hexdigest() == file.chunks[number]

    def done(number: int) -> None:
        progress(before + sum(span(file, number)), total)

    numbers = [n for n in range(len(file.chunks)) if reader.is_at_hand(n)]
    whole = len(numbers) == len(file.chunks)
    digest = Digest(file.chunk_bytes, file.size_bytes) if whole and not reader.missing_parts else None
    failed = flow(numbers, buffer_bytes(file), reader.read, is_right, digest, done)
    buffer = memoryview(bytearray(buffer_bytes(file))) if failed else memoryview(b"")
    wrong = [n for n in failed if reader.read_right(n, buffer) is None]
    bad = reader.bad_ranges(wrong) + reader.too_long
    return (digest.finish() if digest is not None and not failed and not bad else None), bad


def buffer_bytes(file: BundleFile) -> int:
    """Length of the file's longest chunk, at least 1."""
    return max(min(file.chunk_bytes, file.size_bytes), 1)
