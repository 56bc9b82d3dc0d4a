"""Compiles the fake ``libnvidia-ml.so.1`` (and a ``libcuda.so.1`` beside it) with gcc."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

SOURCE = Path(__file__).with_name("fake_nvml.c")
CUDA_SOURCE = Path(__file__).with_name("fake_cuda.c")
LIBRARY_NAME = "libnvidia-ml.so.1"
CUDA_NAME = "libcuda.so.1"
SCENARIO_NAME = "fake_nvml.scenario"

OLD_DRIVER = (
    "NO_MEMORY_V2",
    "NO_EVENT_REASONS",
    "NO_PROCESSES_V3",
    "NO_MIG",
    "NO_REMAPPED_ROWS",
    "NO_FIELD_VALUES",
    "NO_NUMA_NODE",
    "NO_LINK_DEVICE_TYPE",
)
"""The newer functions, which old drivers do not export."""

_FLAGS = ("-std=c11", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC")


def build_fake_nvml(folder: Path, *, defines: Sequence[str] = (), cuda: bool = True) -> Path:
    """Compile the library into ``folder`` under the name that programs load; returns its path. Raises when gcc fails.

    ``defines`` are preprocessor names that leave functions out, such as ``NO_MEMORY_V2`` for a driver before 510;
    ``cuda`` puts a ``libcuda.so.1`` beside it, as a driver's packages do.
    """
    library = folder / LIBRARY_NAME
    _compile(SOURCE, library, [*(f"-D{name}" for name in defines)])
    if cuda:
        _compile(CUDA_SOURCE, folder / CUDA_NAME)
    return library


def _compile(source: Path, library: Path, flags: Sequence[str] = ()) -> None:
    subprocess.run(["gcc", *_FLAGS, *flags, "-o", str(library), str(source), "-ldl"], check=True, timeout=60)


def write_scenario(path: Path, settings: Mapping[str, object]) -> Path:
    """Write the settings, one ``name=value`` a line; their names are in ``fake_nvml.c``."""
    path.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
    return path
