"""``manifest.json`` of a bundle: what it carries, on which sticks, and what a machine needs for it. Schema 1.

It comes from strangers: the text is bounded before it is read, decoding is strict (unknown and missing fields are
errors), every hash is checked for its form while it is read, and every number and name is within bounds before anybody
uses it. A file is cut into ``parts`` (one, unless it had to be divided), each at a multiple of ``chunk_bytes``, so a
chunk never lies on two sticks.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from typing import Annotated

import msgspec

from models.bundle.errors import BundleManifestInvalid
from models.errors import printable
from models.gguf_set import part_name
from models.store_manifest import MODEL_FILE, is_file_name
from models.store_types import ModelFormat
from models.types import EngineName, Licence, ModelShape, Profile

BUNDLE_SCHEMA = 1
MANIFEST_FILE = "manifest.json"
SIGNATURE_FILE = "manifest.json.minisig"
MAX_MANIFEST_BYTES = 32 * 1024 * 1024
"""700 GB in chunks of 16 MiB have 42,000 hashes of 77 bytes: 3.2 MB."""

CHUNK_BYTES = 16 * 1024 * 1024
MIN_CHUNK_BYTES = 4096
MAX_CHUNK_BYTES = 64 * 1024 * 1024
MAX_CHUNKS = 262_144
MAX_FILES = 2048
MAX_PARTS = 8192
MAX_PARTS_OF_FILE = 384
"""All are open at the same time; 384 of 4 GiB are 1.5 TiB."""

MAX_STICKS = 64
MAX_FILE_BYTES = 2**46

_MAX_FOLDERS = 2
_ID = re.compile(r"[a-z0-9][a-z0-9._-]{0,95}")
_COMPONENT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]{0,127}")
_RESERVED = frozenset({"con", "prn", "aux", "nul", *(f"{n}{d}" for n in ("com", "lpt") for d in range(10))})
"""Names of devices under Windows, whatever their ending: a stick with one cannot be read there."""
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\+00:00|Z)")
_KEY_ID = re.compile(r"[0-9A-F]{16}")
_SHAPE_BOUNDS = {"layers": 4096, "heads": 65_536, "kv_heads": 65_536, "vocab_size": 2**24, "context_length": 2**31}
_MAX_LENGTH = 2**24

Sha256 = Annotated[str, msgspec.Meta(min_length=64, max_length=64, pattern="^[0-9a-f]{64}$")]
Text = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
Size = Annotated[int, msgspec.Meta(ge=0, le=MAX_FILE_BYTES)]


class BundlePart(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A file as it lies on a stick: all of a model's file, or a piece of it."""

    path: Annotated[str, msgspec.Meta(min_length=1, max_length=386)]
    size_bytes: Size
    stick: int


class BundleFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A file of the model. Its ``parts``, one after the other, are its bytes; ``chunks`` are the sha256 of each
    ``chunk_bytes`` of it, the last one may be shorter."""

    name: Text
    size_bytes: Size
    sha256: Sha256
    chunk_bytes: Annotated[int, msgspec.Meta(ge=MIN_CHUNK_BYTES, le=MAX_CHUNK_BYTES)]
    chunks: tuple[Sha256, ...]
    parts: tuple[BundlePart, ...]


class BundleModel(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the model is. ``variant`` is its name in the catalogue, where it has one."""

    format: ModelFormat
    quantization: Text
    architecture: Text
    parameters: Annotated[int, msgspec.Meta(ge=0, le=2**50)]
    context_length_trained: Annotated[int, msgspec.Meta(ge=1, le=2**31)]
    variant: Text | None
    profile: Profile | None
    licence: Licence | None


