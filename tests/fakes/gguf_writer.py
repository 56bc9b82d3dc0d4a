"""Writes GGUF files for tests: any metadata, any tensors, any size (the tensors' data is a hole in the file).

Also small models that pass every check of an import, to be changed by a test at one point.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.gguf_format import TENSOR_TYPES

_TYPE_IDS = {t.name: number for number, t in TENSOR_TYPES.items()}
_FORMATS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
STRING = 8
ARRAY = 9

Tensor = tuple[str, tuple[int, ...], str]
"""Name, shape (row length first), type name."""


@dataclass(frozen=True)
class Typed:
    """A metadata value with its type written out, for those that Python's own type does not give."""

    type_id: int
    value: Any


@dataclass(frozen=True)
class TypedList:
    """A list whose element type is written out; ``count`` may lie about its length."""

    element_type: int
    values: Sequence[Any]
    count: int | None = None


def text(value: str | bytes) -> bytes:
    raw = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(raw)) + raw


def scalar(type_id: int, value: Any) -> bytes:
    return text(value) if type_id == STRING else struct.pack("<" + _FORMATS[type_id], value)


def type_of(value: Any) -> int:
    if isinstance(value, bool):
        return 7
    if isinstance(value, int):
        return 4
    if isinstance(value, float):
        return 6
    return STRING


def entry(key: str | bytes, value: Any) -> bytes:
    """One metadata entry: whole numbers as u32, floats as f32, lists by their first element."""
    if isinstance(value, Typed):
        return text(key) + struct.pack("<I", value.type_id) + scalar(value.type_id, value.value)
    if isinstance(value, list | tuple):
        value = TypedList(type_of(value[0]) if value else 4, value)
    if isinstance(value, TypedList):
        count = len(value.values) if value.count is None else value.count
        head = text(key) + struct.pack("<IIQ", ARRAY, value.element_type, count)
        if value.element_type != STRING:
            return head + struct.pack(f"<{len(value.values)}{_FORMATS[value.element_type]}", *value.values)
        return head + b"".join(text(v) for v in value.values)
    type_id = type_of(value)
    return text(key) + struct.pack("<I", type_id) + scalar(type_id, value)


def tensor_bytes(shape: tuple[int, ...], type_name: str) -> int:
    kind = TENSOR_TYPES[_TYPE_IDS[type_name]]
    elements = 1
    for length in shape:
        elements *= length
    return elements // kind.block_elements * kind.block_bytes


def header(
    metadata: Mapping[str, Any], tensors: Sequence[Tensor], *, version: int = 3, alignment: int = 32
) -> tuple[bytes, int]:
    """The header with its padding, and the bytes of the data behind it."""
    out = [b"GGUF", struct.pack("<IQQ", version, len(tensors), len(metadata))]
    out += [entry(key, value) for key, value in metadata.items()]
    offset = 0
    size = 0
    for name, shape, type_name in tensors:
        out.append(text(name) + struct.pack(f"<I{len(shape)}Q", len(shape), *shape))
        out.append(struct.pack("<IQ", _TYPE_IDS[type_name], offset))
        size = offset + tensor_bytes(shape, type_name)
        offset = -(-size // alignment) * alignment
    raw = b"".join(out)
    return raw + b"\0" * (-len(raw) % alignment), size


def write_gguf(path: Path, metadata: Mapping[str, Any], tensors: Sequence[Tensor], **options: Any) -> Path:
    """Writes a whole file; the data is a hole, so that sizes of many gigabytes cost nothing."""
    head, data_bytes = header(metadata, tensors, **options)
    with path.open("wb") as file:
        file.write(head)
        file.truncate(len(head) + data_bytes)
    return path


def write_gguf_data(
    path: Path, metadata: Mapping[str, Any], tensors: Sequence[tuple[Tensor, bytes]], **options: Any
) -> Path:
    """As ``write_gguf`` with each tensor's bytes."""
    head, _ = header(metadata, [tensor for tensor, _ in tensors], **options)
    with path.open("wb") as file:
        file.write(head)
        for (name, shape, type_name), data in tensors:
            if len(data) != tensor_bytes(shape, type_name):
                raise ValueError(f"{name} has {len(data)} bytes")
            file.write(b"\0" * (-(file.tell() - len(head)) % options.get("alignment", 32)))
            file.write(data)
    return path


TEMPLATE = "{% for m in messages %}{{ m.content }}{% endfor %}"


def small_metadata(architecture: str = "qwen2", *, tokens: int = 32, **changes: Any) -> dict[str, Any]:
    """Metadata of a model of two layers. ``changes`` replace entries; dots in their names are written as ``__``;
    ``None`` takes an entry out."""
    a = architecture
    metadata: dict[str, Any] = {
        "general.architecture": a,
        "general.name": "Small Model",
        "general.file_type": 7,
        f"{a}.block_count": 2,
        f"{a}.context_length": 4096,
        f"{a}.embedding_length": 64,
        f"{a}.feed_forward_length": 128,
        f"{a}.attention.head_count": 4,
        f"{a}.attention.head_count_kv": 2,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.tokens": [f"t{i}" for i in range(tokens)],
        "tokenizer.ggml.token_type": TypedList(5, [1] * tokens),
        "tokenizer.ggml.bos_token_id": 0,
        "tokenizer.ggml.eos_token_id": 1,
        "tokenizer.ggml.add_bos_token": True,
        "tokenizer.chat_template": TEMPLATE,
    }
    for key, value in changes.items():
        name = key.replace("__", ".")
        if value is None:
            metadata.pop(name)
        else:
            metadata[name] = value
    return metadata


def small_tensors(*, tokens: int = 32, type_name: str = "Q8_0", output: bool = True) -> list[Tensor]:
    tensors: list[Tensor] = [("token_embd.weight", (64, tokens), type_name)]
    for layer in range(2):
        tensors += [
            (f"blk.{layer}.attn_norm.weight", (64,), "F32"),
            (f"blk.{layer}.attn_q.weight", (64, 64), type_name),
            (f"blk.{layer}.ffn_up.weight", (64, 128), type_name),
        ]
    return tensors + ([("output.weight", (64, tokens), type_name)] if output else [])


def write_small(path: Path, *, filler_bytes: int = 0, seed: int = 0, **changes: Any) -> Path:
    """A small model that can be imported. ``filler_bytes`` make it larger by one more tensor, ``seed`` changes a byte
    of the data so that the sha256 differs."""
    tensors = small_tensors()
    if filler_bytes:
        tensors.append(("blk.1.ffn_down.weight", (32, filler_bytes // 34), "Q8_0"))
    write_gguf(path, small_metadata(**changes), tensors)
    if seed:
        with path.open("r+b") as file:
            file.seek(-1, 2)
            file.write(bytes([seed]))
    return path
