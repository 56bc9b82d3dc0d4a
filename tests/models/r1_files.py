"""GGUF files of the catalogue's models for llama.cpp itself: real names and shapes, no vocabulary, a hole for data.

The names are those of llama.cpp's loaders (src/models/qwen2.cpp, qwen3.cpp, llama.cpp, deepseek2.cpp of 0c1e57098).
What is written in BF16 and Q8_0 follows from the shapes; for mixtures such as Q4_K_M the types of single tensors are
asked of llama.cpp's own quantizer.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from models.types import ModelShape, Variant
from tests.fakes.gguf_writer import Tensor, Typed, write_gguf

FILE_TYPES = {"BF16": 32, "F16": 1, "Q8_0": 7, "Q4_K_M": 15}
_Q_LORA_RANK = 1536
_EXPERT_FEED_FORWARD = 2048
_DENSE_LAYERS = 3
_EXPERTS_SHARED = 1
_STAYS = (".bias", "_norm.weight", "rope_freqs.weight", "ffn_gate_inp.weight")
"""Endings of tensors that no quantization touches: F32."""


def metadata(variant: Variant, quantization: str) -> dict[str, Any]:
    a, s = variant.architecture, variant.shape
    entries: dict[str, Any] = {
        "general.architecture": a,
        "general.name": variant.id,
        "general.file_type": FILE_TYPES[quantization],
        "tokenizer.ggml.model": "no_vocab",
        f"{a}.block_count": s.layers,
        f"{a}.context_length": s.context_length,
        f"{a}.embedding_length": s.embedding_length,
        f"{a}.feed_forward_length": s.feed_forward_length,
        f"{a}.attention.head_count": s.heads,
        f"{a}.attention.head_count_kv": s.kv_heads,
        f"{a}.attention.layer_norm_rms_epsilon": 1e-6,
        f"{a}.rope.freq_base": s.rope_theta or 10000.0,
        f"{a}.rope.dimension_count": s.rope_length or s.key_length,
        f"{a}.vocab_size": s.vocab_size,
    }
    if s.kv_lora_rank is not None:
        assert s.rope_length is not None
        entries |= {
            f"{a}.attention.head_count_kv": 1,
            f"{a}.attention.key_length": s.kv_lora_rank + s.rope_length,
            f"{a}.attention.value_length": s.kv_lora_rank,
            f"{a}.attention.key_length_mla": s.key_length,
            f"{a}.attention.value_length_mla": s.value_length,
            f"{a}.attention.q_lora_rank": _Q_LORA_RANK,
            f"{a}.attention.kv_lora_rank": s.kv_lora_rank,
            f"{a}.leading_dense_block_count": _DENSE_LAYERS,
            f"{a}.expert_feed_forward_length": _EXPERT_FEED_FORWARD,
            f"{a}.expert_count": s.experts,
            f"{a}.expert_used_count": s.experts_used,
            f"{a}.expert_shared_count": _EXPERTS_SHARED,
            f"{a}.expert_weights_scale": 2.5,
            f"{a}.expert_weights_norm": True,
            f"{a}.expert_gating_func": 2,
        }
    else:
        entries |= {f"{a}.attention.key_length": s.key_length, f"{a}.attention.value_length": s.value_length}
    # llama.cpp reads no floating point of 64 bits here.
    return {k: Typed(6, v) if isinstance(v, float) else v for k, v in entries.items()}


def _dense_attention(architecture: str, s: ModelShape, blk: str) -> list[tuple[str, tuple[int, ...]]]:
    e, q, k, v = s.embedding_length, s.heads * s.key_length, s.kv_heads * s.key_length, s.kv_heads * s.value_length
    shapes: list[tuple[str, tuple[int, ...]]] = [
        (f"{blk}.attn_q.weight", (e, q)),
        (f"{blk}.attn_k.weight", (e, k)),
        (f"{blk}.attn_v.weight", (e, v)),
        (f"{blk}.attn_output.weight", (q, e)),
    ]
    if architecture == "qwen2":
        shapes += [(f"{blk}.attn_q.bias", (q,)), (f"{blk}.attn_k.bias", (k,)), (f"{blk}.attn_v.bias", (v,))]
    if architecture == "qwen3":
        shapes += [(f"{blk}.attn_{x}_norm.weight", (s.key_length,)) for x in "qk"]
    return shapes


def _mla_attention(s: ModelShape, blk: str) -> list[tuple[str, tuple[int, ...]]]:
    assert s.kv_lora_rank is not None
    assert s.rope_length is not None
    e, rank = s.embedding_length, s.kv_lora_rank
    return [
        (f"{blk}.attn_q_a.weight", (e, _Q_LORA_RANK)),
        (f"{blk}.attn_q_a_norm.weight", (_Q_LORA_RANK,)),
        (f"{blk}.attn_q_b.weight", (_Q_LORA_RANK, s.heads * s.key_length)),
        (f"{blk}.attn_kv_a_mqa.weight", (e, rank + s.rope_length)),
        (f"{blk}.attn_kv_a_norm.weight", (rank,)),
        (f"{blk}.attn_k_b.weight", (s.key_length - s.rope_length, rank, s.heads)),
        (f"{blk}.attn_v_b.weight", (rank, s.value_length, s.heads)),
        (f"{blk}.attn_output.weight", (s.heads * s.value_length, e)),
    ]


def _feed_forward(s: ModelShape, blk: str, *, dense: bool) -> list[tuple[str, tuple[int, ...]]]:
    e, f = s.embedding_length, s.feed_forward_length
    if dense:
        return [
            (f"{blk}.ffn_gate.weight", (e, f)),
            (f"{blk}.ffn_up.weight", (e, f)),
            (f"{blk}.ffn_down.weight", (f, e)),
        ]
    assert s.experts is not None
    f, n = _EXPERT_FEED_FORWARD, s.experts
    return [
        (f"{blk}.ffn_gate_inp.weight", (e, n)),
        (f"{blk}.exp_probs_b.bias", (n,)),
        (f"{blk}.ffn_gate_exps.weight", (e, f, n)),
        (f"{blk}.ffn_up_exps.weight", (e, f, n)),
        (f"{blk}.ffn_down_exps.weight", (f, e, n)),
        (f"{blk}.ffn_gate_shexp.weight", (e, f * _EXPERTS_SHARED)),
        (f"{blk}.ffn_up_shexp.weight", (e, f * _EXPERTS_SHARED)),
        (f"{blk}.ffn_down_shexp.weight", (f * _EXPERTS_SHARED, e)),
    ]


def tensors(variant: Variant, type_name: str, types: Mapping[str, str] | None = None) -> list[Tensor]:
    """``type_name`` for every tensor that a quantization touches, or what ``types`` says for its name."""
    s = variant.shape
    e = s.embedding_length
    shapes: list[tuple[str, tuple[int, ...]]] = [("token_embd.weight", (e, s.vocab_size))]
    if variant.architecture == "llama":
        shapes.append(("rope_freqs.weight", (s.key_length // 2,)))
    for layer in range(s.layers):
        blk = f"blk.{layer}"
        shapes.append((f"{blk}.attn_norm.weight", (e,)))
        mla = s.kv_lora_rank is not None
        shapes += _mla_attention(s, blk) if mla else _dense_attention(variant.architecture, s, blk)
        shapes.append((f"{blk}.ffn_norm.weight", (e,)))
        shapes += _feed_forward(s, blk, dense=s.experts is None or layer < _DENSE_LAYERS)
    shapes += [("output_norm.weight", (e,)), ("output.weight", (e, s.vocab_size))]
    chosen = types or {}
    return [(name, shape, "F32" if name.endswith(_STAYS) else chosen.get(name, type_name)) for name, shape in shapes]


def write_variant(path: Path, variant: Variant, quantization: str, types: Mapping[str, str] | None = None) -> Path:
    """A sparse file of ``variant``; ``types`` are needed for a mixture."""
    return write_gguf(path, metadata(variant, quantization), tensors(variant, quantization, types))
