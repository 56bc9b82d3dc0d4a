"""What must be said to a compiler so that what it builds for this processor is right."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Mapping

_AMX_FEATURE = "amx_tile"
_WITHOUT_AMX = "-mno-amx-tile -mno-amx-int8 -mno-amx-bf16"
_AMX_MENDED = {11: 5, 12: 4, 13: 3}
"""First minor version of each gcc series whose amxtileintrin.h is right; gcc 14 and newer are, 10 knows no AMX."""

_VERSION_TIMEOUT_S = 20.0


def gcc_version(command: str) -> tuple[int, int] | None:
    """(major, minor) of a gcc; None for a compiler that is none or does not answer."""
    try:
        result = subprocess.run(
            [command, "-dumpfullversion"],
            capture_output=True,
            text=True,
            timeout=_VERSION_TIMEOUT_S,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = re.fullmatch(r"(\d+)\.(\d+)(?:\.\d+)*", result.stdout.strip())
    return (int(match[1]), int(match[2])) if match else None


def amx_is_broken(version: tuple[int, int] | None) -> bool:
    """Whether this gcc's AMX header is wrong (see ``with_safe_flags``)."""
    return version is not None and version[0] in _AMX_MENDED and version[1] < _AMX_MENDED[version[0]]


def with_safe_flags(
    environ: Mapping[str, str],
    processor_features: str,
    version_of: Callable[[str], tuple[int, int] | None] = gcc_version,
) -> dict[str, str]:
    """The environment of a build, with flags against known faults of its compiler.

    AMX: the header of an older gcc says that LDTILECFG reads 8 bytes of the 64 it reads (gcc PR target/114098), so the
    optimizer drops the writes of the rest and llama.cpp dies with SIGSEGV in its first matrix product (seen with
    gcc 12.2 on Sapphire Rapids; llama.cpp #20824). Debian 12 has gcc 12.2. Such a gcc builds without AMX.
    """
    flags = dict(environ)
    if _AMX_FEATURE not in processor_features.split():
        return flags
    for variable, default, flag_variable in (("CC", "gcc", "CFLAGS"), ("CXX", "g++", "CXXFLAGS")):
        named = environ.get(variable, "").split()
        if amx_is_broken(version_of(named[0] if named else default)):
            flags[flag_variable] = f"{environ.get(flag_variable, '')} {_WITHOUT_AMX}".strip()
    return flags
