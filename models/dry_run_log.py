"""Reads llama.cpp's log for memory: which buffers lie where. Pure, line by line.

Works on the log of a dry run (``no_alloc``: the lines of model and KV buffers say 0.00 then, so they are counted from
the layers' devices, which the debug log names) and on that of a real load as the worker prints it. The lines are those
of llama.cpp 0c1e57098: llama-model.cpp (load_tensors), llama-kv-cache.cpp, llama-context.cpp (sched_reserve). Sizes are
printed in MiB with two decimals, so what comes from them is exact to 5 kB.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from models.gguf_header import GgufHeader, TensorInfo
from models.types import HOST

_MIB = 1024**2
_MODEL_BUFFER = re.compile(r"load_tensors:\s+(\S+) model buffer size = +([\d.]+) MiB")
_LAYER = re.compile(r"load_tensors: layer +(\d+) assigned to device (\S+?),")
_STRAY = re.compile(r"tensor '([^']+)' \(\S+\) \(and (\d+) others\) cannot be used with preferred buffer type (\S+),")
_OVERRIDDEN = re.compile(r"tensor (\S+) \(\d+ MiB \S+\) buffer type overridden to (\S+)")
_CACHE_BUFFER = re.compile(
    r"(?:llama_kv_cache\w*|llama_memory_recurrent):\s+(\S+) (?:KV|RS) buffer size = +([\d.]+) MiB"
)
_CACHE_LAYER = re.compile(r"(?:llama_kv_cache\w*|llama_memory_recurrent)[:,] layer +\d+: dev = (\S+)")
_CACHE_SIZE = re.compile(r"(?:llama_kv_cache\w*|llama_memory_recurrent): size = +([\d.]+) MiB")
_OUTPUT = re.compile(r"llama_context:\s+(\S+)\s+output buffer size = +([\d.]+) MiB")
_COMPUTE = re.compile(r"(?:sched_reserve|llama_context):\s+(\S+) compute buffer size = +([\d.]+) MiB")

Sums = dict[str, dict[str, int]]
"""Device -> ``model_bytes``, ``kv_bytes``, ``compute_bytes``, ``output_bytes``."""


class LogNotUnderstood(Exception):
    """The log lacks a line that it should have; the text says which."""


def place_of(name: str) -> str:
    """The device a buffer or device of llama.cpp belongs to: everything of the processor (``CPU_Mapped``,
    ``CPU_REPACK``, ``AMX``) and what a card pins there (``CUDA_Host``) is the host's memory."""
    return HOST if name.startswith(("CPU", "AMX", "BLAS")) or name.endswith("_Host") else name


def _size(text: str) -> int:
    return round(float(text) * _MIB)


class ModelLog:
    """The part of the log that a load writes."""

    def __init__(self) -> None:
        self.layer_devices: dict[int, str] = {}
        self.buffers: dict[str, int] = {}
        self.overridden: dict[str, str] = {}
        self.last_word = ""
        self._moved: tuple[str, int] | None = None

    def take(self, line: str, *, is_error: bool = False) -> None:
        if found := _LAYER.search(line):
            self.layer_devices[int(found[1])] = place_of(found[2])
        elif found := _MODEL_BUFFER.search(line):
            self.buffers[found[1]] = self.buffers.get(found[1], 0) + _size(found[2])
        elif found := _OVERRIDDEN.search(line):
            self.overridden[found[1]] = place_of(found[2])
        elif found := _STRAY.search(line):
            self._moved = (found[1], int(found[2]) + 1)
        elif is_error:
            self.last_word = self.last_word or line.partition(": ")[2] or line

    @property
    def stray_tensors(self) -> int:
        """Tensors that a card was to hold and does not. The log counts them together with those that the processor's
        own preferred form did not take, so it is known only when the token embedding alone is the processor's."""
        if self._moved is None or not self.layer_devices or HOST in self.layer_devices.values():
            return 0
        name, count = self._moved
        # What was sent to the host by name is counted among them.
        return count - len(self.overridden) - (name == "token_embd.weight")


