"""The tiny R1 in 16 bits: its GGUF form in Q8_0 has the metadata, its Hugging Face form the numbers in BF16."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np

from models import gguf
from tests.fakes.gguf_writer import STRING, Tensor, TypedList, write_gguf_data

TINY_R1 = Path(__file__).parents[1] / "fixtures" / "tiny_r1"
Q8_0 = TINY_R1 / "gguf" / "Tiny-R1-Q8_0.gguf"
Q4_K_M = TINY_R1 / "gguf" / "Tiny-R1-Q4_K_M.gguf"

_TOP = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
_LAYER = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def write_tiny_r1(path: Path, type_name: str = "F16") -> Path:
    """The whole model; ``type_name`` is F16 or BF16, vectors are F32."""
    header = gguf.read_header(Q8_0)
    metadata: dict[str, Any] = dict(header.metadata) | {"general.file_type": 1 if type_name == "F16" else 32}
    for key, reference in header.arrays.items():
        metadata[key] = TypedList(reference.element_type, list(gguf._read_array(header, key, reference.element_type)))
    assert metadata["tokenizer.ggml.tokens"].element_type == STRING
    return write_gguf_data(path, metadata, [_tensor(*one, type_name) for one in _safetensors()])


def _safetensors() -> list[tuple[str, tuple[int, ...], bytes]]:
    data = (TINY_R1 / "hf" / "model.safetensors").read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    entries = json.loads(data[8 : 8 + length])
    entries.pop("__metadata__", None)
    return [
        (
            name,
            tuple(entry["shape"]),
            data[8 + length + entry["data_offsets"][0] : 8 + length + entry["data_offsets"][1]],
        )
        for name, entry in entries.items()
    ]


def _tensor(name: str, shape: tuple[int, ...], data: bytes, type_name: str) -> tuple[Tensor, bytes]:
    stem, ending = name.rsplit(".", 1)
    if stem in _TOP:
        gguf_name = f"{_TOP[stem]}.{ending}"
    else:
        number, part = stem.removeprefix("model.layers.").split(".", 1)
        gguf_name = f"blk.{number}.{_LAYER[part]}.{ending}"
    values = (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32)
    if len(shape) == 1:
        return (gguf_name, shape, "F32"), values.tobytes()
    raw = data if type_name == "BF16" else values.astype(np.float16).tobytes()
    return (gguf_name, tuple(reversed(shape)), type_name), raw
