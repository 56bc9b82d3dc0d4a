"""Child process that makes one device compute matrix products through llama.cpp's own backends, and prints each step.

It loads the ggml libraries that llama.cpp came with (``libggml.so.0``) by ctypes and imports nothing of ours, nor
llama_cpp: a backend opens a context on the device, takes its memory, and may hang or crash. It is a self-test on
request and never a means of monitoring. It is run by path in a fresh isolated interpreter (``drivers.compute_llama``)
and prints the records that ``drivers.compute_torch_npu`` describes, and for ``--list``:

    {"kind": "build", "version": str, "backends": [str], "unloaded": [{"file": str, "reason": str}]}
    {"kind": "device", "name": str, "description": str, "type": int, "address": str | null, "backend": str}

The products are computed straight on the device's own backend, so that nothing can fall back to the processor, with
weights in F32, F16 and Q8_0; the reference is NumPy's, in double precision, from the same (dequantized) weights.
The interface is that of ggml 0.25 (ggml.h, ggml-backend.h); any other version is refused, not tried.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import math
import os
import time
from collections.abc import Iterator
from ctypes import POINTER, c_bool, c_char_p, c_float, c_int, c_int64, c_size_t, c_void_p
from pathlib import Path
from typing import Any, TextIO

import numpy as np

KNOWN_VERSIONS = {"0.25": 368}
"""ggml's major.minor whose interface this is, with its ``ggml_tensor_overhead()`` (a tensor and its header in bytes):
what llama-cpp-python 0.3.36 carries is 0.25.3."""
ROWS, INNER, COLUMNS = 1024, 1024, 256
"""Weights are ROWS x INNER, the input COLUMNS x INNER: large enough for the kernels that models use."""
FORMATS = {"F32": 0, "F16": 1, "Q8_0": 8}
"""enum ggml_type."""
SEED = 20260901
MEASURED_S = 0.2
MOST_RUNS = 50
_Q8_0_BLOCK = np.dtype([("scale", "<f2"), ("values", "i1", 32)])
"""struct block_q8_0 (ggml-common.h)."""
_BASE_FILES = ("libggml-base", "libggml-cpu")
"""ggml's own part, and the processor's variants, of which it takes one and leaves the others."""


class InitParameters(ctypes.Structure):
    """struct ggml_init_params."""

    _fields_ = (("mem_size", c_size_t), ("mem_buffer", c_void_p), ("no_alloc", c_bool))


class DeviceProperties(ctypes.Structure):
    """struct ggml_backend_dev_props. The room at its end is for fields that a later release adds."""

    _fields_ = (
        ("name", c_char_p),
        ("description", c_char_p),
        ("memory_free", c_size_t),
        ("memory_total", c_size_t),
        ("type", c_int),
        ("device_id", c_char_p),
        ("caps", c_bool * 5),
        ("room", ctypes.c_ubyte * 256),
    )


_FUNCTIONS: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "ggml_tensor_overhead": (c_size_t, ()),
    "ggml_graph_overhead": (c_size_t, ()),
    "ggml_init": (c_void_p, (InitParameters,)),
    "ggml_new_tensor_2d": (c_void_p, (c_void_p, c_int, c_int64, c_int64)),
    "ggml_mul_mat": (c_void_p, (c_void_p, c_void_p, c_void_p)),
    "ggml_nbytes": (c_size_t, (c_void_p,)),
    "ggml_new_graph": (c_void_p, (c_void_p,)),
    "ggml_build_forward_expand": (None, (c_void_p, c_void_p)),
    "ggml_quantize_chunk": (c_size_t, (c_int, POINTER(c_float), c_void_p, c_int64, c_int64, c_int64, c_void_p)),
    "ggml_backend_load_all_from_path": (None, (c_char_p,)),
    "ggml_backend_reg_count": (c_size_t, ()),
    "ggml_backend_reg_get": (c_void_p, (c_size_t,)),
    "ggml_backend_reg_name": (c_char_p, (c_void_p,)),
    "ggml_backend_dev_count": (c_size_t, ()),
    "ggml_backend_dev_get": (c_void_p, (c_size_t,)),
    "ggml_backend_dev_get_props": (None, (c_void_p, POINTER(DeviceProperties))),
    "ggml_backend_dev_backend_reg": (c_void_p, (c_void_p,)),
    "ggml_backend_dev_supports_op": (c_bool, (c_void_p, c_void_p)),
    "ggml_backend_dev_init": (c_void_p, (c_void_p, c_char_p)),
    "ggml_backend_alloc_ctx_tensors": (c_void_p, (c_void_p, c_void_p)),
    "ggml_backend_buffer_get_size": (c_size_t, (c_void_p,)),
    "ggml_backend_tensor_set": (None, (c_void_p, c_void_p, c_size_t, c_size_t)),
    "ggml_backend_tensor_get": (None, (c_void_p, c_void_p, c_size_t, c_size_t)),
    "ggml_backend_graph_compute": (c_int, (c_void_p, c_void_p)),
    "ggml_backend_synchronize": (None, (c_void_p,)),
}


class NotPossibleError(Exception):
    """The check ends here: ``code`` for the parent, which has the words."""

    def __init__(self, code: str, text: str = "") -> None:
        super().__init__(text)
        self.code = code


class Lines:
    """Writes the records to the parent. Whatever a library prints goes to standard error instead."""

    def __init__(self) -> None:
        self._out: TextIO = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)

    def say(self, kind: str, **fields: Any) -> None:
        """One record, flushed: the next call may never come back."""
        self._out.write(json.dumps({"kind": kind, **fields}) + "\n")
        self._out.flush()

    @contextlib.contextmanager
    def step(self, name: str, number_format: str | None = None) -> Iterator[dict[str, Any]]:
        """Announce a step, time it, and print it with the fields put into the yielded dict."""
        self.say("begin", name=name, format=number_format)
        started = time.monotonic()
        fields: dict[str, Any] = {}
        yield fields
        self.say("step", name=name, format=number_format, seconds=time.monotonic() - started, **fields)


def load(folder: Path) -> tuple[Any, str]:
    """The library with its functions declared, and its version. Raises NotPossibleError."""
    file = next((folder / name for name in ("libggml.so.0", "libggml.so") if (folder / name).is_file()), None)
    if file is None:
        raise NotPossibleError("ggml_missing", str(folder))
    try:
        library = ctypes.CDLL(str(file))
    except OSError as error:
        raise NotPossibleError("ggml_unloadable", str(error)) from error
    try:
        library.ggml_version.restype = c_char_p
        version = library.ggml_version().decode()
    except AttributeError as error:
        raise NotPossibleError("ggml_version_unknown", "(before 0.9.1)") from error
    overhead = KNOWN_VERSIONS.get(".".join(version.split(".")[:2]))
    if overhead is None:
        raise NotPossibleError("ggml_version_unknown", version)
    try:
        for name, (result, arguments) in _FUNCTIONS.items():
            function = getattr(library, name)
            function.restype, function.argtypes = result, arguments
    except AttributeError as error:
        raise NotPossibleError("ggml_version_unknown", f"{version} ({error})") from error
    if library.ggml_tensor_overhead() != overhead:
        raise NotPossibleError("ggml_version_unknown", f"{version} (tensors of {library.ggml_tensor_overhead()} bytes)")
    return library, version


def load_backends(library: Any, folder: Path, extra: Path | None) -> list[dict[str, str]]:
    """Load what can be loaded; returns the files that were not, each with the loader's reason.

    As the engine does: the folder of ``backends_dir``, and those beside llama.cpp when the build has none linked in.
    """
    folders = [] if extra is None else [extra]
    if library.ggml_backend_reg_count() == 0:
        folders += [folder, folder.parent.parent / "bin", folder.parent.parent / "lib"]
    for candidate in folders:
        if any(candidate.glob("libggml-*.so")):
            library.ggml_backend_load_all_from_path(str(candidate).encode())
    mapped = Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace")
    unloaded = []
    for file in (file for candidate in folders for file in sorted(candidate.glob("libggml-*.so"))):
        if file.name.startswith(_BASE_FILES) or str(file.resolve()) in mapped:
            continue
        # A release build of ggml passes over what it cannot load without a word: ask the loader again, for its words.
        try:
            ctypes.CDLL(str(file))
            reason = "it loads but offers no backend of this llama.cpp's version"
        except OSError as error:
            reason = str(error)
        unloaded.append({"file": str(file), "reason": reason})
    return unloaded


def devices(library: Any) -> list[tuple[int, DeviceProperties]]:
    """Handles and properties of all devices."""
    found = []
    for index in range(library.ggml_backend_dev_count()):
        handle, properties = library.ggml_backend_dev_get(index), DeviceProperties()
        library.ggml_backend_dev_get_props(handle, ctypes.byref(properties))
        found.append((handle, properties))
    return found


def text(raw: bytes | None) -> str | None:
    """A C string, decoded."""
    return None if raw is None else raw.decode("utf-8", "replace")


def list_devices(lines: Lines, library: Any, version: str, unloaded: list[dict[str, str]]) -> None:
    """Print the build and its devices."""
    registered = (library.ggml_backend_reg_get(index) for index in range(library.ggml_backend_reg_count()))
    names = [text(library.ggml_backend_reg_name(backend)) for backend in registered]
    lines.say("build", version=version, backends=names, unloaded=unloaded)
    for handle, properties in devices(library):
        backend = library.ggml_backend_reg_name(library.ggml_backend_dev_backend_reg(handle))
        lines.say(
            "device",
            name=text(properties.name),
            description=text(properties.description),
            type=properties.type,
            address=text(properties.device_id),
            backend=text(backend),
        )


class Product:
    """One matrix product in one format: its tensors on the device, its inputs and reference here."""

    def __init__(self, library: Any, number_format: str, generator: np.random.Generator) -> None:
        self._library = library
        self.format = number_format
        weights = generator.uniform(-1, 1, (ROWS, INNER)).astype(np.float32)
        self._inputs = generator.uniform(-1, 1, (COLUMNS, INNER)).astype(np.float32)
        self._packed, exact = pack(library, number_format, weights)
        self._reference = self._inputs.astype(np.float64) @ exact.T
        memory = 4 * library.ggml_tensor_overhead() + library.ggml_graph_overhead() + 4096
        self._context = library.ggml_init(InitParameters(memory, None, True))
        self._weights = library.ggml_new_tensor_2d(self._context, FORMATS[number_format], INNER, ROWS)
        self._input = library.ggml_new_tensor_2d(self._context, FORMATS["F32"], INNER, COLUMNS)
        self.output = library.ggml_mul_mat(self._context, self._weights, self._input)
        if library.ggml_nbytes(self._weights) != len(self._packed):
            raise NotPossibleError("ggml_version_unknown", f"({number_format} is not laid out as in ggml 0.25)")

    def allocate(self, backend: int) -> int:
        """Take memory on the device and fill it; returns the bytes."""
        library = self._library
        buffer = library.ggml_backend_alloc_ctx_tensors(self._context, backend)
        if not buffer:
            raise NotPossibleError("out_of_memory", self.format)
        library.ggml_backend_tensor_set(self._weights, self._packed, 0, len(self._packed))
        library.ggml_backend_tensor_set(self._input, self._inputs.ctypes.data, 0, self._inputs.nbytes)
        self._graph = library.ggml_new_graph(self._context)
        library.ggml_build_forward_expand(self._graph, self.output)
        return int(library.ggml_backend_buffer_get_size(buffer))

    def compute(self, backend: int) -> float:
        """Compute again and again for a short while; returns the best time in seconds."""
        best_s = math.inf
        until = time.monotonic() + MEASURED_S
        for _ in range(MOST_RUNS):
            started = time.monotonic()
            status = self._library.ggml_backend_graph_compute(backend, self._graph)
            self._library.ggml_backend_synchronize(backend)
            best_s = min(best_s, time.monotonic() - started)
            if status != 0:
                raise NotPossibleError("compute_status", str(status))
            if time.monotonic() >= until:
                break
        return best_s

    def compare(self) -> dict[str, float | None]:
        """Read the result back; its errors against the reference, ``None`` where the result is not a number."""
        result = np.zeros((COLUMNS, ROWS), dtype=np.float32)
        self._library.ggml_backend_tensor_get(self.output, result.ctypes.data, 0, result.nbytes)
        difference = result.astype(np.float64) - self._reference
        norm = float(np.linalg.norm(self._reference))
        whole = bool(np.isfinite(difference).all())
        return {
            "max_abs_error": float(np.abs(difference).max()) if whole else None,
            "relative_error": float(np.linalg.norm(difference)) / norm if whole else None,
            "reference_rms": norm / math.sqrt(ROWS * COLUMNS),
        }


def pack(library: Any, number_format: str, weights: np.ndarray[Any, Any]) -> tuple[bytes, np.ndarray[Any, Any]]:
    """The weights as the device gets them, and what they stand for in double precision."""
    if number_format == "F32":
        return weights.tobytes(), weights.astype(np.float64)
    if number_format == "F16":
        half = weights.astype(np.float16)
        return half.tobytes(), half.astype(np.float64)
    room = ctypes.create_string_buffer(weights.size // 32 * _Q8_0_BLOCK.itemsize)
    source = weights.ctypes.data_as(POINTER(c_float))
    written = library.ggml_quantize_chunk(FORMATS[number_format], source, room, 0, ROWS, INNER, None)
    if written != len(room.raw):
        raise NotPossibleError("ggml_version_unknown", f"({number_format} takes {written} bytes)")
    blocks = np.frombuffer(room.raw, dtype=_Q8_0_BLOCK)
    exact = blocks["scale"].astype(np.float64)[:, None] * blocks["values"].astype(np.float64)
    return room.raw, exact.reshape(weights.shape)


def check(lines: Lines, library: Any, wanted: str) -> None:
    """All steps on the device of that name. Raises NotPossibleError."""
    with lines.step("devices") as fields:
        found = [(handle, known) for handle, known in devices(library) if text(known.name) == wanted]
        if not found:
            raise NotPossibleError("no_such_device", wanted)
        handle, properties = found[0]
        fields["detail"] = text(properties.description)
    generator = np.random.default_rng(SEED)
    products = [Product(library, name, generator) for name in FORMATS]
    with lines.step("allocate") as fields:
        backend = library.ggml_backend_dev_init(handle, None)
        if not backend:
            raise NotPossibleError("no_backend", wanted)
        able = [one for one in products if library.ggml_backend_dev_supports_op(handle, one.output)]
        fields["bytes_allocated"] = sum(one.allocate(backend) for one in able)
        fields["left_out"] = [one.format for one in products if one not in able]
    for one in able:
        with lines.step("matmul", one.format) as fields:
            best_s = one.compute(backend)
            fields["gflops"] = 2 * ROWS * INNER * COLUMNS / best_s / 1e9 if best_s > 0 else None
            fields["detail"] = f"{ROWS} x {INNER} x {COLUMNS}"
        with lines.step("compare", one.format) as fields:
            fields.update(one.compare())


def run(lines: Lines, options: argparse.Namespace) -> None:
    with lines.step("import") as fields:
        library, version = load(options.library_dir)
        unloaded = load_backends(library, options.library_dir, options.backends_dir)
        fields["detail"] = f"ggml {version}"
    if options.device is None:
        list_devices(lines, library, version, unloaded)
    else:
        check(lines, library, options.device)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--library-dir", type=Path, required=True)
    parser.add_argument("--backends-dir", type=Path)
    parser.add_argument("--device", help="Name of the device to check; without it the devices are listed.")
    options = parser.parse_args()
    lines = Lines()
    try:
        run(lines, options)
    except NotPossibleError as problem:
        lines.say("problem", code=problem.code, text=str(problem))
    except Exception as error:  # noqa: BLE001 - the top of the child: passed on to the parent, which reports it
        lines.say("problem", code="exception", text=f"{type(error).__name__}: {error}"[:4000])
    lines.say("end")
    # Not through the interpreter's end: libraries that crash while they are unloaded would spoil a check that is done.
    os._exit(0)


if __name__ == "__main__":
    main()
