"""Split GGUF sets: the files ``NAME-00001-of-0000N.gguf`` that make up one model, found from any one of them.

llama.cpp finds the parts by these very names and begins with the first, which holds all metadata; the others bring
``split.no``, ``split.count``, ``split.tensors.count`` and their share of the tensors (llama.cpp 0c1e57098,
src/llama-model-loader.cpp and tools/gguf-split).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from models.errors import CorruptHeader, NeedsOtherEngine, SplitSetIncomplete, SplitSetInconsistent
from models.gguf import read_header
from models.gguf_header import GgufHeader
from models.store_types import ModelFormat
from models.types import InstalledModel

MAX_PARTS = 1024
_MAX_TENSORS = 131_072
_PART = re.compile(r"(?P<prefix>.+)-(?P<number>[0-9]{5})-of-(?P<count>[0-9]{5})\.gguf")


def part_name(prefix: str, number: int, count: int) -> str:
    """``("model", 1, 3)`` -> ``model-00001-of-00003.gguf``; numbers count from 1."""
    return f"{prefix}-{number:05d}-of-{count:05d}.gguf"


def set_name(file_name: str) -> str | None:
    """What the parts of a set have in common, ``None`` for a name that is not a part's: all parts of one set, and only
    they, give the same."""
    match = _PART.fullmatch(file_name)
    return None if match is None else f"{match['prefix']}-of-{match['count']}"


def prefix_of(file_name: str) -> str:
    """The name without ``.gguf`` and without the part's number."""
    match = _PART.fullmatch(file_name)
    return match["prefix"] if match else Path(file_name).stem


def parts_of(path: Path, header: GgufHeader) -> tuple[Path, ...]:
    """The paths of all files of the model that ``path`` with ``header`` belongs to, in order; just ``path`` when it is
    whole by itself. Raises ``SplitSetIncomplete`` (names what is missing) or ``SplitSetInconsistent``."""
    split = header.split
    if split is None:
        return (path,)
    number, count = split
    if count > MAX_PARTS:
        raise SplitSetInconsistent(path, f"says that it is one of {count:,} parts")
    match = _PART.fullmatch(path.name)
    if match is None:
        wanted = part_name("NAME", number, count)
        raise SplitSetInconsistent(path, f"is part {number} of {count}, but its name does not say so ({wanted})")
    if (int(match["number"]), int(match["count"])) != (number, count):
        raise SplitSetInconsistent(path, f"is part {number} of {count}, its name says something else")
    parts = tuple(path.with_name(part_name(match["prefix"], n, count)) for n in range(1, count + 1))
    missing = [p.name for p in parts if not p.is_file()]
    if missing:
        raise SplitSetIncomplete(path, missing, count)
    return parts


def combine(headers: Sequence[GgufHeader]) -> GgufHeader:
    """One header for a whole set: the first part's metadata and everybody's tensors.

    ``file_bytes`` and ``header_bytes`` are sums; a tensor's ``offset`` counts within its own part. Raises
    ``SplitSetInconsistent`` or ``CorruptHeader``.
    """
    first = headers[0]
    if len(headers) == 1:
        return first
    names: set[str] = set()
    declared = first.integer("split.tensors.count", 0, _MAX_TENSORS)
    for number, header in enumerate(headers, start=1):
        if header.split != (number, len(headers)):
            said = "no part of a set" if header.split is None else f"part {header.split[0]} of {header.split[1]}"
            raise SplitSetInconsistent(header.path, f"is {said} instead of part {number} of {len(headers)}")
        if header.integer("split.tensors.count", 0, _MAX_TENSORS) not in (None, declared):
            raise SplitSetInconsistent(header.path, "counts other tensors than the first part")
        if header.text("general.architecture") not in (None, first.architecture):
            raise SplitSetInconsistent(header.path, "is of another architecture than the first part")
        for tensor in header.tensors:
            if tensor.name in names:
                raise CorruptHeader(header.path, f"tensor '{tensor.name}'", "stands in two parts of the set")
            names.add(tensor.name)
    if declared is not None and declared != len(names):
        raise SplitSetInconsistent(first.path, f"promises {declared:,} tensors, the parts hold {len(names):,}")
    return replace(
        first,
        file_bytes=sum(h.file_bytes for h in headers),
        header_bytes=sum(h.header_bytes for h in headers),
        tensors=tuple(t for h in headers for t in h.tensors),
    )


def installed_header(model: InstalledModel) -> GgufHeader:
    """The header of a stored model, all parts of a split one together.

    Raises ``NeedsOtherEngine`` for a model that is no GGUF, and what ``read_header`` raises.
    """
    if model.format is not ModelFormat.GGUF:
        raise NeedsOtherEngine(model.id, model.format.value)
    return combine([read_header(f.path) for f in model.files])
