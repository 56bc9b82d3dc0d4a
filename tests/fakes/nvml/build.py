"""Compiles the fake ``libnvidia-ml.so.1`` with gcc."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

SOURCE = Path(__file__).with_name("fake_nvml.c")
LIBRARY_NAME = "libnvidia-ml.so.1"
SCENARIO_NAME = "fake_nvml.scenario"


def build_fake_nvml(folder: Path, *, defines: Sequence[str] = ()) -> Path:
    """Compile the library into ``folder`` under the name that programs load; returns its path. Raises when gcc fails.

    ``defines`` are preprocessor names, such as ``NO_MEMORY_V2`` for a driver before 510.
    """
    library = folder / LIBRARY_NAME
    flags = ["-std=c11", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", *(f"-D{name}" for name in defines)]
    subprocess.run(["gcc", *flags, "-o", str(library), str(SOURCE), "-ldl"], check=True, timeout=60)
    return library


def write_scenario(path: Path, settings: Mapping[str, object]) -> Path:
    """Write the settings, one ``name=value`` a line; their names are in ``fake_nvml.c``."""
    path.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
    return path