class Hardware(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a machine needs: enough numbers for the planner to judge without the model's files.

    ``minimum_memory_bytes`` is for people: weights, one seat of 4,096 tokens and buffers, without anybody's reserve.
    ``weights_bytes`` = ``repeating_bytes`` (the layers, the largest of ``largest_layer_bytes``; ``expert_bytes`` of
    them are experts) + ``embedding_bytes`` + ``output_bytes``. ``matrix_types`` are GGUF's names of tensor types;
    ``legacy_mla`` says that a deepseek2 file is in its old form.
    """

    minimum_memory_bytes: Size
    weights_bytes: Size
    repeating_bytes: Size
    largest_layer_bytes: Size
    expert_bytes: Size
    embedding_bytes: Size
    output_bytes: Size
    tied: bool
    legacy_mla: bool
    matrix_types: tuple[Text, ...]
    engines: tuple[EngineName, ...]
    shape: ModelShape


class BundleStick(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A medium: numbers count from 1; ``size_bytes`` of its parts."""

    number: int
    name: Text
    size_bytes: Size


class BundleManifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All of ``manifest.json``. ``signer`` is the id of the key it is signed with, ``None`` before."""

    schema: int
    id: Text
    name: Text
    created_at: Text
    signer: str | None
    model: BundleModel
    hardware: Hardware
    sticks: tuple[BundleStick, ...]
    files: tuple[BundleFile, ...]

    @property
    def size_bytes(self) -> int:
        return sum(f.size_bytes for f in self.files)

    @property
    def content_sha256(self) -> str:
        """Identifies the bytes carried, whoever signed them and however they are divided over sticks."""
        content = [(f.name, f.size_bytes, f.sha256, f.chunk_bytes, f.chunks) for f in self.files]
        return hashlib.sha256(msgspec.json.encode(content)).hexdigest()

    def stick_name(self, number: int) -> str:
        """``stick 2 of 3 (NAME)``, as it is asked for."""
        return f"stick {number} of {len(self.sticks)} ({printable(self.sticks[number - 1].name)})"


class _Schema(msgspec.Struct, frozen=True):
    schema: int


def encode(manifest: BundleManifest) -> bytes:
    """The text of ``manifest.json``. Raises ``BundleManifestInvalid`` when no reader would take it."""
    raw = msgspec.json.format(msgspec.json.encode(manifest), indent=1) + b"\n"
    if decode(raw) != manifest:
        raise BundleManifestInvalid("it does not survive being written")
    return raw


def decode(raw: bytes) -> BundleManifest:
    """Reads and checks ``manifest.json``. Raises ``BundleManifestInvalid``."""
    if len(raw) > MAX_MANIFEST_BYTES:
        raise BundleManifestInvalid(f"it is longer than {MAX_MANIFEST_BYTES:,} bytes")
    try:
        schema = msgspec.json.decode(raw, type=_Schema).schema
        if schema != BUNDLE_SCHEMA:
            raise BundleManifestInvalid(f"it is of schema {schema}, this software reads {BUNDLE_SCHEMA}")
        manifest = msgspec.json.decode(raw, type=BundleManifest)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BundleManifestInvalid(printable(str(error))[:200]) from error
    problem = _problem(manifest)
    if problem:
        raise BundleManifestInvalid(problem)
    return manifest


def is_safe_path(path: str) -> bool:
    """Whether a part may lie there: at most two folders, plain names that every file system takes, no device's name,
    not a name the bundle itself uses."""
    names = path.split("/")
    if len(names) > _MAX_FOLDERS + 1 or path.casefold() in (MANIFEST_FILE, SIGNATURE_FILE):
        return False
    return all(
        _COMPONENT.fullmatch(name) and not name.endswith(".") and name.partition(".")[0].lower() not in _RESERVED
        for name in names
    )


def _problem(manifest: BundleManifest) -> str | None:
    if not _ID.fullmatch(manifest.id):
        return f"{_shown(manifest.id)} is no id"
    if manifest.name != printable(manifest.name) or not manifest.name.strip():
        return "its name has characters that do not belong there"
    if not _TIME.fullmatch(manifest.created_at):
        return "created_at is not a time in UTC"
    if manifest.signer is not None and not _KEY_ID.fullmatch(manifest.signer):
        return "signer is no id of a key"
    return _hardware_problem(manifest) or _files_problem(manifest) or _sticks_problem(manifest)


def _hardware_problem(manifest: BundleManifest) -> str | None:
    hardware, shape = manifest.hardware, manifest.hardware.shape
    for name in msgspec.structs.fields(ModelShape):
        value = getattr(shape, name.name)
        bound = _SHAPE_BOUNDS.get(name.name, _MAX_LENGTH)
        if isinstance(value, int) and not 1 <= value <= bound:
            return f"hardware.shape.{name.name} is {value}, outside 1 to {bound}"
    texts = (manifest.model.architecture, manifest.model.quantization, *hardware.matrix_types)
    if any(text != printable(text) for text in texts) or len(hardware.matrix_types) > 64:
        return "architecture, quantization or matrix_types are not plain names"
    if not 1 <= len(hardware.engines) <= len(EngineName):
        return "hardware.engines names no engine"
    parts = hardware.repeating_bytes + hardware.embedding_bytes + hardware.output_bytes
    largest = max(hardware.largest_layer_bytes, hardware.expert_bytes)
    if parts != hardware.weights_bytes or largest > hardware.repeating_bytes or parts > manifest.size_bytes:
        return "the sizes under hardware do not agree with each other or with the files"
    if hardware.largest_layer_bytes * shape.layers < hardware.repeating_bytes:
        return "hardware.largest_layer_bytes is smaller than the mean layer"
    return None


def _files_problem(manifest: BundleManifest) -> str | None:
    files = manifest.files
    if not 1 <= len(files) <= MAX_FILES:
        return f"it lists {len(files)} files"
    names = [f.name for f in files]
    wanted = [MODEL_FILE] if len(files) == 1 else [part_name("model", n, len(files)) for n in range(1, len(files) + 1)]
    if manifest.model.format is ModelFormat.GGUF and names != wanted:
        return "its files are not named as the parts of one GGUF"
    if len({name.casefold() for name in names}) != len(names):
        return "it lists a file twice"
    if sum(len(f.chunks) for f in files) > MAX_CHUNKS or sum(len(f.parts) for f in files) > MAX_PARTS:
        return f"it has more than {MAX_CHUNKS:,} chunks or {MAX_PARTS:,} parts"
    for file in files:
        if not is_file_name(file.name):
            return f"{_shown(file.name)} is no name for a file of a model"
        if len(file.parts) > MAX_PARTS_OF_FILE:
            return f"{file.name} is divided into more than {MAX_PARTS_OF_FILE} parts"
        if len(file.chunks) != -(-file.size_bytes // file.chunk_bytes):
            return f"{file.name} has {len(file.chunks)} chunks for {file.size_bytes:,} bytes"
        if not file.parts or sum(p.size_bytes for p in file.parts) != file.size_bytes:
            return f"the parts of {file.name} do not make up its {file.size_bytes:,} bytes"
        if any(p.size_bytes % file.chunk_bytes or not p.size_bytes for p in file.parts[:-1]):
            return f"{file.name} is divided within a chunk"
        if len(file.parts) > 1 and not file.parts[-1].size_bytes:
            return f"{file.name} has an empty part"
    return _paths_problem(p for f in files for p in f.parts)


def _paths_problem(parts: Iterable[BundlePart]) -> str | None:
    seen: set[str] = set()
    folders: set[str] = set()
    for part in parts:
        if not is_safe_path(part.path):
            return f"{_shown(part.path)} is no path that a bundle may use"
        path = part.path.casefold()  # FAT does not tell Model.gguf from model.gguf
        if path in seen:
            return f"{part.path} is there twice"
        seen.add(path)
        names = path.split("/")
        folders |= {"/".join(names[:depth]) for depth in range(1, len(names))}
    both = sorted(seen & folders)
    return f"{both[0]} is a file and a folder" if both else None


def _sticks_problem(manifest: BundleManifest) -> str | None:
    sticks = manifest.sticks
    if not 1 <= len(sticks) <= MAX_STICKS or [s.number for s in sticks] != list(range(1, len(sticks) + 1)):
        return "its sticks are not numbered from 1"
    sizes = dict.fromkeys(range(1, len(sticks) + 1), 0)
    for file in manifest.files:
        for part in file.parts:
            if part.stick not in sizes:
                return f"{part.path} lies on stick {part.stick}, which does not exist"
            sizes[part.stick] += part.size_bytes
    if any(sizes[s.number] != s.size_bytes for s in sticks):
        return "the sizes of its sticks are not those of the parts on them"
    if any(s.name != printable(s.name) for s in sticks):
        return "the names of its sticks have characters that do not belong there"
    return None


def _shown(text: str) -> str:
    return repr(printable(text)[:80])
