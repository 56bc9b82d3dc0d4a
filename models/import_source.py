"""What lies at the path an operator gave (a GGUF, a split set, a folder of safetensors, a bundle), and its open files.

The path itself may be a link: somebody named it. What is found beside or in it may not, with one exception: Hugging
Face's cache keeps its files as links into the ``blobs`` folder of the same repository.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from models.errors import ImportSourceChanged, ImportSourceUnreadable, ModelFolderUnusable, PickleRefused, printable
from models.gguf import open_model_file
from models.gguf_set import set_name

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
BUNDLE_FILES = ("manifest.json", "manifest.json.minisig")
PICKLES = frozenset({".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle"})
MAX_FOLDER_ENTRIES = 10_000
_SHOWN = 5


class SourceKind(StrEnum):
    """What is to be imported. The path that goes with it is a file for ``gguf``, else a folder."""

    GGUF = "gguf"
    SAFETENSORS = "safetensors"
    BUNDLE = "bundle"


@dataclass(frozen=True, slots=True)
class SourceFile:
    """An opened file of the source; ``name`` is what it will be called in the store, ``before`` how it looked then."""

    path: Path
    name: str
    descriptor: int
    before: os.stat_result

    @property
    def size_bytes(self) -> int:
        return self.before.st_size

    def check_unchanged(self) -> None:
        """Raises ``ImportSourceChanged`` when somebody wrote to the file since it was opened."""
        after = os.fstat(self.descriptor)
        if after.st_size != self.size_bytes:
            raise ImportSourceChanged(self.path, f"it had {self.size_bytes:,} bytes and has {after.st_size:,} now")
        if after.st_mtime_ns != self.before.st_mtime_ns:
            raise ImportSourceChanged(self.path, "it was written to")


def classify(path: Path) -> tuple[SourceKind, Path]:
    """What ``path`` is. Raises ``ImportSourceUnreadable``, ``ModelFolderUnusable`` or ``PickleRefused``."""
    try:
        is_folder = path.is_dir()
    except OSError as error:
        raise ImportSourceUnreadable(path, error.strerror or str(error), "Check the path and its owner.") from error
    if not is_folder:
        return SourceKind.GGUF, path
    names = _names(path)
    if all(name in names for name in BUNDLE_FILES):
        return SourceKind.BUNDLE, path
    ggufs = sorted(name for name in names if name.lower().endswith(".gguf"))
    has_safetensors = CONFIG_FILE in names and (WEIGHTS_FILE in names or INDEX_FILE in names)
    models = {set_name(name) or name: name for name in reversed(ggufs)}
    if len(models) + has_safetensors > 1:
        found = sorted(models.values()) + ([WEIGHTS_FILE] if has_safetensors else [])
        raise ModelFolderUnusable(
            path,
            f"it holds {len(found)} models ({_some(found)})",
            "Give the file of the one that is wanted (of a split model: any part).",
            models=[printable(name) for name in found],
        )
    if has_safetensors:
        return SourceKind.SAFETENSORS, path
    if models:
        return SourceKind.GGUF, path / next(iter(models.values()))
    pickles = [name for name in names if Path(name).suffix.lower() in PICKLES]
    if pickles:
        raise PickleRefused(path, pickles)
    inside = [n for n in names if (path / n).is_dir() and any((path / n).glob("*.gguf"))]
    hint = f"Give the folder that holds the model: {_some(inside)}." if inside else "Give the .gguf file of the model."
    raise ModelFolderUnusable(path, "it holds neither a .gguf file nor config.json with model.safetensors", hint)


@contextlib.contextmanager
def opened(paths: Sequence[tuple[Path, str]], named: Path) -> Iterator[tuple[SourceFile, ...]]:
    """Opens ``(path, name in the store)`` for reading; ``named`` is the path the operator gave, which may be a link.

    Raises ``ImportSourceUnreadable``, for links, pipes and devices too.
    """
    with contextlib.ExitStack() as stack:
        files = []
        for path, name in paths:
            descriptor = open_model_file(path) if path == named else open_model_file(_real_path(path), follow=False)
            stack.callback(os.close, descriptor)
            files.append(SourceFile(path, name, descriptor, os.fstat(descriptor)))
        yield tuple(files)


def _real_path(path: Path) -> Path:
    """``path``, or what it links to inside a hub's cache."""
    try:
        mode = path.lstat().st_mode
    except OSError as error:
        raise ImportSourceUnreadable(path, error.strerror or str(error), "Check the medium it lies on.") from error
    if not stat.S_ISLNK(mode):
        return path
    target = path.resolve()
    for parent in path.parent.resolve().parents:
        if parent.name.startswith("models--") and target.is_relative_to(parent / "blobs"):
            return target
    raise ImportSourceUnreadable(
        path, "it is a link to another place", "Put the file itself there; links are not followed."
    )


def _names(folder: Path) -> list[str]:
    names: list[str] = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if len(names) == MAX_FOLDER_ENTRIES:
                    raise ModelFolderUnusable(
                        folder, f"it has more than {MAX_FOLDER_ENTRIES:,} entries", "Give the file of the model."
                    )
                names.append(entry.name)
    except OSError as error:
        raise ImportSourceUnreadable(
            folder, error.strerror or str(error), "Check the folder's owner and mode, and the medium it lies on."
        ) from error
    return sorted(names)


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(printable(name) for name in names[:_SHOWN])
    return shown + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
