"""The files of this source tree, as the checks here see them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("appliance", "drivers", "models", "tui", "installer")

_PASSED_OVER = {".git", ".venv", "build", "dist", "__pycache__", ".hypothesis", ".eggs", "node_modules"}
_LARGEST_TEXT_BYTES = 1 << 20


def files(below: str = ".") -> Iterator[Path]:
    """Every file of the project below a folder, in order; what .gitignore keeps out is not the project's."""
    for folder, names, found in os.walk(ROOT / below):
        names[:] = sorted(
            name for name in names if name not in _PASSED_OVER and not name.endswith(("_cache", ".egg-info"))
        )
        for name in sorted(set(found) - _PASSED_OVER):  # .git is a file in a worktree
            yield Path(folder) / name


def modules(*packages: str) -> list[Path]:
    """Python files of the named packages; of all packages and the tests without names."""
    return [path for package in packages or (*PACKAGES, "tests") for path in files(package) if path.suffix == ".py"]


def text(path: Path) -> str | None:
    """The file's text; None for one that is no text, or too large to have been written by a person."""
    if path.is_symlink() or path.stat().st_size > _LARGEST_TEXT_BYTES:
        return None
    raw = path.read_bytes()
    if b"\0" in raw:
        return None
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return None


def shown(path: Path) -> str:
    """The path as a person names it."""
    return str(path.relative_to(ROOT))
