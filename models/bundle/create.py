"""Makes bundles: hashes a model, divides it over sticks, copies it and signs the manifest.

The bytes are hashed once before (a manifest must be known whole before its first stick is finished) and again while
they are copied; what changed in between is refused. Every stick is written into a hidden folder beside its place and
renamed when it is whole and on the medium, so nobody mistakes half a bundle for one. Started again, an interrupted
export keeps every chunk that has arrived.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import msgspec

from models.bundle.errors import BundleManifestInvalid, BundleSourceChanged, BundleTargetUnusable
from models.bundle.facts import read_facts
from models.bundle.lanes import Digest, flow, read_fully
from models.bundle.layout import StickSpace, lay_out
from models.bundle.manifest import (
    BUNDLE_SCHEMA,
    CHUNK_BYTES,
    MANIFEST_FILE,
    MAX_MANIFEST_BYTES,
    BundleFile,
    BundleManifest,
    BundlePart,
    BundleStick,
    decode,
    encode,
)
from models.bundle.secret_key import SecretKey
from models.bundle.writing import StickWriter, sign_manifest
from models.catalogue import load_catalogue
from models.errors import ModelDamaged, printable
from models.gguf import open_model_file, read_header
from models.gguf_set import part_name, parts_of
from models.hashing import Progress, ignore_progress
from models.import_checks import TemplateCheck
from models.import_copy import unreadable
from models.import_safetensors import folder_files
from models.import_source import SourceKind, classify
from models.store_manifest import MODEL_FILE, make_id
from models.store_types import ModelFile, ModelFormat
from models.types import Catalogue, InstalledModel

_MANIFEST_SLACK_BYTES = 256 * 1024
_CHUNK_LINE_BYTES = 80
_PART_LINE_BYTES = 256


@dataclass(frozen=True, slots=True)
class SourceEntry:
    """A file that goes into a bundle. ``known`` is what the store knows of it."""

    name: str
    path: Path
    size_bytes: int
    known: ModelFile | None = None


@dataclass(frozen=True, slots=True)
class BundleSource:
    """A model to be carried: from the store (``model``) or from a path."""

    named: Path
    format: ModelFormat
    entries: tuple[SourceEntry, ...]
    model: InstalledModel | None = None

    @property
    def size_bytes(self) -> int:
        return sum(entry.size_bytes for entry in self.entries)


@dataclass(frozen=True, slots=True)
class Sticks:
    """Where the bundle goes: room per stick, and the folder of each when its turn comes.

    ``folder_of(number, manifest)`` may wait for somebody to put the stick in. ``repeat_last``: as many more sticks like
    the last one as are needed.
    """

    spaces: tuple[StickSpace, ...]
    folder_of: Callable[[int, BundleManifest], Path]
    repeat_last: bool = False


@dataclass(frozen=True, slots=True)
class CreateOptions:
    """How to make it. ``name`` replaces the model's own; without ``key`` the bundle is unsigned."""

    name: str | None = None
    key: SecretKey | None = None
    chunk_bytes: int = CHUNK_BYTES
    check_template: TemplateCheck | None = None
    catalogue: Catalogue | None = None
    now: Callable[[], datetime] = lambda: datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class CreatedBundle:
    """What was made: the manifest and the folder of each stick."""

    manifest: BundleManifest
    folders: tuple[Path, ...]


def source_of_model(model: InstalledModel) -> BundleSource:
    """A model of the store."""
    entries = tuple(SourceEntry(f.name, f.path, f.size_bytes, f) for f in model.files)
    return BundleSource(model.path, model.format, entries, model)


