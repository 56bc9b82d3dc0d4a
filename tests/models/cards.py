"""Compiles the backend that poses as CUDA cards with memory of their own (tests/fakes/ggml/fake_cards.c)."""

from __future__ import annotations

import importlib.util
import subprocess
from pathlib import Path

SOURCE = Path(__file__).parents[1] / "fakes" / "ggml" / "fake_cards.c"


def build_fake_cards(folder: Path) -> Path:
    """The backend in ``folder``, which is returned. Raises when gcc fails."""
    spec = importlib.util.find_spec("llama_cpp")
    assert spec is not None
    assert spec.origin is not None
    libraries = Path(spec.origin).parent / "lib"
    flags = ["-shared", "-fPIC", "-std=c11", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror"]
    linked = [f"-L{libraries}", "-l:libggml-cpu.so.0", "-l:libggml-base.so.0"]
    output = folder / "libggml-cuda.so"
    subprocess.run(["gcc", *flags, "-o", str(output), str(SOURCE), *linked], check=True, timeout=60)
    return folder


def shown(count: int, **environment: str) -> dict[str, str]:
    """Environment in which there are ``count`` fake cards."""
    return {"FAKE_CARDS": str(count), **environment}
