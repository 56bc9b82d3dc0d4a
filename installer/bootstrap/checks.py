"""What a machine must have before the environment can be made.

The compilers are there to build llama.cpp for this machine's processor; cmake and ninja come as pinned wheels.
"""

from __future__ import annotations

import importlib.util
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

DISK_NEEDED_BYTES = 3 * 1024**3
"""Measured on Debian 12 from empty caches: environment with the tests' extras, uv's cache and the native build."""

_BYTES_PER_BUILD_JOB = 1024**3
"""llama.cpp's larger C++ files take 0.6 to 0.9 GiB each while gcc compiles them."""

_VECTOR_FEATURES = re.compile(r"(s?sse|avx|amx|fma|f16c|bmi|asimd|sve|sme|i8mm|bf16|fphp|vsx)")


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is missing, in plain words, with the Debian package that brings it (None: no package does)."""

    message: str
    package: str | None


def missing_tools(
    environ: Mapping[str, str],
    which: Callable[[str], str | None] = shutil.which,
    has_module: Callable[[str], bool] = lambda name: importlib.util.find_spec(name) is not None,
) -> list[Problem]:
    """Every missing tool at once, so that one apt line mends all. `CC` and `CXX` may name other compilers."""
    problems = []
    if not (has_module("venv") and has_module("ensurepip")):
        problems.append(Problem("python3 cannot make virtual environments (module ensurepip)", "python3-venv"))
    for variable, default, what in (("CC", "gcc", "C compiler"), ("CXX", "g++", "C++ compiler")):
        named = environ.get(variable, "").split()
        tool = named[0] if named else default
        if which(tool) is None:
            if named:
                problems.append(Problem(f"{tool} ({what}, named by ${variable}) is not on the PATH", None))
            else:
                problems.append(Problem(f"{tool} ({what}) is missing", default))
    if which("make") is None:
        problems.append(Problem("make is missing", "make"))
    return problems


def apt_line(problems: list[Problem]) -> str | None:
    """The Debian command that installs what is missing; None when no package would."""
    packages = [problem.package for problem in problems if problem.package]
    return f"sudo apt-get install -y {' '.join(packages)}" if packages else None


def disk_problem(folder: Path, needed_bytes: int = DISK_NEEDED_BYTES) -> Problem | None:
    """A problem when the file system of `folder` has less than `needed_bytes` free."""
    free_bytes = shutil.disk_usage(folder).free
    if free_bytes >= needed_bytes:
        return None
    return Problem(
        f"{folder} has {free_bytes / 1024**3:.1f} GiB free; the environment and its build need about "
        f"{needed_bytes / 1024**3:.0f} GiB",
        None,
    )


def build_jobs(cores: int, available_bytes: int | None) -> int:
    """How many files to compile at once: one per core, fewer where memory would not hold them, at least one."""
    if available_bytes is None:
        return max(1, cores)
    return max(1, min(cores, available_bytes // _BYTES_PER_BUILD_JOB))


def available_memory_bytes(meminfo: Path = Path("/proc/meminfo")) -> int | None:
    """`MemAvailable` of Linux; None where it cannot be read."""
    try:
        lines = meminfo.read_text(encoding="ascii").splitlines()
    except (OSError, UnicodeDecodeError):
        return None
    for line in lines:
        name, _, value = line.partition(":")
        fields = value.split()
        if name == "MemAvailable" and fields and fields[0].isdigit():
            return int(fields[0]) * 1024
    return None


def processor_features(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """The vector instructions of this processor, as the kernel names them, in order; "" where it does not say.

    llama.cpp is compiled for exactly these. Other flags are left out: some appear with a newer kernel alone.
    """
    try:
        text = cpuinfo.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if name.strip() in {"flags", "Features"}:
            return " ".join(sorted({flag for flag in value.split() if _VECTOR_FEATURES.match(flag)}))
    return ""