def source_of_path(path: Path) -> BundleSource:
    """A GGUF (any part of a split one) or a folder of safetensors. Raises a ``ModelFileError``."""
    kind, target = classify(path)
    if kind is SourceKind.BUNDLE:
        raise BundleTargetUnusable(
            path, "it is a bundle already", "Copy its folder, or sign it with r1box bundle sign."
        )
    if kind is SourceKind.GGUF:
        parts = parts_of(target, read_header(target))
        count = len(parts)
        names = [MODEL_FILE] if count == 1 else [part_name("model", n, count) for n in range(1, count + 1)]
        found = list(zip(names, parts, strict=True))
        model_format = ModelFormat.GGUF
    else:
        try:
            found = [(name, target / name) for name in folder_files(target)[0]]
        except OSError as error:
            raise unreadable(target, error) from error
        model_format = ModelFormat.SAFETENSORS
    try:
        entries = tuple(SourceEntry(name, file, file.stat().st_size) for name, file in found)
    except OSError as error:
        raise unreadable(target, error) from error
    return BundleSource(target, model_format, entries)


def create_bundle(
    source: BundleSource, sticks: Sticks, progress: Progress = ignore_progress, options: CreateOptions | None = None
) -> CreatedBundle:
    """Writes the bundle; ``progress`` counts two passes, hashing and copying.

    Raises ``BundleTargetTooSmall``, ``BundleTargetUnusable``, ``BundleSourceChanged``, ``BundleStickMissing`` or a
    ``ModelError`` about the model.
    """
    options = options or CreateOptions()
    total = 2 * source.size_bytes
    manifest = make_manifest(source, sticks, lambda done, _: progress(done, total), options)
    first = sticks.folder_of(1, manifest)
    manifest = _continued(first, manifest, sticks)
    raw = encode(manifest)
    signature = None if options.key is None else sign_manifest(raw, options.key, options.now)
    paths = {entry.name: entry.path for entry in source.entries}
    done = source.size_bytes
    folders = []
    for stick in manifest.sticks:
        folder = first if stick.number == 1 else sticks.folder_of(stick.number, manifest)
        writer = StickWriter(folder, manifest, stick.number, raw, signature)
        writer.write(paths, partial(_advance, progress, done, total))
        done += stick.size_bytes
        folders.append(folder)
    progress(total, total)
    return CreatedBundle(manifest, tuple(folders))


def make_manifest(
    source: BundleSource, sticks: Sticks, progress: Progress = ignore_progress, options: CreateOptions | None = None
) -> BundleManifest:
    """Hashes the model and says how it will lie on the sticks. Raises ``BundleTargetTooSmall``,
    ``BundleManifestInvalid`` or a ``ModelError`` about the model."""
    options = options or CreateOptions()
    chunk_bytes = options.chunk_bytes
    hashed = []
    done = 0
    for entry in source.entries:
        sha256, chunks = _hashes(entry, chunk_bytes, partial(_advance, progress, done, source.size_bytes))
        if entry.known is not None and sha256 != entry.known.sha256:
            model_id = source.model.id if source.model is not None else entry.name
            raise ModelDamaged(model_id, f"{entry.name}: its bytes have changed")
        hashed.append((sha256, chunks))
        done += entry.size_bytes
    facts = read_facts(
        [(entry.path, entry.name) for entry in source.entries],
        source.format,
        named=source.named,
        hashes={sha256 for sha256, _ in hashed},
        catalogue=options.catalogue or load_catalogue(),
        check_template=options.check_template,
        title=source.model.name if source.model is not None else None,
    )
    overhead = _MANIFEST_SLACK_BYTES + sum(_CHUNK_LINE_BYTES * len(c) + 4 * _PART_LINE_BYTES for _, c in hashed)
    sizes = [(entry.name, entry.size_bytes) for entry in source.entries]
    parts = lay_out(sizes, chunk_bytes, sticks.spaces, overhead, repeat_last=sticks.repeat_last)
    files = tuple(
        BundleFile(entry.name, entry.size_bytes, sha256, chunk_bytes, chunks, divided)
        for entry, (sha256, chunks), divided in zip(source.entries, hashed, parts, strict=True)
    )
    name = printable(options.name or facts.title).strip()[:120] or "model"
    bundle_id = make_id(name, facts.model.quantization)
    model = facts.model
    if source.model is not None and model.variant is None:
        known = source.model
        model = msgspec.structs.replace(model, variant=known.variant, profile=known.profile, licence=known.licence)
    return BundleManifest(
        schema=BUNDLE_SCHEMA,
        id=bundle_id,
        name=name,
        created_at=options.now().astimezone(UTC).isoformat(timespec="seconds"),
        signer=None if options.key is None else options.key.id,
        model=model,
        hardware=facts.hardware,
        sticks=_sticks(bundle_id, files),
        files=files,
    )


