"""Closed-form memory estimate: weights, KV cache and compute buffer of llama.cpp.

The buffers of llama.cpp 0c1e57098 were read from loads with ``no_alloc`` on the CPU backend (8k, 32k and 128k tokens,
flash attention on and off, micro-batches of 128 to 2048). llama.cpp has no formula: it lays out the worst-case graph.
The formulas here name what is alive at that graph's peaks. Against those readings they are exact to rounding (0.6 %)
for the dense models and within +2 % / -1 % for the 671B; tests/models/test_memory.py holds the table. KV and weights
are exact. Not covered: sliding-window and recurrent models (estimated as full attention, so too high), and what a
driver's context and memory pools take, which is what the reserve of the planner is for.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from models.catalogue import kv_elements_per_token
from models.gguf_header import GgufHeader
from models.types import KvType, ModelShape, QuantizationBytes, Variant

UBATCH_TOKENS = 512
"""llama.cpp's default micro-batch (n_ubatch)."""

CONTEXT_GRAIN_TOKENS = 256
"""llama.cpp rounds the size of its cache up to this."""

_F32_BYTES = 4
_F16_BYTES = 2

KV_BYTES_PER_ELEMENT: dict[KvType, Fraction] = {
    KvType.F16: Fraction(2),
    KvType.Q8_0: Fraction(34, 32),
    KvType.Q4_0: Fraction(18, 32),
}


@dataclass(frozen=True, slots=True)
class Weights:
    """Bytes of a model's tensors. ``embedding_bytes`` lie on the host even with every layer on cards; ``output_bytes``
    follow the last layer; ``repeating_bytes`` are the layers. ``tied``: the output is the embedding.
    ``bytes_per_token`` is what one decoded token reads where that is not everything (experts)."""

    repeating_bytes: int
    embedding_bytes: int
    output_bytes: int
    file_bytes: int
    tied: bool = False
    bytes_per_token: int | None = None

    @property
    def cards_output_bytes(self) -> int:
        """The output as the cards hold it: with a tied embedding a copy of that."""
        return self.embedding_bytes if self.tied else self.output_bytes

    @property
    def on_cards_bytes(self) -> int:
        return self.repeating_bytes + self.cards_output_bytes

    @property
    def total_bytes(self) -> int:
        """Everything in one memory (no cards)."""
        return self.repeating_bytes + self.embedding_bytes + self.output_bytes


_INEXACT_MARGIN = Fraction(101, 100)


def variant_weights(variant: Variant, size: QuantizationBytes) -> Weights:
    """Weights of a catalogue entry; a size published only in rounded gigabytes counts one percent more."""
    tensor_bytes = size.tensor_bytes if size.exact else int(size.tensor_bytes * _INEXACT_MARGIN)
    return Weights(
        repeating_bytes=tensor_bytes - size.token_embd_bytes - size.output_bytes,
        embedding_bytes=size.token_embd_bytes,
        output_bytes=size.output_bytes,
        file_bytes=tensor_bytes + variant.metadata_bytes,
        bytes_per_token=size.bytes_per_token,
    )


def header_weights(header: GgufHeader) -> Weights:
    """Weights of a file. With tied embeddings the cards hold a copy as output; in host memory it is one tensor."""
    embedding = header.token_embd_bytes
    output = header.output_bytes if header.has_output_tensor else 0
    return Weights(
        repeating_bytes=header.tensor_bytes - embedding - output,
        embedding_bytes=embedding,
        output_bytes=output,
        file_bytes=header.file_bytes,
        tied=not header.has_output_tensor,
    )


def kv_bytes(shape: ModelShape, context_tokens: int, kv_type: KvType) -> int:
    """Bytes of the cache for ``context_tokens`` tokens over all layers (all seats together).

    Grouped-query attention: 2 x layers x kv heads x head length; MLA: layers x (rank + rope), K only. A legacy R1 file
    without the MLA split has a shape without ``kv_lora_rank`` and so falls under the first form, with its full heads.
    """
    padded = -(-context_tokens // CONTEXT_GRAIN_TOKENS) * CONTEXT_GRAIN_TOKENS
    size = kv_elements_per_token(shape) * padded * KV_BYTES_PER_ELEMENT[kv_type]
    return -(-size.numerator // size.denominator)


def compute_bytes(
    shape: ModelShape,
    context_tokens: int,
    *,
    flash_attention: bool,
    kv_type: KvType = KvType.F16,
    ubatch_tokens: int = UBATCH_TOKENS,
) -> int:
    """Bytes of the compute buffer (device and host parts together) for a cache of ``context_tokens`` in all.

    The largest of two peaks. At the output: logits in F32 beside two rows of the embedding (three with a quantized
    cache or without flash attention; five with experts). Within a layer, with flash attention: the larger of
    feed-forward and attention rows, and the mask in F16. Without it: the scores of every head over the whole context,
    and the mask in F32; that is what costs 2 to 33 GB at long contexts.
    """
    tokens = ubatch_tokens
    dense_rows = 2 if flash_attention and kv_type is KvType.F16 else 3
    rows = dense_rows if shape.experts is None else 5
    logits = _F32_BYTES * tokens * (shape.vocab_size + rows * shape.embedding_length)
    if flash_attention:
        feed_forward = 0 if shape.experts else 3 * shape.feed_forward_length + 4 * shape.embedding_length
        floats = max(feed_forward, _attention_floats(shape, flash_attention=True))
        layer = _F32_BYTES * tokens * floats + _F16_BYTES * tokens * context_tokens
    else:
        floats = _attention_floats(shape, flash_attention=False)
        layer = _F32_BYTES * tokens * floats + _F32_BYTES * tokens * context_tokens * (shape.heads + 1)
    return max(logits, layer)


def _attention_floats(shape: ModelShape, *, flash_attention: bool) -> int:
    """Floats per token that attention keeps alive at its peak (fitted to the readings, exact for the dense models)."""
    if shape.kv_lora_rank is not None:
        per_head = 3 * shape.kv_lora_rank + ((shape.rope_length or 0) if flash_attention else 0)
        return shape.heads * per_head + shape.embedding_length
    key_value = shape.key_length + shape.value_length
    if shape.kv_heads == shape.heads and shape.key_length != shape.value_length:
        # deepseek2 without the MLA split: full keys and values of every head are computed from the compressed ones.
        return shape.heads * (key_value * (3 if flash_attention else 2) + shape.key_length) + shape.embedding_length
    if flash_attention:
        return 0
    queries = shape.heads * shape.key_length
    return 3 * shape.embedding_length + 2 * queries + shape.kv_heads * key_value


def host_output_bytes(shape: ModelShape, seats: int) -> int:
    """Logits that llama.cpp hands to the sampler: one row of F32 per sequence, in host memory."""
    return _F32_BYTES * seats * (shape.vocab_size + shape.embedding_length)
