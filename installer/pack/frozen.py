"""First file of the frozen executable: one program under three names.

`r1box`, `r1box-console` and `r1box-install` are links to one file, which looks at the name it was called by: three
executables would each carry all modules. The program starts children of itself (workers, probes, readers of people's
files) as ``sys.executable -I -m MODULE``; the frozen one takes these words for its own children and no others.
"""

from __future__ import annotations

import importlib
import os
import runpy
import sys
from collections.abc import Sequence

PROGRAMS = {
    "r1box": "appliance.__main__",
    "r1box-console": "tui.__main__",
    "r1box-install": "installer.cli",
}
"""Modules with a ``main()``, by the name of the link."""

CHILDREN = (
    "appliance.chats.pdf_child",
    "appliance.engine.llamacpp.worker",
    "appliance.engine.structure_child",
    "drivers.compute_ggml",
    "drivers.dcmi",
    "drivers.nvml",
    "models.dry_run_child",
    "models.requantize_child",
    "tui.__main__",
)
"""Modules that run as a process of their own."""

LIBRARY_PATH = "LD_LIBRARY_PATH"
USAGE = 2


def child_of(arguments: Sequence[str]) -> tuple[str, list[str]] | None:
    """Module and arguments when ``arguments`` (without the program) start one of our children; None for a command."""
    rest = list(arguments)
    if rest[:1] == ["-I"]:
        del rest[0]
    if len(rest) < 2 or rest[0] != "-m" or rest[1] not in CHILDREN:
        return None
    return rest[1], rest[2:]


def restore_environment(environ: dict[str, str] | os._Environ[str]) -> None:
    """PyInstaller's loader puts its folder into LD_LIBRARY_PATH. What we start beside ourselves (nvidia-smi, lsblk,
    mount) must not load our libraries instead of the system's."""
    before = environ.pop(f"{LIBRARY_PATH}_ORIG", None)
    if before:
        environ[LIBRARY_PATH] = before
    else:
        environ.pop(LIBRARY_PATH, None)


def main() -> None:
    """Run the child or the program asked for. Ends the process."""
    restore_environment(os.environ)
    child = child_of(sys.argv[1:])
    if child is not None:
        module, arguments = child
        sys.argv = [module, *arguments]
        runpy.run_module(module, run_name="__main__", alter_sys=True)
        return
    name = os.path.basename(sys.argv[0])  # noqa: PTH119  nothing but this is needed of a path here
    program = PROGRAMS.get(name)
    if program is None:
        sys.stderr.write(f"{name}: this file is called by one of the names {', '.join(PROGRAMS)}\n")
        sys.exit(USAGE)
    sys.exit(importlib.import_module(program).main())


if __name__ == "__main__":
    main()
