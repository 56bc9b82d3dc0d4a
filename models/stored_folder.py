"""Reads a model in safetensors out of the store: what its files say, as the import read them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec

from models.import_safetensors import HubModel, read_folder
from models.import_source import opened
from models.types import InstalledModel

TOKENIZER_FILE = "tokenizer.json"
_MAX_BYTES = 256 * 1024 * 1024


class _Added(msgspec.Struct, frozen=True):
    content: str


class _Tokenizer(msgspec.Struct, frozen=True):
    added_tokens: tuple[_Added, ...] = ()


def read_stored(installed: InstalledModel) -> HubModel:
    """The folder's own facts; control tokens of ``tokenizer.json`` too, where most of them stand. Reads headers only.

    Raises a ``ModelFileError`` for a folder that is damaged.
    """
    folder = stored_folder(installed)
    with opened([(file.path, file.name) for file in installed.files], folder) as files:
        found = read_folder(folder, files)
    return replace(found, control_tokens=found.control_tokens | _added_tokens(folder / TOKENIZER_FILE))


def stored_folder(installed: InstalledModel) -> Path:
    """The folder that holds the model's files."""
    return installed.path if installed.path.is_dir() else installed.path.parent


def _added_tokens(file: Path) -> frozenset[str]:
    try:
        if file.stat().st_size > _MAX_BYTES:
            return frozenset()
        said = msgspec.json.decode(file.read_bytes(), type=_Tokenizer)
    except (OSError, msgspec.DecodeError):
        return frozenset()
    return frozenset(token.content for token in said.added_tokens if token.content)
