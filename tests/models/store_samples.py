"""Models for the tests of store and import: with real bytes, split into parts, as Hugging Face folders."""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from models.gguf import read_header
from models.gguf_format import TENSOR_TYPES
from models.gguf_set import part_name
from tests.fakes.gguf_writer import Tensor, Typed, entry, header, small_metadata, small_tensors, text, write_small

ADDED = ("<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜User｜>", "<｜Assistant｜>", "<think>", "</think>")


def write_dense(path: Path, filler_bytes: int, seed: int = 0, **changes: Any) -> Path:
    """As ``write_small``, every byte of the data on the disk and none like another's."""
    write_small(path, filler_bytes=filler_bytes, **changes)
    chance = random.Random(seed)
    size = path.stat().st_size
    data_bytes = filler_bytes // 34 * 34
    with path.open("r+b") as file:
        file.seek(size - data_bytes)
        for start in range(0, data_bytes, 1_000_000):
            file.write(chance.randbytes(min(1_000_000, data_bytes - start)))
    return path


def write_set(
    folder: Path,
    count: int,
    prefix: str = "Big-R1",
    seed: int = 0,
    changes: Mapping[int, Mapping[str, Any]] | None = None,
    tensors: list[Tensor] | None = None,
) -> list[Path]:
    """A split set as ``llama-gguf-split`` makes it. ``changes`` are metadata by the number of the part, from 1."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = tensors or small_tensors()
    shares = [tensors[n::count] for n in range(count)]
    paths = []
    for number, share in enumerate(shares, start=1):
        metadata = small_metadata() if number == 1 else {}
        metadata |= {"split.no": number - 1, "split.count": count, "split.tensors.count": len(tensors)}
        metadata |= (changes or {}).get(number, {})
        metadata = {k: v for k, v in metadata.items() if v is not None}
        head, size = header(metadata, share)
        path = folder / part_name(prefix, number, count)
        path.write_bytes(head + random.Random(seed * 1000 + number).randbytes(size))
        paths.append(path)
    return paths


def split_gguf(source: Path, folder: Path, count: int) -> list[Path]:
    """Splits a real GGUF as ``llama-gguf-split`` does: its metadata in the first part, the tensors shared out."""
    whole = read_header(source)
    raw = source.read_bytes()
    first = whole.tensors[0].name
    metadata = raw[24 : raw.index(text(first), 24)]
    entry_count = len(whole.metadata) + len(whole.arrays)
    per_part = -(-len(whole.tensors) // count)
    folder.mkdir(parents=True)
    paths = []
    for number in range(count):
        share = whole.tensors[number * per_part : (number + 1) * per_part]
        entries = [entry("split.no", Typed(2, number)), entry("split.count", Typed(2, count))]
        entries.append(entry("split.tensors.count", Typed(5, len(whole.tensors))))
        kept = metadata if number == 0 else b""
        head = struct.pack("<IQQ", whole.version, len(share), len(entries) + (entry_count if number == 0 else 0))
        table, data = b"", b""
        for tensor in share:
            data += b"\0" * (-len(data) % whole.alignment)
            type_id = next(n for n, t in TENSOR_TYPES.items() if t.name == tensor.type_name)
            table += text(tensor.name) + struct.pack(f"<I{len(tensor.shape)}Q", len(tensor.shape), *tensor.shape)
            table += struct.pack("<IQ", type_id, len(data))
            data += raw[tensor.offset : tensor.offset + tensor.size_bytes]
        out = b"GGUF" + head + kept + b"".join(entries) + table
        path = folder / part_name(source.stem, number + 1, count)
        path.write_bytes(out + b"\0" * (-len(out) % whole.alignment) + data)
        paths.append(path)
    return paths


def safetensors(tensors: Mapping[str, tuple[str, tuple[int, ...], int]], seed: int = 0) -> bytes:
    """A safetensors file of ``name -> (dtype, shape, bytes)``."""
    table: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    position = 0
    for name, (dtype, shape, size) in tensors.items():
        table[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [position, position + size]}
        position += size
    raw = json.dumps(table).encode()
    return struct.pack("<Q", len(raw)) + raw + random.Random(seed).randbytes(position)


CONFIG: dict[str, Any] = {
    "architectures": ["Qwen2ForCausalLM"],
    "model_type": "qwen2",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 32,
    "max_position_embeddings": 4096,
    "torch_dtype": "bfloat16",
}


def write_hub_folder(folder: Path, *, shards: int = 2, config: Mapping[str, Any] | None = None) -> Path:
    """A Hugging Face folder with safetensors in ``shards`` files (1: one file without an index)."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(CONFIG | dict(config or {})))
    weights = {f"model.layers.{n}.weight": ("BF16", (64, 64), 64 * 64 * 2) for n in range(2 * shards)}
    names = list(weights)
    if shards == 1:
        (folder / "model.safetensors").write_bytes(safetensors(weights))
    else:
        files = {}
        for number in range(shards):
            name = f"model-{number + 1:05d}-of-{shards:06d}.safetensors"
            share = {k: weights[k] for k in names[number::shards]}
            (folder / name).write_bytes(safetensors(share, seed=number))
            files |= dict.fromkeys(share, name)
        (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": files}))
    (folder / "tokenizer.json").write_text('{"model": {}}')
    (folder / "tokenizer_config.json").write_text(
        json.dumps(
            {
                "bos_token": {"content": ADDED[0]},
                "eos_token": ADDED[1],
                "added_tokens_decoder": {str(n): {"content": text} for n, text in enumerate(ADDED)},
                "chat_template": "{{ bos_token }}{% for m in messages %}{{ m.content }}{% endfor %}",
            }
        )
    )
    return folder