def _advance(progress: Progress, before: int, total: int, done: int) -> None:
    progress(before + done, total)


def _sticks(bundle_id: str, files: Sequence[BundleFile]) -> tuple[BundleStick, ...]:
    parts: list[BundlePart] = [p for f in files for p in f.parts]
    count = max(p.stick for p in parts)
    return tuple(
        BundleStick(n, f"{bundle_id}-{n}" if count > 1 else bundle_id, sum(p.size_bytes for p in parts if p.stick == n))
        for n in range(1, count + 1)
    )


def _hashes(entry: SourceEntry, chunk_bytes: int, progress: Callable[[int], None]) -> tuple[str, tuple[str, ...]]:
    """sha256 of a file and of its chunks: the store's where it has them, for the copying compares them again."""
    known = entry.known
    if known is not None and known.chunk_bytes == chunk_bytes and known.chunks:
        progress(entry.size_bytes)
        return known.sha256, known.chunks
    descriptor = open_model_file(entry.path)
    chunks: dict[int, str] = {}

    def read(number: int, buffer: memoryview) -> memoryview | None:
        view = buffer[: min(chunk_bytes, entry.size_bytes - number * chunk_bytes)]
        try:
            filled = read_fully(descriptor, view, number * chunk_bytes)
        except OSError as error:
            raise unreadable(entry.path, error) from error
        return view if filled == len(view) else None

    def work(number: int, view: memoryview) -> bool:
        chunks[number] = hashlib.sha256(view).hexdigest()
        return True

    def done(number: int) -> None:
        progress(min((number + 1) * chunk_bytes, entry.size_bytes))

    digest = Digest(chunk_bytes, entry.size_bytes)
    count = -(-entry.size_bytes // chunk_bytes)
    try:
        failed = flow(range(count), max(min(chunk_bytes, entry.size_bytes), 1), read, work, digest, done)
        if failed or os.fstat(descriptor).st_size != entry.size_bytes:
            raise BundleSourceChanged(entry.path)
        return digest.finish(), tuple(chunks[n] for n in range(count))
    finally:
        os.close(descriptor)


def _continued(folder: Path, manifest: BundleManifest, sticks: Sticks) -> BundleManifest:
    """The manifest of an interrupted export of the very same model, so that all its sticks agree; else this one.

    Where the cuts lie may differ: an export that was interrupted has changed what is free.
    """
    for place in (folder, StickWriter.partial_of(folder)):
        try:
            with (place / MANIFEST_FILE).open("rb") as file:
                earlier = decode(file.read(MAX_MANIFEST_BYTES + 1))
        except (OSError, BundleManifestInvalid):
            continue
        same = msgspec.structs.replace(
            earlier, created_at=manifest.created_at, sticks=manifest.sticks, files=manifest.files
        )
        if same == manifest and earlier.content_sha256 == manifest.content_sha256 and _fits(earlier, sticks):
            return earlier
    return manifest


def _fits(manifest: BundleManifest, sticks: Sticks) -> bool:
    if len(manifest.sticks) > len(sticks.spaces) and not sticks.repeat_last:
        return False
    for stick in manifest.sticks:
        space = sticks.spaces[min(stick.number, len(sticks.spaces)) - 1]
        longest = max((p.size_bytes for f in manifest.files for p in f.parts if p.stick == stick.number), default=0)
        if space.capacity_bytes is not None and stick.size_bytes > space.capacity_bytes:
            return False
        if space.max_file_bytes is not None and longest > space.max_file_bytes:
            return False
    return True
