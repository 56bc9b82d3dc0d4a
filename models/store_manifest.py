"""``manifest.json``: what the store knows of a model, as it is written and read.

Schema 2 (written) lists the model's files. Schema 1 (read: models of earlier versions stay where they are) had one
file, ``model.gguf``; it becomes a schema 2 value in memory and its manifest is not rewritten.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from pathlib import Path

import msgspec

from models.errors import printable
from models.store_types import ModelFile, ModelFormat, Provenance, RecognisedBy
from models.types import InstalledModel, Licence, Profile

MANIFEST_SCHEMA = 2
MODEL_FILE = "model.gguf"
MANIFEST_FILE = "manifest.json"
MAX_MANIFEST_BYTES = 32 * 1024 * 1024
"""713 GB in chunks of 4 MiB have 170,000 hashes of 67 bytes."""

MAX_FILES = 2048
MAX_ID_LENGTH = 96
ID = re.compile(r"[a-z0-9][a-z0-9._-]{0,126}")
FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]{0,199}")
"""Names a file of a model may have: no folder, nothing hidden, nothing a shell or terminal would trip over."""

_SHA256 = re.compile(r"[0-9a-f]{64}")
_NOT_IN_ID = re.compile(r"[^a-z0-9._]+")


class FileEntry(msgspec.Struct, frozen=True, omit_defaults=True):
    """A file in the manifest. ``chunks`` (sha256 of each ``chunk_bytes``) are optional."""

    name: str
    size_bytes: int
    sha256: str
    chunk_bytes: int | None = None
    chunks: tuple[str, ...] = ()


class LicenceEntry(msgspec.Struct, frozen=True):
    """``types.Licence`` as it is kept: the catalogue's own is strict about fields it does not know."""

    name: str
    derived_from: str | None = None
    notice: str | None = None


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What ``manifest.json`` says of a model. Unknown fields are left alone, and so are values of ``recognised_by`` and
    ``profile`` that this version does not know: an update that was rolled back may have written them.

    ``files`` are in the order in which they are read: the part of a split GGUF that llama.cpp is given comes first.
    """

    schema: int = MANIFEST_SCHEMA
    id: str
    name: str
    architecture: str
    quantization: str
    parameters: int
    context_length_trained: int
    has_chat_template: bool
    imported_at: str
    files: tuple[FileEntry, ...]
    provenance: Provenance
    format: ModelFormat = ModelFormat.GGUF
    variant: str | None = None
    recognised_by: str | None = None
    profile: str | None = None
    licence: LicenceEntry | None = None
    warnings: tuple[str, ...] = ()

    @property
    def size_bytes(self) -> int:
        return sum(f.size_bytes for f in self.files)

    @property
    def sha256(self) -> str:
        return content_sha256(self.files)


def licence_entry(licence: Licence | None) -> LicenceEntry | None:
    """A licence as the manifest keeps it."""
    return None if licence is None else LicenceEntry(licence.name, licence.derived_from, licence.notice)


class ManifestUnreadable(Exception):
    """The text is no manifest this version can read; the message says why."""


class _Schema(msgspec.Struct, frozen=True):
    schema: int


class _Manifest1(msgspec.Struct, frozen=True):
    id: str
    name: str
    architecture: str
    quantization: str
    size_bytes: int
    sha256: str
    parameters: int
    context_length_trained: int
    has_chat_template: bool
    imported_at: str
    source: str


def make_id(name: str, quantization: str) -> str:
    """``("DeepSeek R1 Distill Qwen 7B", "Q4_K_M")`` -> ``deepseek-r1-distill-qwen-7b-q4_k_m``.

    Only ``a-z 0-9 . _ -``, beginning with a letter or digit, at most 96 characters; ``model`` when nothing is left.
    """
    quant = _NOT_IN_ID.sub("-", quantization.lower()).strip("-._")[:32]
    slug = _NOT_IN_ID.sub("-", name.lower()).strip("-._")[: MAX_ID_LENGTH - len(quant) - 1].strip("-._") or "model"
    return f"{slug}-{quant}" if quant else slug


def content_sha256(files: Iterable[FileEntry | ModelFile]) -> str:
    """What identifies a model's content: the sha256 of its file, or, of several, that of the lines ``sha256sum`` would
    print for them in order of their names."""
    entries = sorted(files, key=lambda f: f.name)
    if len(entries) == 1:
        return entries[0].sha256
    lines = "".join(f"{f.sha256}  {f.name}\n" for f in entries)
    return hashlib.sha256(lines.encode()).hexdigest()


def encode(manifest: Manifest) -> bytes:
    """The text of ``manifest.json``."""
    return msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n"


def decode(raw: bytes) -> Manifest:
    """Reads schema 1 or 2. Raises ``ManifestUnreadable``."""
    try:
        if len(raw) > MAX_MANIFEST_BYTES:
            raise ManifestUnreadable("its manifest is not readable (too long)")
        schema = msgspec.json.decode(raw, type=_Schema).schema
        if schema not in (1, MANIFEST_SCHEMA):
            raise ManifestUnreadable("its manifest belongs to another model or a newer version")
        manifest = _upgraded(raw) if schema == 1 else msgspec.json.decode(raw, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ManifestUnreadable(f"its manifest is not readable ({error})") from error
    problem = manifest_problem(manifest)
    if problem:
        raise ManifestUnreadable(f"its manifest is wrong: {problem}")
    return manifest


def manifest_problem(manifest: Manifest) -> str | None:
    """What keeps a manifest from being published or believed, ``None`` when nothing does."""
    names = [f.name for f in manifest.files]
    if not 1 <= len(names) <= MAX_FILES:
        return f"it lists {len(names)} files"
    if len(set(names)) != len(names):
        return "it lists a file twice"
    for file in manifest.files:
        if not is_file_name(file.name):
            return f"{printable(file.name)[:80]!r} is no name for a file of a model"
        if file.size_bytes < 0 or not _SHA256.fullmatch(file.sha256):
            return f"the entry of {file.name} has no proper size or sha256"
        if file.chunks and not _chunks_fit(file):
            return f"the chunks of {file.name} do not make up the file"
    return None


def is_file_name(name: str) -> bool:
    """Whether a file of a model may be called so."""
    return FILE_NAME.fullmatch(name) is not None and name != MANIFEST_FILE


def installed(manifest: Manifest, folder: Path) -> InstalledModel:
    """The manifest's model as it lies in ``folder``."""
    files = tuple(
        ModelFile(f.name, f.size_bytes, f.sha256, folder / f.name, f.chunk_bytes, f.chunks) for f in manifest.files
    )
    licence = manifest.licence
    return InstalledModel(
        id=manifest.id,
        name=manifest.name,
        architecture=manifest.architecture,
        quantization=manifest.quantization,
        size_bytes=manifest.size_bytes,
        sha256=manifest.sha256,
        path=files[0].path,
        parameters=manifest.parameters,
        context_length_trained=manifest.context_length_trained,
        has_chat_template=manifest.has_chat_template,
        imported_at=manifest.imported_at,
        source=manifest.provenance.name,
        files=files,
        format=manifest.format,
        variant=manifest.variant,
        recognised_by=RecognisedBy(manifest.recognised_by) if manifest.recognised_by in set(RecognisedBy) else None,
        profile=Profile(manifest.profile) if manifest.profile in set(Profile) else None,
        licence=Licence(licence.name, licence.derived_from, licence.notice) if licence else None,
        provenance=manifest.provenance,
        warnings=manifest.warnings,
    )


def _chunks_fit(file: FileEntry) -> bool:
    if file.chunk_bytes is None or file.chunk_bytes < 1:
        return False
    return len(file.chunks) == -(-file.size_bytes // file.chunk_bytes) and all(map(_SHA256.fullmatch, file.chunks))


def _upgraded(raw: bytes) -> Manifest:
    old = msgspec.json.decode(raw, type=_Manifest1)
    return Manifest(
        id=old.id,
        name=old.name,
        architecture=old.architecture,
        quantization=old.quantization,
        parameters=old.parameters,
        context_length_trained=old.context_length_trained,
        has_chat_template=old.has_chat_template,
        imported_at=old.imported_at,
        files=(FileEntry(MODEL_FILE, old.size_bytes, old.sha256),),
        provenance=Provenance("file", old.source),
    )
