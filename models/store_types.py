"""Values of the model store: files, where they came from, what they take of the disk."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import msgspec


class ModelFormat(StrEnum):
    """How the weights are stored: ``gguf`` for llama.cpp; ``safetensors`` for vLLM, vLLM-Ascend and MindIE."""

    GGUF = "gguf"
    SAFETENSORS = "safetensors"


class RecognisedBy(StrEnum):
    """How a stored model was matched with the catalogue: its bytes are a published file's, or only its architecture,
    shape and name are those of a variant."""

    SHA256 = "sha256"
    SHAPE = "shape"


class Provenance(msgspec.Struct, frozen=True):
    """Where a model came from. ``kind`` is ``file``, ``hub`` or ``bundle``; ``name`` is the file or folder without its
    path; ``hub``, ``repository`` and ``revision`` are a hub's, ``bundle`` is a bundle's id."""

    kind: str
    name: str
    repository: str | None = None
    revision: str | None = None
    bundle: str | None = None
    hub: str | None = None


@dataclass(frozen=True, slots=True)
class ModelFile:
    """One file of a stored model. ``chunks`` are the sha256 of its pieces of ``chunk_bytes`` each (the last one may be
    shorter), empty when none were kept."""

    name: str
    size_bytes: int
    sha256: str
    path: Path
    chunk_bytes: int | None = None
    chunks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DiskBudget:
    """How much of the disk the store may take: ``max_bytes`` in all (``None``: no bound of its own) and
    ``keep_free_bytes`` left to everybody else on the same file system."""

    max_bytes: int | None = None
    keep_free_bytes: int = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Unfinished:
    """An interrupted import that can go on. ``age_s`` is the time since it was last worked on; ``is_running`` says that
    a process works on it now."""

    key: str
    size_bytes: int
    age_s: float
    is_running: bool


@dataclass(frozen=True, slots=True)
class StoreUsage:
    """Bytes of the store: ``used_bytes`` on the disk, unfinished imports included, ``saved_bytes`` less than the sum of
    the models because files are shared; ``free_bytes`` an ordinary user can still write there."""

    used_bytes: int
    saved_bytes: int
    free_bytes: int
    unfinished: tuple[Unfinished, ...] = ()


@dataclass(frozen=True, slots=True)
class VerifyResult:
    """What reading one model again has shown: ``problems`` name a file each and are empty when it is whole."""

    id: str
    size_bytes: int
    problems: tuple[str, ...] = ()
