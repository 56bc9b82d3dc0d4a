"""Compiles a fake GPU backend of llama.cpp and stand-ins for its own library."""

from __future__ import annotations

import subprocess
from pathlib import Path

SOURCE = Path(__file__).with_name("fake_cuda.c")
COMPUTE = Path(__file__).with_name("fake_compute.c")
BACKEND_NAME = "libggml-cuda.so"
LIBRARY_NAME = "libggml.so.0"


def build_fake_cuda(folder: Path, library_dir: Path) -> Path:
    """Compile the backend into ``folder`` against llama.cpp's libraries; returns its path. Raises when gcc fails."""
    output = folder / BACKEND_NAME
    warnings = ["-std=c11", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror"]
    linked = [f"-L{library_dir}", "-l:libggml-cpu.so.0", "-l:libggml-base.so.0"]
    _gcc([*warnings, "-o", str(output), str(SOURCE), *linked])
    return output


def build_broken_compute(folder: Path) -> Path:
    """A library for ``LD_PRELOAD`` that lets llama.cpp's computing fail at will; see ``fake_compute.c``."""
    output = folder / "libfake_compute.so"
    _gcc(["-std=c11", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror", "-o", str(output), str(COMPUTE), "-ldl"])
    return output


def build_unloadable_cuda(folder: Path, library: str) -> Path:
    """A backend that is linked against ``library`` (``libcudart.so.12``), which is then deleted."""
    stub, output = folder / library, folder / BACKEND_NAME
    compile_library("int present;", stub, f"-Wl,-soname,{library}")
    compile_library("extern int present; int *use(void) { return &present; }", output, f"-L{folder}", f"-l:{library}")
    stub.unlink()
    return output


def compile_library(source: str, output: Path, *flags: str) -> Path:
    """Compile a piece of C into a shared library."""
    _gcc(["-x", "c", "-", "-x", "none", "-o", str(output), *flags], source)
    return output


def _gcc(arguments: list[str], source: str = "") -> None:
    subprocess.run(["gcc", "-shared", "-fPIC", *arguments], input=source.encode(), check=True, timeout=60)
