"""How llama.cpp is built for shipping, and which of its files go along. Pure.

Everywhere else it is compiled for the processor it is compiled on. What ships has a module for each generation of
processors and takes the best one when it starts (GGML_CPU_ALL_VARIANTS); modules for cards (libggml-cuda.so,
libggml-cann.so, different for 910B and 310P) are laid beside them, or in the folder that `backends_dir` names.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

CMAKE_ARGS = ("-DGGML_NATIVE=OFF", "-DGGML_BACKEND_DL=ON", "-DGGML_CPU_ALL_VARIANTS=ON", "-DLLAVA_BUILD=OFF")
"""The last: R1 reads no pictures."""

LIBRARIES = ("libllama.so", "libggml.so.0", "libggml-base.so.0")
"""What is loaded: llama_cpp opens libllama.so by path, which needs the other two by these names. The wheel carries each
three times, as files and not as links."""

RARE_MODULES = frozenset(f"libggml-cpu-{name}.so" for name in ("cannonlake", "cooperlake", "ivybridge", "piledriver"))
"""Few such servers were built, and the next older module serves them nearly as well."""
AMX_MODULES = frozenset({"libggml-cpu-sapphirerapids.so"})
_MODULE = re.compile(r"libggml-(?!base\b)[a-z0-9._-]+\.so")


def build_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment of the build: CMAKE_ARGS of the caller come after ours, so that a CUDA build is
    ``CMAKE_ARGS=-DGGML_CUDA=ON make dist``."""
    given = environ.get("CMAKE_ARGS", "").split()
    return {**environ, "CMAKE_ARGS": " ".join([*CMAKE_ARGS, *(word for word in given if word not in CMAKE_ARGS)])}


def shipped_modules(names: Iterable[str], *, amx_is_broken: bool) -> list[str]:
    """Backend modules of these file names that go along, in order.

    ``amx_is_broken``: gcc's AMX header is one of those that make llama.cpp crash (``installer.bootstrap.compilers``);
    such processors then take the module for AVX-512 with bfloat16.
    """
    modules = sorted(name for name in names if _MODULE.fullmatch(name) and name not in RARE_MODULES)
    return [name for name in modules if not (amx_is_broken and name in AMX_MODULES)]
