"""llama.cpp's log and its compute backends: what a process sets up once, before it loads a model."""

from __future__ import annotations

import ctypes
import functools
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import llama_cpp

from appliance.engine.llamacpp.runner.errors import LoadError


class _LogLines:
    """llama.cpp's log on stderr, which the parent keeps as a ring. Without DEBUG: that is a line per graph input."""

    _DEBUG = 1
    _CONTINUED = 5

    def __init__(self) -> None:
        self._level = 0
        self.least = 0
        """Severities below are not written: 3 for warnings and errors alone."""

    def __call__(self, level: int, text: bytes, _user_data: object) -> None:
        # Lines arrive in pieces; a piece of level CONT belongs to the line before it.
        if level != self._CONTINUED:
            self._level = level
        if self._level != self._DEBUG and self._level >= self.least:
            sys.stderr.write(text.decode(errors="replace"))


@functools.cache
def install_log() -> tuple[Any, _LogLines]:
    """Give llama.cpp our log, once: it keeps the pointer for the whole process, so the result must never be freed."""
    lines = _LogLines()
    callback = llama_cpp.llama_log_callback(lines)
    llama_cpp.llama_log_set(callback, ctypes.c_void_p(0))
    return callback, lines


@contextmanager
def quiet_log() -> Iterator[None]:
    """Only warnings and errors: what a second model says of its buffers would be taken for the first one's."""
    _, lines = install_log()
    lines.least = 3
    try:
        yield
    finally:
        lines.least = 0


class _Override(ctypes.Structure):
    """llama_model_tensor_buft_override (llama.h)."""

    _fields_ = (("pattern", ctypes.c_char_p), ("buffer_type", ctypes.c_void_p))


def host_overrides(*patterns: str) -> Any:
    """For ``tensor_buft_overrides``: tensors with such names lie in the host's memory. Keep it until the load ends."""
    ggml = ctypes.CDLL(str(Path(llama_cpp.__file__).parent / "lib" / "libggml-base.so.0"))
    ggml.ggml_backend_cpu_buffer_type.restype = ctypes.c_void_p
    host = ggml.ggml_backend_cpu_buffer_type()
    # The one more, of zeros, ends the list.
    return (_Override * (len(patterns) + 1))(*(_Override(pattern.encode(), host) for pattern in patterns))


def load_backends(backend_dirs: Sequence[str]) -> tuple[str, ...]:
    """Names of the devices that compute. Loads backends when the build has none linked in.

    A build with GGML_BACKEND_DL has an empty registry until somebody loads its modules. They must go through the very
    ``libggml.so.0`` that libllama is linked against: ``libggml.so`` beside it is another file in the wheel, and loading
    that makes a second registry which llama.cpp never sees.
    """
    library_dir = Path(llama_cpp.__file__).parent / "lib"
    ggml = ctypes.CDLL(str(library_dir / "libggml.so.0"))
    ggml.ggml_backend_reg_count.restype = ctypes.c_size_t
    ggml.ggml_backend_load_all_from_path.argtypes = [ctypes.c_char_p]
    candidates = [Path(folder) for folder in backend_dirs]
    if ggml.ggml_backend_reg_count() == 0:
        candidates += [library_dir, library_dir.parent.parent / "bin", library_dir.parent.parent / "lib"]
    for folder in candidates:
        if any(folder.glob("libggml-*.so")):
            ggml.ggml_backend_load_all_from_path(str(folder).encode())
    if ggml.ggml_backend_reg_count() == 0:
        raise LoadError("no_backends", f"llama.cpp has no compute backend: no libggml-*.so in {candidates[0]}")
    ggml.ggml_backend_dev_count.restype = ctypes.c_size_t
    ggml.ggml_backend_dev_get.restype = ctypes.c_void_p
    ggml.ggml_backend_dev_get.argtypes = [ctypes.c_size_t]
    ggml.ggml_backend_dev_name.restype = ctypes.c_char_p
    ggml.ggml_backend_dev_name.argtypes = [ctypes.c_void_p]
    count = ggml.ggml_backend_dev_count()
    return tuple(ggml.ggml_backend_dev_name(ggml.ggml_backend_dev_get(i)).decode() for i in range(count))