class ContextLog:
    """The part of the log that one context writes."""

    def __init__(self) -> None:
        self.cache: dict[str, int] = {}
        self.output: dict[str, int] = {}
        self.compute: dict[str, int] = {}
        self.has_cache = False
        self.last_word = ""
        self._layers: dict[str, int] = {}
        self._printed: dict[str, int] = {}

    def take(self, line: str, *, is_error: bool = False) -> None:
        if found := _CACHE_LAYER.search(line):
            self._layers[found[1]] = self._layers.get(found[1], 0) + 1
        elif found := _CACHE_BUFFER.search(line):
            self._printed[found[1]] = self._printed.get(found[1], 0) + _size(found[2])
        elif found := _CACHE_SIZE.search(line):
            self._cache_is(_size(found[1]))
        elif found := _OUTPUT.search(line):
            self.output[found[1]] = _size(found[2])
        elif found := _COMPUTE.search(line):
            # Backends with the same kind of buffer share one, and each prints it.
            self.compute[found[1]] = max(self.compute.get(found[1], 0), _size(found[2]))
        elif is_error:
            self.last_word = self.last_word or line.partition(": ")[2] or line

    def _cache_is(self, size: int) -> None:
        """The end of one cache's lines (models with a sliding window have two): its parts by device, as printed or, in
        a dry run, by the layers."""
        parts = {name: part for name, part in self._printed.items() if part}
        if not parts:
            layers = sum(self._layers.values())
            parts = {name: size * count // layers for name, count in self._layers.items()} if layers else {"CPU": size}
        for name, part in parts.items():
            self.cache[name] = self.cache.get(name, 0) + part
        self.has_cache = True
        self._layers, self._printed = {}, {}


def buffers(header: GgufHeader, model: ModelLog, context: ContextLog) -> Sums:
    """All buffers by device, the host's last. Raises ``LogNotUnderstood``."""
    if not context.compute:
        raise LogNotUnderstood("no line names a compute buffer")
    if not context.has_cache:
        raise LogNotUnderstood("no line gives the size of the cache")
    sums: Sums = {}
    for word, found in (
        ("model_bytes", _model_bytes(header, model)),
        ("kv_bytes", context.cache),
        ("compute_bytes", context.compute),
        ("output_bytes", context.output),
    ):
        for name, size in found.items():
            values = sums.setdefault(place_of(name), {})
            values[word] = values.get(word, 0) + size
    return {device: sums[device] for device in sorted(sums, key=lambda d: (d == HOST, d))}


def _model_bytes(header: GgufHeader, model: ModelLog) -> dict[str, int]:
    if any(model.buffers.values()):
        return _loaded_bytes(header, model.buffers)
    if not model.layer_devices:
        raise LogNotUnderstood("no line says which device a layer is on")
    sizes: dict[str, int] = {}
    output_device = model.layer_devices[max(model.layer_devices)]
    for tensor in header.tensors:
        device = model.overridden.get(tensor.name) or _device_of(tensor, model.layer_devices, output_device)
        sizes[device] = sizes.get(device, 0) + tensor.size_bytes
    if not header.has_output_tensor and output_device != HOST:
        # Tied: the output's device gets a copy of the embedding.
        sizes[output_device] = sizes.get(output_device, 0) + header.token_embd_bytes
    return sizes


def _loaded_bytes(header: GgufHeader, found: dict[str, int]) -> dict[str, int]:
    """The buffers of a real load. A mapped file and what was repacked from it are both printed; the pages of the file
    that were repacked can go, so the host never needs more than the tensors once."""
    cards = {name: size for name, size in found.items() if place_of(name) != HOST}
    on_host = sum(found.values()) - sum(cards.values())
    return cards | {"CPU": min(on_host, header.tensor_bytes)}


def _device_of(tensor: TensorInfo, layers: dict[int, str], output_device: str) -> str:
    prefix, _, rest = tensor.name.partition(".")
    number = rest.partition(".")[0]
    if prefix == "blk" and number.isdecimal() and int(number) in layers:
        return layers[int(number)]
    return HOST if prefix == "token_embd" else output_device


def read_load_log(header: GgufHeader, lines: Iterable[str]) -> Sums:
    """The buffers of a real load, from the log of the worker that did it. Raises ``LogNotUnderstood``."""
    model, context = ModelLog(), ContextLog()
    for line in lines:
        model.take(line)
        context.take(line)
    return buffers(header, model, context)
