"""Child process that lets llama.cpp lay out a model without its memory, and prints what its log says.

One load (``no_alloc``: metadata alone, no weights read), then one context for each opening. The request comes as JSON
on standard input; the records that go out are described in ``models.dry_run``, which also understands the log lines.
Nothing is judged here. Written against llama.cpp 0c1e57098 (llama-cpp-python 0.3.36): ``no_alloc`` needs the load mode
"none", with any other an assertion ends the process.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import llama_cpp

Emit = Callable[[dict[str, Any]], None]

KV_TYPES = {"f16": 1, "q8_0": 8, "q4_0": 2}
"""enum ggml_type (ggml.h)."""

_WARNING, _ERROR, _CONTINUED = 3, 4, 5
_PR_SET_PDEATHSIG = 1
"""linux/prctl.h."""
_TELLING = (
    b" buffer size =",
    b"kv_cache",
    b"memory_recurrent",
    b"assigned to device",
    b"preferred buffer type",
    b"buffer type overridden",
    b"pipeline parallelism",
)
"""What a line of the log holds that says something about memory; debug prints one more for every tensor."""


class Log:
    """llama.cpp's log as records, whole lines. Keep the object: llama.cpp holds only the pointer of its callback."""

    def __init__(self, emit: Emit, wanted: Callable[[int, bytes], bool]) -> None:
        self._emit = emit
        self._wanted = wanted
        self._level = 0
        self._line = b""
        self._callback = llama_cpp.llama_log_callback(self._take)
        llama_cpp.llama_log_set(self._callback, ctypes.c_void_p(0))

    def _take(self, level: int, text: bytes, _user_data: object) -> None:
        # Lines arrive in pieces; a piece of level CONT belongs to the line before it.
        if level != _CONTINUED:
            self._level = level
        *lines, self._line = (self._line + text).split(b"\n")
        for line in lines:
            if line and self._wanted(self._level, line):
                said = line.decode("utf-8", "replace")[:1000]
                self._emit({"kind": "log", "text": said, "is_error": self._level == _ERROR})


