"""Compiles the fake ``libdcmi.so`` with gcc."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

SOURCE = Path(__file__).with_name("fake_dcmi.c")
LIBRARY_NAME = "libdcmi.so"
NEEDED_NAME = "libc_sec.so"
SCENARIO_NAME = "fake_dcmi.scenario"

_FLAGS = ("-std=c11", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC")


def build_fake_dcmi(
    folder: Path, defines: Sequence[str] = (), *, without: Sequence[str] = (), needs: Path | None = None
) -> Path:
    """Compile the library into ``folder`` under the name that programs load; returns its path. Raises when gcc fails.

    ``defines`` are preprocessor names: ``V1_ONLY`` and ``V2_ONLY`` export one set of functions (drivers before the
    950, or a driver of the 950 alone), ``NO_CHIP_INFO_V2`` is an old driver, ``USES_NEEDED`` one that uses a library
    of ``build_needed`` without being linked against it. ``without`` are single functions that it
    shall not export. ``needs`` is a library of ``build_needed`` that it is linked against.
    """
    library = folder / LIBRARY_NAME
    flags = [*_FLAGS, *(f"-D{name}" for name in defines), "-o", str(library), str(SOURCE)]
    if needs is not None:
        flags += ["-Wl,--no-as-needed", f"-L{needs.parent}", f"-l:{needs.name}"]
    if without:
        script = folder / "exports.map"
        script.write_text("{ local: " + " ".join(f"{name};" for name in without) + " };\n")
        flags.append(f"-Wl,--version-script={script}")
    subprocess.run(["gcc", *flags, "-ldl"], check=True, timeout=60)
    return library


def build_needed(folder: Path, name: str = NEEDED_NAME) -> Path:
    """Compile an empty library ``name`` into ``folder``, like the ``libc_sec.so`` that Huawei's own libraries need."""
    library = folder / name
    code = b"int fake_needed(void);\nint fake_needed(void) { return 0; }\n"
    argv = ["gcc", *_FLAGS, f"-Wl,-soname,{name}", "-x", "c", "-o", str(library), "-"]
    subprocess.run(argv, check=True, timeout=60, input=code)
    return library


def write_scenario(path: Path, settings: Mapping[str, object]) -> Path:
    """Write the settings, one ``name=value`` a line; their names are in ``fake_dcmi.c``."""
    path.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
    return path
