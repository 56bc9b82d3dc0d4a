"""A sheet of what to fetch by other means: addresses, sizes, hashes, and commands for them.

With a hub at hand it says exactly what the hub lists; without one, what the catalogue knows; it says which is which.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass

from models.download_select import Candidate, Request
from models.errors import human_bytes
from models.gguf_set import part_name, prefix_of
from models.hubs import Hub, HubName, Listing, RemoteFile
from models.store_types import ModelFormat
from models.types import Variant

_SPLIT_BYTES = 50_000_000_000
"""Converters split files above this, which is what Hugging Face takes in one piece."""

_REGULAR = ("bartowski/", "unsloth/", "lmstudio-community/")
"""Who names files REPOSITORY-without-GGUF + QUANTIZATION + .gguf."""


@dataclass(frozen=True, slots=True)
class SheetRow:
    """A file to fetch. ``size_bytes`` and ``sha256`` are ``None`` where they are not known; ``is_exact`` is false for a
    size that was reckoned (right to about 20 kB)."""

    path: str
    url: str
    size_bytes: int | None
    sha256: str | None
    is_exact: bool = True

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]

    def line(self) -> str:
        """For people: address, size, hash."""
        about = "" if self.is_exact else "about "
        size = f"{about}{self.size_bytes:,} bytes" if self.size_bytes is not None else "size not known here"
        return f"{self.url}  {size}  sha256 {self.sha256 or 'not known here'}"


@dataclass(frozen=True, slots=True)
class Sheet:
    """What to fetch from one repository. ``revision`` is a commit or a branch; ``from_hub``: a hub was asked. ``rows``
    may be empty: then only the repository is known."""

    repository: str
    revision: str
    page_url: str
    rows: tuple[SheetRow, ...]
    from_hub: bool

    @property
    def size_bytes(self) -> int | None:
        sizes = [row.size_bytes for row in self.rows if row.size_bytes is not None]
        return sum(sizes) if sizes and len(sizes) == len(self.rows) else None

    def lines(self) -> list[str]:
        """For people, one per file."""
        return [row.line() for row in self.rows] or [f"{self.page_url}  (file names are not known here)"]

    def commands(self) -> list[str]:
        """Commands that fetch the files where there is a network: curl, and aria2 with several connections."""
        if not self.rows:
            return []
        curl = " ".join(f"-o {shlex.quote(row.name)} {shlex.quote(row.url)}" for row in self.rows)
        commands = [f"curl -fL -C - {curl}"]
        for row in self.rows:
            check = f" --checksum=sha-256={row.sha256}" if row.sha256 else ""
            commands.append(f"aria2c -c -x 4 -o {shlex.quote(row.name)}{check} {shlex.quote(row.url)}")
        return commands


def sheet_of(hub: Hub, listing: Listing, files: tuple[RemoteFile, ...]) -> Sheet:
    """What a hub lists. Mirrors' addresses are the mirror's."""
    rows = tuple(SheetRow(f.path, f.url, f.size_bytes, f.sha256) for f in files)
    return Sheet(listing.repository, listing.revision, page_url(hub, listing.repository), rows, from_hub=True)


def known_sheet(request: Request, hubs: Mapping[HubName, Hub], branches: Mapping[HubName, str]) -> Sheet | None:
    """What the catalogue knows of the first candidate, without asking anybody; ``None`` when no hub has it."""
    for candidate in request.candidates:
        for name, hub in hubs.items():
            repository = candidate.names.get(name)
            if repository is not None:
                pinned = candidate.revision if name is HubName.HUGGINGFACE else None
                revision = pinned or branches[name]
                rows = _known_rows(request, candidate, repository, revision, hub)
                return Sheet(repository, revision, page_url(hub, repository), rows, from_hub=False)
    return None


def page_url(hub: Hub, repository: str) -> str:
    """The repository's page for people."""
    endpoint = hub.access.endpoint
    models = "/models" if hub.access.name is HubName.MODELSCOPE else ""
    return f"{endpoint}{models}/{repository}"


def _known_rows(
    request: Request, candidate: Candidate, repository: str, revision: str, hub: Hub
) -> tuple[SheetRow, ...]:
    if request.format is not ModelFormat.GGUF or request.wanted is None:
        return ()

    def row(path: str, size: int | None, sha256: str | None, *, is_exact: bool = True) -> SheetRow:
        return SheetRow(path, hub.file_url(repository, revision, path), size, sha256, is_exact)

    reckoned = _reckoned_bytes(request.variant, request.wanted)
    for file in candidate.known:
        paths = _parts(file.path, file.parts)
        if file.parts > 1:
            hashes = [file.sha256, *[None] * (file.parts - 1)]
            return tuple(row(path, None, sha256) for path, sha256 in zip(paths, hashes, strict=True))
        size = file.size_bytes or reckoned
        return (row(file.path, size, file.sha256, is_exact=file.size_bytes is not None),)
    if request.variant is None:
        return (row(request.wanted, None, None),) if request.wanted.endswith(".gguf") else ()
    is_dense = request.variant.shape.experts is None
    if not (is_dense and repository.startswith(_REGULAR) and reckoned is not None):
        return ()
    stem = repository.partition("/")[2].removesuffix("-GGUF")
    label = "f16" if request.wanted == "F16" and repository.startswith("bartowski/") else request.wanted
    if reckoned > _SPLIT_BYTES:
        count = -(-reckoned // _SPLIT_BYTES)
        first = f"{stem}-{label}/{part_name(f'{stem}-{label}', 1, count)}"
        return tuple(row(path, None, None) for path in _parts(first, count))
    return (row(f"{stem}-{label}.gguf", reckoned, None, is_exact=False),)


def _reckoned_bytes(variant: Variant | None, quantization: str) -> int | None:
    if variant is None:
        return None
    size = variant.quantizations.get(quantization)
    return size.tensor_bytes + variant.metadata_bytes if size is not None else None


def _parts(first: str, count: int) -> list[str]:
    """The paths of a set from that of its first part."""
    if count == 1:
        return [first]
    folder = first.rpartition("/")[0]
    prefix = prefix_of(first.rpartition("/")[2])
    names = [part_name(prefix, n, count) for n in range(1, count + 1)]
    return [f"{folder}/{name}" if folder else name for name in names]


def size_text(sheet: Sheet) -> str:
    """The whole size for people."""
    if sheet.size_bytes is None:
        return "size not known here"
    about = "" if all(row.is_exact for row in sheet.rows) else "about "
    return f"{about}{human_bytes(sheet.size_bytes)}"
