"""Models whose memory llama.cpp cannot share between sequences, small and with random weights: one with a recurrent
state (Mamba) and one with a sliding window (OLMo 2's architecture). Names and shapes are those of llama.cpp's loaders
(src/models/mamba.cpp and olmo2.cpp of 0c1e57098). They say nonsense, but always the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tests.fakes.gguf_writer import Tensor, TypedList, write_gguf_data

TOKENS = 96
WIDTH = 64
STATE, RANK, KERNEL = 16, 8, 4
WINDOW = 32


def write_recurrent(path: Path) -> Path:
    """Two layers of Mamba."""
    inner = 2 * WIDTH
    shapes: dict[str, tuple[int, ...]] = {"token_embd.weight": (WIDTH, TOKENS), "output_norm.weight": (WIDTH,)}
    for layer in range(2):
        shapes |= {
            f"blk.{layer}.attn_norm.weight": (WIDTH,),
            f"blk.{layer}.ssm_in.weight": (WIDTH, 2 * inner),
            f"blk.{layer}.ssm_conv1d.weight": (KERNEL, inner),
            f"blk.{layer}.ssm_conv1d.bias": (inner,),
            f"blk.{layer}.ssm_x.weight": (inner, RANK + 2 * STATE),
            f"blk.{layer}.ssm_dt.weight": (RANK, inner),
            f"blk.{layer}.ssm_dt.bias": (inner,),
            f"blk.{layer}.ssm_a": (STATE, inner),
            f"blk.{layer}.ssm_d": (inner,),
            f"blk.{layer}.ssm_out.weight": (inner, WIDTH),
        }
    sizes = {"conv_kernel": KERNEL, "inner_size": inner, "state_size": STATE, "time_step_rank": RANK}
    own = {f"mamba.ssm.{name}": size for name, size in sizes.items()}
    own |= {"mamba.feed_forward_length": 0, "mamba.attention.head_count": 0}
    return _write(path, "mamba", 2, own, shapes)


def write_sliding(path: Path) -> Path:
    """Four layers of which three see only the last 32 tokens."""
    shapes: dict[str, tuple[int, ...]] = {
        "token_embd.weight": (WIDTH, TOKENS),
        "output_norm.weight": (WIDTH,),
        "output.weight": (WIDTH, TOKENS),
    }
    for layer in range(4):
        shapes |= {
            f"blk.{layer}.attn_q.weight": (WIDTH, WIDTH),
            f"blk.{layer}.attn_k.weight": (WIDTH, WIDTH // 2),
            f"blk.{layer}.attn_v.weight": (WIDTH, WIDTH // 2),
            f"blk.{layer}.attn_output.weight": (WIDTH, WIDTH),
            f"blk.{layer}.attn_q_norm.weight": (WIDTH,),
            f"blk.{layer}.attn_k_norm.weight": (WIDTH // 2,),
            f"blk.{layer}.post_attention_norm.weight": (WIDTH,),
            f"blk.{layer}.ffn_gate.weight": (WIDTH, 128),
            f"blk.{layer}.ffn_up.weight": (WIDTH, 128),
            f"blk.{layer}.ffn_down.weight": (128, WIDTH),
            f"blk.{layer}.post_ffw_norm.weight": (WIDTH,),
        }
    own = {
        "olmo2.feed_forward_length": 128,
        "olmo2.attention.head_count": 2,
        "olmo2.attention.head_count_kv": 1,
        "olmo2.attention.sliding_window": WINDOW,
    }
    return _write(path, "olmo2", 4, own, shapes)


def _write(path: Path, architecture: str, layers: int, own: dict[str, Any], shapes: dict[str, tuple[int, ...]]) -> Path:
    metadata: dict[str, Any] = {
        "general.architecture": architecture,
        "general.name": f"Odd {architecture}",
        "general.file_type": 0,
        f"{architecture}.block_count": layers,
        f"{architecture}.context_length": 4096,
        f"{architecture}.embedding_length": WIDTH,
        f"{architecture}.attention.layer_norm_rms_epsilon": 1e-5,
        **own,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.tokens": ["<end>", *(f"t{i}" for i in range(1, TOKENS))],
        "tokenizer.ggml.token_type": TypedList(5, [3, *[1] * (TOKENS - 1)]),
        "tokenizer.ggml.merges": ["t 1"],
        "tokenizer.ggml.bos_token_id": 0,
        "tokenizer.ggml.eos_token_id": 0,
    }
    random = np.random.default_rng(1)
    tensors: list[tuple[Tensor, bytes]] = []
    for name, shape in shapes.items():
        values = random.normal(0.0, 0.2, shape[::-1]).astype(np.float32)
        if "norm" in name:
            values = 1.0 + values
        if name.endswith("ssm_a"):
            values = -np.abs(values) - 0.1
        tensors.append(((name, shape, "F32"), values.tobytes()))
    return write_gguf_data(path, metadata, tensors)
