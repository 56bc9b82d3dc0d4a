"""What lies on the sticks that are plugged in: models and bundles that an import could take.

Only names, sizes and the bundles' own manifests are read; what they say the import itself checks. A stick may hold
anything, so depth, entries and bytes are bounded, and links are not followed.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from appliance.schemas.operators import Stick, StickItem, StickList
from models.bundle.errors import BundleManifestInvalid
from models.bundle.manifest import MANIFEST_FILE, MAX_MANIFEST_BYTES, SIGNATURE_FILE, decode
from models.gguf_set import set_name
from models.import_source import CONFIG_FILE, INDEX_FILE, WEIGHTS_FILE

MOST_FOLDERS = 2000
MOST_ITEMS = 200
MOST_DEPTH = 4


class StickReader:
    """``folders`` are those that jobs may read from. Call ``read`` in a thread."""

    def __init__(self, folders: Callable[[], Sequence[Path]]) -> None:
        self._folders = folders

    def read(self) -> StickList:
        """All sticks with what is on them."""
        return StickList(sticks=tuple(_stick(folder) for folder in self._folders()))


def _stick(folder: Path) -> Stick:
    try:
        usage = shutil.disk_usage(folder)
        found = _Found()
        items = tuple(sorted(found.items(folder), key=lambda item: item.path))
    except OSError as error:
        return Stick(folder=str(folder), problem=(error.strerror or str(error)).lower())
    return Stick(
        folder=str(folder),
        free_bytes=usage.free,
        total_bytes=usage.total,
        items=items[:MOST_ITEMS],
        truncated=found.truncated or len(items) > MOST_ITEMS,
    )


class _Found:
    """One walk over a stick."""

    def __init__(self) -> None:
        self.truncated = False
        self._folders = 0

    def items(self, folder: Path, depth: int = 0) -> Iterator[StickItem]:
        self._folders += 1
        if self._folders > MOST_FOLDERS or depth > MOST_DEPTH:
            self.truncated = True
            return
        try:
            with os.scandir(folder) as entries:
                listed = list(entries)
        except OSError:
            if depth == 0:
                raise
            return
        sizes = {one.name: one.stat(follow_symlinks=False).st_size for one in listed if _is_file(one)}
        if MANIFEST_FILE in sizes:
            yield _bundle(folder, sizes[MANIFEST_FILE], signed=SIGNATURE_FILE in sizes)
            return
        if CONFIG_FILE in sizes and (WEIGHTS_FILE in sizes or INDEX_FILE in sizes):
            total = sum(size for name, size in sizes.items() if name.endswith(".safetensors"))
            yield StickItem(path=str(folder), kind="safetensors", name=_shown(folder.name), size_bytes=total)
        yield from _ggufs(folder, sizes)
        for one in listed:
            if one.is_dir(follow_symlinks=False) and not one.name.startswith("."):
                yield from self.items(Path(one.path), depth + 1)


def _is_file(entry: os.DirEntry[str]) -> bool:
    return entry.is_file(follow_symlinks=False) and not entry.name.startswith(".")


def _ggufs(folder: Path, sizes: dict[str, int]) -> Iterator[StickItem]:
    """A file each; the parts of a split one are one item, named by the first."""
    sets: dict[str, list[str]] = {}
    for name in sorted(sizes):
        if name.lower().endswith(".gguf"):
            sets.setdefault(set_name(name) or name, []).append(name)
    for shown, names in sets.items():
        total = sum(sizes[name] for name in names)
        yield StickItem(path=str(folder / names[0]), kind="gguf", name=_shown(shown), size_bytes=total)


def _bundle(folder: Path, size_bytes: int, *, signed: bool) -> StickItem:
    """By its manifest's own words; whether they are true the import finds out."""
    path, named = str(folder), _shown(folder.name)
    try:
        if size_bytes > MAX_MANIFEST_BYTES:
            raise BundleManifestInvalid(f"it is longer than {MAX_MANIFEST_BYTES:,} bytes")
        manifest = decode((folder / MANIFEST_FILE).read_bytes())
    except OSError as error:
        problem = (error.strerror or str(error)).lower()
        return StickItem(path=path, kind="bundle", name=named, signed=signed, problem=problem)
    except BundleManifestInvalid as error:
        return StickItem(path=path, kind="bundle", name=named, signed=signed, problem=error.message)
    return StickItem(
        path=path,
        kind="bundle",
        name=_shown(manifest.name),
        size_bytes=manifest.size_bytes,
        quantization=_shown(manifest.model.quantization),
        signed=signed,
        bundle_id=_shown(manifest.id),
        sticks=len(manifest.sticks),
    )


def _shown(text: str) -> str:
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text[:128])
