"""A small mixture of experts with real numbers: the 671B's architecture, the tiny R1's vocabulary, random weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from models import gguf
from models.catalogue import load_catalogue
from models.types import ModelShape, Variant
from tests.fakes.gguf_writer import TypedList, tensor_bytes, write_gguf_data
from tests.models.r1_files import metadata, tensors
from tests.models.tiny_r1_files import Q8_0

SHAPE = ModelShape(
    layers=5,
    embedding_length=64,
    feed_forward_length=128,
    heads=4,
    kv_heads=4,
    key_length=48,
    value_length=32,
    vocab_size=1536,
    context_length=4096,
    kv_lora_rank=32,
    rope_length=16,
    experts=8,
    experts_used=2,
)
"""Three dense layers, two with experts (the widths of those are the 671B's: 2,048)."""


def tiny_moe() -> Variant:
    """Its entry, as a catalogue would have it."""
    large = load_catalogue().variant("R1-671B")
    assert large is not None
    return msgspec.structs.replace(large, id="Tiny-MoE", shape=SHAPE)


def write_tiny_moe(path: Path, seed: int = 4) -> Path:
    """The whole model in F16, the vectors in F32; about 13 MB."""
    random = np.random.default_rng(seed)
    header = gguf.read_header(Q8_0)
    entries: dict[str, Any] = metadata(tiny_moe(), "F16")
    entries |= {key: value for key, value in header.metadata.items() if key.startswith("tokenizer.")}
    for key, reference in header.arrays.items():
        entries[key] = TypedList(reference.element_type, list(gguf._read_array(header, key, reference.element_type)))
    written = []
    for tensor in tensors(tiny_moe(), "F16"):
        name, shape, type_name = tensor
        values = random.standard_normal(int(np.prod(shape)), dtype=np.float32) / np.float32(shape[0] ** 0.5)
        if name.endswith("_norm.weight"):
            values = np.ones_like(values)
        data = values.tobytes() if type_name == "F32" else values.astype(np.float16).tobytes()
        assert len(data) == tensor_bytes(shape, type_name)
        written.append((tensor, data))
    return write_gguf_data(path, entries, written)
