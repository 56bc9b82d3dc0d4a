"""What a folder was made from, so that the same can be made again, and hashes of every file in it."""

from __future__ import annotations

import hashlib
import platform
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from drivers.command import CommandFailed, minimal_environment, run

HASHES = "SHA256SUMS"
_ASK_S = 60.0
_GLIBC = re.compile(r"\bGLIBC_(\d+)\.(\d+)")
_GLIBCXX = re.compile(r"\bGLIBCXX_(\d+)\.(\d+)\.(\d+)")


def source_state(tree: Path) -> tuple[str | None, bool, int]:
    """Commit, whether files differ from it, and its time in seconds since 1970; (None, True, 0) without git."""
    try:
        commit = _git(tree, "rev-parse", "HEAD").strip()
        changed = bool(_git(tree, "status", "--porcelain").strip())
        return commit, changed, int(_git(tree, "log", "-1", "--format=%ct").strip())
    except (CommandFailed, ValueError):
        return None, True, 0


def _git(tree: Path, *arguments: str) -> str:
    return run(("git", "-C", str(tree), *arguments), timeout_s=_ASK_S, environment=minimal_environment()).stdout


def compiler_line() -> str | None:
    """The C++ compiler's first line."""
    try:
        shown = run(("g++", "--version"), timeout_s=_ASK_S, environment=minimal_environment()).stdout
    except CommandFailed:
        return None
    return shown.splitlines()[0] if shown else None


def least_libraries(files: Mapping[str, Path]) -> dict[str, str]:
    """The oldest glibc and libstdc++ symbols' versions on which all these files load, by name. Raises CommandFailed
    when there is no readelf."""
    glibc, glibcxx = (0, 0), (0, 0, 0)
    for path in files.values():
        try:
            argv = ("readelf", "--version-info", "--wide", str(path))
            shown = run(argv, timeout_s=_ASK_S, environment=minimal_environment(), output_limit_bytes=8 << 20).stdout
        except CommandFailed as error:
            if error.result.exit_code == 1:  # no ELF file
                continue
            raise
        for match in _GLIBC.findall(shown):
            glibc = max(glibc, (int(match[0]), int(match[1])))
        for match in _GLIBCXX.findall(shown):
            glibcxx = max(glibcxx, (int(match[0]), int(match[1]), int(match[2])))
    return {"glibc": ".".join(map(str, glibc)), "glibcxx": ".".join(map(str, glibcxx))}


def files_below(folder: Path) -> Iterator[Path]:
    """Every file and link in order; links are not followed."""
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() or path.is_file():
            yield path


def hash_lines(folder: Path) -> str:
    """What ``sha256sum --check`` reads, for every file below the folder but the list itself."""
    lines = []
    for path in files_below(folder):
        name = path.relative_to(folder).as_posix()
        if name == HASHES or path.is_symlink():
            continue
        with path.open("rb") as file:
            lines.append(f"{hashlib.file_digest(file, 'sha256').hexdigest()}  {name}\n")
    return "".join(lines)


def describe(
    version: str, tree: Path, pins: Mapping[str, Path], cmake_args: str, modules: list[str], least: Mapping[str, str]
) -> dict[str, Any]:
    """What the build rests on. Nothing of the machine's names or time."""
    commit, changed, epoch_s = source_state(tree)
    return {
        "version": version,
        "commit": commit,
        "changed_files": changed,
        "source_date_epoch": epoch_s,
        "python": platform.python_version(),
        "architecture": platform.machine(),
        "compiler": compiler_line(),
        "llama_cpp": {"cmake_args": cmake_args, "modules": modules},
        "requirements_sha256": {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in pins.items()},
        "needs": dict(least),
    }
