"""Reads a model in safetensors out of the store: what its files say, as the import read them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec

from models.errors import NotAChatModel
from models.import_safetensors import HubModel, read_folder
from models.import_source import CONFIG_FILE, opened
from models.types import InstalledModel

TOKENIZER_FILE = "tokenizer.json"
_DESCRIBING = (CONFIG_FILE, "tokenizer_config.json", "chat_template.jinja")
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


def read_described(folder: Path) -> HubModel:
    """A folder that has a model's description and tokenizer, with or without its weights.

    Raises a ``ModelFileError``, also when its config.json or its tokenizer is missing.
    """
    there = [(folder / name, name) for name in _DESCRIBING if name == CONFIG_FILE or (folder / name).exists()]
    if not (folder / TOKENIZER_FILE).exists():
        raise NotAChatModel(folder, f"the folder brings no {TOKENIZER_FILE}")
    with opened(there, folder) as files:
        found = read_folder(folder, files, weights_elsewhere=True)
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
