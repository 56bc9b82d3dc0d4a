"""Which engines this box has, without importing any of them."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

from models.types import EngineName

_DISTRIBUTIONS = {EngineName.VLLM: ("vllm",), EngineName.VLLM_ASCEND: ("vllm-ascend",)}
_MINDIE_FOLDERS = ("usr/local/Ascend/mindie/latest", "usr/local/Ascend/mindie")


def installed_engines(
    root: Path = Path("/"), find_version: Callable[[str], str] = metadata.version
) -> frozenset[EngineName]:
    """llama.cpp when its binding is there, vLLM and vLLM-Ascend by their distributions in this environment, MindIE by
    its folder below ``root``."""
    found = set()
    if importlib.util.find_spec("llama_cpp") is not None:
        found.add(EngineName.LLAMA_CPP)
    for engine, names in _DISTRIBUTIONS.items():
        if any(_has(name, find_version) for name in names):
            found.add(engine)
    if any((root / folder).is_dir() for folder in _MINDIE_FOLDERS):
        found.add(EngineName.MINDIE)
    return frozenset(found)


def _has(name: str, find_version: Callable[[str], str]) -> bool:
    try:
        find_version(name)
    except metadata.PackageNotFoundError:
        return False
    return True