def open_records() -> Emit:
    """Records go to the real standard output; what the library prints by itself goes to standard error. From now on
    this process ends with the one that started it: nobody else would stop an hour of quantizing."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    records = os.dup(1)
    os.dup2(2, 1)

    def emit(record: dict[str, Any]) -> None:
        data = json.dumps(record).encode() + b"\n"
        while data:
            data = data[os.write(records, data) :]

    return emit


def load_backends(folders: Sequence[str]) -> tuple[str, ...]:
    """Loads ggml's backends where the build has none linked in, and those of ``folders``; names of all devices.

    Through the very ``libggml.so.0`` that libllama is linked against: ``libggml.so`` beside it is another file in the
    wheel, and loading that makes a second registry which llama.cpp never sees.
    """
    library = Path(llama_cpp.__file__).parent / "lib"
    ggml = ctypes.CDLL(str(library / "libggml.so.0"))
    ggml.ggml_backend_reg_count.restype = ctypes.c_size_t
    ggml.ggml_backend_load_all_from_path.argtypes = [ctypes.c_char_p]
    candidates = [Path(folder) for folder in folders]
    if ggml.ggml_backend_reg_count() == 0:
        candidates += [library, library.parent.parent / "bin", library.parent.parent / "lib"]
    for folder in candidates:
        if any(folder.glob("libggml-*.so")):
            ggml.ggml_backend_load_all_from_path(str(folder).encode())
    ggml.ggml_backend_dev_count.restype = ctypes.c_size_t
    ggml.ggml_backend_dev_get.restype = ctypes.c_void_p
    ggml.ggml_backend_dev_get.argtypes = [ctypes.c_size_t]
    ggml.ggml_backend_dev_name.restype = ctypes.c_char_p
    ggml.ggml_backend_dev_name.argtypes = [ctypes.c_void_p]
    count = ggml.ggml_backend_dev_count()
    return tuple(ggml.ggml_backend_dev_name(ggml.ggml_backend_dev_get(i)).decode() for i in range(count))


def bound_memory(memory_bytes: int, devices: Sequence[str]) -> None:
    """No more memory than this. Drivers of cards reserve far more addresses than they use, so with cards only what can
    be written is bounded."""
    limits = [resource.RLIMIT_DATA] if any(d != "CPU" for d in devices) else [resource.RLIMIT_DATA, resource.RLIMIT_AS]
    for limit in limits:
        _, hard = resource.getrlimit(limit)
        bound = memory_bytes if hard == resource.RLIM_INFINITY else min(memory_bytes, hard)
        resource.setrlimit(limit, (bound, hard))


class _Override(ctypes.Structure):
    """llama_model_tensor_buft_override (llama.h)."""

    _fields_ = (("pattern", ctypes.c_char_p), ("buffer_type", ctypes.c_void_p))


def host_overrides(patterns: Sequence[str]) -> Any:
    """A list for ``tensor_buft_overrides``: tensors with such a name lie in the host's memory. It must live as long as
    the load."""
    ggml = ctypes.CDLL(str(Path(llama_cpp.__file__).parent / "lib" / "libggml-base.so.0"))
    ggml.ggml_backend_cpu_buffer_type.restype = ctypes.c_void_p
    host = ggml.ggml_backend_cpu_buffer_type()
    entries = [_Override(pattern.encode(), host) for pattern in patterns]
    return (_Override * (len(entries) + 1))(*entries)


def load_model(request: dict[str, Any]) -> Any:
    """The model, laid out or (``no_alloc`` false) really loaded; ``None`` when llama.cpp refuses it."""
    parameters = llama_cpp.llama_model_default_params()
    if request["no_alloc"]:
        parameters.no_alloc = True
        parameters.load_mode = llama_cpp.LLAMA_LOAD_MODE_NONE
    parameters.n_gpu_layers = request["gpu_layers"]
    parameters.use_extra_bufts = request["extra_buffers"]
    split = request["tensor_split"]
    if len(split) > 1:
        values = (ctypes.c_float * llama_cpp.llama_max_devices())(*split)
        parameters.tensor_split = ctypes.cast(values, ctypes.POINTER(ctypes.c_float))
    overrides = host_overrides(request["host_tensors"])
    parameters.tensor_buft_overrides = ctypes.cast(overrides, ctypes.c_void_p)
    return llama_cpp.llama_model_load_from_file(os.fsencode(request["path"]), parameters)


def context_parameters(opening: dict[str, Any]) -> Any:
    """As the worker opens its context (``appliance.engine.llamacpp.runner``)."""
    parameters = llama_cpp.llama_context_default_params()
    parameters.n_ctx = opening["context"]
    parameters.n_batch = opening["batch"]
    parameters.n_ubatch = min(opening["ubatch"], opening["batch"])
    parameters.n_seq_max = opening["sequences"]
    parameters.n_outputs_max = opening["outputs"]
    parameters.type_k = parameters.type_v = KV_TYPES[opening["kv_type"]]
    parameters.flash_attn_type = int(opening["flash_attention"])
    parameters.kv_unified = opening["kv_unified"]
    parameters.op_offload = opening["op_offload"]
    parameters.no_perf = True
    return parameters


def lay_out(request: dict[str, Any], emit: Emit) -> None:
    """The model and its contexts, one record after the log lines of each."""
    started = time.perf_counter()
    model = load_model(request)
    took = time.perf_counter() - started
    emit({"kind": "model", "loaded": bool(model), "seconds": took})
    if not model:
        return
    for opening in request["openings"]:
        started = time.perf_counter()
        context = llama_cpp.llama_init_from_model(model, context_parameters(opening))
        emit({"kind": "context", "opened": bool(context), "seconds": time.perf_counter() - started})
        if context:
            llama_cpp.llama_free(context)
    llama_cpp.llama_model_free(model)


def main() -> None:
    """Read the request, work, say the end."""
    request = json.loads(sys.stdin.buffer.read())
    emit = open_records()
    log = Log(emit, lambda level, line: level >= _WARNING or any(word in line for word in _TELLING))
    devices = load_backends(request["backend_dirs"])
    emit({"kind": "start", "build": f"llama-cpp-python {llama_cpp.__version__}", "devices": devices})
    if request["memory_bytes"]:
        bound_memory(request["memory_bytes"], devices)
    llama_cpp.llama_backend_init()
    with contextlib.suppress(MemoryError):
        lay_out(request, emit)
        emit({"kind": "end"})
    del log


if __name__ == "__main__":
    main()
    sys.stderr.flush()
    os._exit(0)  # what a card's library registered to run at exit may hang or crash
