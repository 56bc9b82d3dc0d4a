"""Which engines and Python packages are installed, read from their files: nothing of them is imported or loaded.

Importing torch loads torch-npu by itself and fails without CANN, so metadata is all that is looked at. Names of the
results are those of ``requirements.toml``.
"""

from __future__ import annotations

import mmap
import platform
import re
import sys
from collections.abc import Iterable
from importlib.metadata import Distribution, distributions
from pathlib import Path

from drivers.types import Software

PACKAGES = ("llama-cpp-python", "torch", "torch-npu", "vllm", "vllm-ascend")
"""Python packages that are engines or that engines rest on."""

_CUDA_LABEL = re.compile(r"\+cu([0-9]{2})([0-9]+)")
"""PyTorch's own wheels: ``2.5.1+cu121``."""
_CUDA_RUNTIME = re.compile(r"nvidia-cuda-runtime(?:-cu[0-9]+)?")
"""The CUDA runtime as a package: PyPI's torch brings it along and has no label."""
_CUDA_LIBRARY = re.compile(rb"libcudart\.so\.([0-9]+(?:\.[0-9]+)*)")
_PYTHON_FOLDER = re.compile(r"python([0-9]+\.[0-9]+)t?")


def read_python(site_packages: Path | None = None) -> tuple[Software, ...]:
    """The interpreter and those of ``PACKAGES`` that are installed, in their order; never raises.

    ``site_packages``: the folder of another environment (``/opt/vllm/lib/python3.11/site-packages``); without it this
    program's own. ``torch-cuda`` is the CUDA that an installed torch was built for.
    """
    search = [str(site_packages)] if site_packages is not None else sys.path
    found: dict[str, Software] = {}
    runtime: Software | None = None
    for distribution in distributions(path=search):
        name, version = _name(distribution), _version(distribution)
        if name is None or version is None:
            continue
        entry = Software(name, version, str(distribution.locate_file("")))
        if name in PACKAGES:
            # The first on the path is the one that Python imports.
            found.setdefault(name, entry)
        elif _CUDA_RUNTIME.fullmatch(name) and runtime is None:
            runtime = entry
    packages = [found[name] for name in PACKAGES if name in found]
    return (*_interpreter(site_packages), *packages, *_torch_cuda(found.get("torch"), runtime))


def llama_folders(site_packages: Path | None = None) -> tuple[Path, ...]:
    """Folders in which the installed llama-cpp-python keeps its libraries; none when it is not installed."""
    for entry in read_python(site_packages):
        if entry.name == "llama-cpp-python" and entry.path is not None:
            base = Path(entry.path)
            return (base / "llama_cpp" / "lib", base / "lib", base / "bin")
    return ()


def read_llama_cuda(folders: Iterable[Path]) -> Software | None:
    """The CUDA family (``12``) that the llama.cpp in ``folders`` was built with, from the runtime library that its CUDA
    backend asks for; ``None`` without such a backend or with one that holds its runtime inside. Never raises."""
    for folder in folders:
        for library in sorted(folder.glob("libggml-cuda.so*")):
            version = _needed_cuda(library)
            if version is not None:
                return Software("llama-cpp-cuda", version, str(library))
    return None


def _needed_cuda(library: Path) -> str | None:
    try:
        with library.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            match = _CUDA_LIBRARY.search(content)
            return None if match is None else match[1].decode("ascii")
    except (OSError, ValueError):
        return None


def _interpreter(site_packages: Path | None) -> tuple[Software, ...]:
    if site_packages is None:
        return (Software("python", platform.python_version(), sys.executable),)
    match = _PYTHON_FOLDER.fullmatch(site_packages.parent.name)
    return () if match is None else (Software("python", match[1], str(site_packages)),)


def _torch_cuda(torch: Software | None, runtime: Software | None) -> tuple[Software, ...]:
    if torch is None:
        return ()
    label = _CUDA_LABEL.search(torch.version)
    if label is not None:
        return (Software("torch-cuda", f"{label[1]}.{label[2]}", torch.path),)
    if "+" in torch.version or runtime is None:
        return ()
    return (Software("torch-cuda", runtime.version, runtime.path),)


def _name(distribution: Distribution) -> str | None:
    """The normalized name; ``None`` for the remains of a package that was removed halfway."""
    try:
        name = distribution.metadata["Name"]
    except (KeyError, OSError, ValueError):
        return None
    return re.sub(r"[-_.]+", "-", name).lower() if isinstance(name, str) else None


def _version(distribution: Distribution) -> str | None:
    try:
        version: object = distribution.metadata["Version"]
    except (KeyError, OSError, ValueError):
        return None
    return version if isinstance(version, str) else None
