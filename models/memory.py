"""Closed-form memory estimate: weights, KV cache and compute buffer of llama.cpp.

llama.cpp has no formula: it lays out the worst-case graph. The formulas here name what is alive at that graph's peaks.
They were found from dry runs (``models.dry_run``) of llama.cpp 0c1e57098: 8k, 32k and 128k tokens, flash attention on
and off, micro-batches of 128 to 2048, 1 to 2048 outputs; on the processor, on one card and on several with a backend
that poses as CUDA. tests/models/test_dry_run_accuracy.py holds them to +3 % / -1 %; KV and weights are exact. Not
covered: sliding-window and recurrent models (estimated as full attention, so too high), and what a driver's context and
memory pools take, which is what the reserve of the planner is for.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from models.catalogue import kv_elements_per_token
from models.gguf_header import GgufHeader
from models.types import KvType, ModelShape, QuantizationBytes, Variant

UBATCH_TOKENS = 512
"""llama.cpp's default micro-batch (n_ubatch)."""

CACHE_SLOTS = 8
"""Sequences that the worker opens beyond its seats, for what conversations share (``WorkerConfig.cache_slots``)."""
SPARE_SEQUENCES = 1
"""And one more, through which it saves and restores parts of the others (``runner.Runner``)."""

CONTEXT_GRAIN_TOKENS = 256
"""llama.cpp rounds the size of its cache up to this."""

_F32_BYTES = 4
_F16_BYTES = 2
_INDEX_BYTES = 8
_SMALL_INPUT_BYTES = 24
"""Token, position, places in the cache and the like, for each token of a micro-batch."""
_PIPELINE_COPIES = 4
"""GGML_SCHED_MAX_COPIES, unless a build says otherwise."""

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
    ratio = KV_BYTES_PER_ELEMENT[kv_type]
    # In whole numbers: a plan of the catalogue comes here thousands of times.
    return -(-kv_elements_per_token(shape) * _padded(context_tokens) * ratio.numerator // ratio.denominator)


def compute_bytes(
    shape: ModelShape,
    context_tokens: int,
    *,
    flash_attention: bool,
    kv_type: KvType = KvType.F16,
    ubatch_tokens: int = UBATCH_TOKENS,
    outputs: int | None = None,
    sequences: int = 1,
    on_card: bool = False,
    pipeline: bool = False,
) -> int:
    """Bytes of the compute buffer for a cache of ``context_tokens`` in all.

    ``outputs`` is llama.cpp's ``n_outputs_max``: how many tokens of a micro-batch may have logits (``None``: all of
    them; our worker asks for one per sequence). ``sequences`` is ``n_seq_max``: the micro-batch is rounded up to a
    multiple of it. ``on_card``: the buffer of a card that holds all layers or some; the host's part is
    ``host_compute_bytes``. Otherwise that of the processor, with everything in it. ``pipeline``: several cards
    that compute asynchronously (CUDA), for which llama.cpp keeps every input four times; the first of them has up to
    four rows less than this.

    The largest of two peaks. At the output: logits in F32 beside a few rows of the embedding. Within a layer, with
    flash attention: the larger of feed-forward and attention rows, and the mask in F16. Without it: the scores of every
    head over the whole context, and the mask in F32; that is what costs 2 to 33 GB at long contexts.
    """
    tokens = _row_tokens(ubatch_tokens, context_tokens, sequences)
    row = _F32_BYTES * tokens * shape.embedding_length
    wanted = tokens if outputs is None else min(outputs, tokens)
    logits = _F32_BYTES * wanted * shape.vocab_size + row * _output_rows(
        shape, flash_attention, kv_type, wanted < tokens
    )
    layer = _F32_BYTES * tokens * _layer_floats(shape, flash_attention=flash_attention, kv_type=kv_type)
    layer += mask_bytes(tokens, context_tokens, flash_attention=flash_attention)
    if not flash_attention:
        layer += _F32_BYTES * tokens * _padded(context_tokens) * shape.heads
        if shape.kv_lora_rank is not None and ubatch_tokens < UBATCH_TOKENS:
            # Small rows break up the allocator's free space: up to two masks more, seen with 128 tokens.
            layer += 2 * mask_bytes(tokens, context_tokens, flash_attention=False)
    if on_card:
        # The embedding's own row stays on the host; with MLA the attention's peak loses one more.
        layer -= row * (1 if shape.kv_lora_rank is None else 2)
    peak = max(logits, layer) + _SMALL_INPUT_BYTES * tokens
    peak += _rotation_bytes(shape, kv_type)
    if pipeline:
        inputs = _input_bytes(shape, tokens, context_tokens, flash_attention=flash_attention, kv_type=kv_type)
        peak += (_PIPELINE_COPIES - 1) * inputs + 2 * _PIPELINE_COPIES * row
    return peak


def host_compute_bytes(
    shape: ModelShape,
    context_tokens: int,
    *,
    flash_attention: bool,
    kv_type: KvType = KvType.F16,
    ubatch_tokens: int = UBATCH_TOKENS,
    sequences: int = 1,
    pipeline: bool = False,
) -> int:
    """Bytes that llama.cpp pins in the host's memory for its inputs when the layers are on cards."""
    tokens = _row_tokens(ubatch_tokens, context_tokens, sequences)
    copies, rows = (_PIPELINE_COPIES, _PIPELINE_COPIES + 1) if pipeline else (1, 2)
    inputs = _input_bytes(shape, tokens, context_tokens, flash_attention=flash_attention, kv_type=kv_type)
    row = _F32_BYTES * tokens * shape.embedding_length
    return copies * inputs + rows * row + _SMALL_INPUT_BYTES * copies * tokens


def _padded(context_tokens: int) -> int:
    return -(-context_tokens // CONTEXT_GRAIN_TOKENS) * CONTEXT_GRAIN_TOKENS


def _row_tokens(ubatch_tokens: int, context_tokens: int, sequences: int) -> int:
    """Tokens of the worst micro-batch."""
    return -(-min(ubatch_tokens, _padded(context_tokens)) // sequences) * sequences


def mask_bytes(tokens: int, context_tokens: int, *, flash_attention: bool) -> int:
    """Bytes of the attention's mask for a micro-batch of ``tokens``."""
    return (_F16_BYTES if flash_attention else _F32_BYTES) * tokens * _padded(context_tokens)


def _rotation_bytes(shape: ModelShape, kv_type: KvType) -> int:
    """A quantized cache is rotated by a matrix as wide as a head (llama.cpp's attn_rot); not so with MLA."""
    return 0 if kv_type is KvType.F16 or shape.kv_lora_rank is not None else _F32_BYTES * shape.key_length**2


def _input_bytes(shape: ModelShape, tokens: int, context_tokens: int, *, flash_attention: bool, kv_type: KvType) -> int:
    """What each split of the graph gets of its own: the mask, the rotation, and without flash attention the places of
    V, which then lies transposed."""
    inputs = mask_bytes(tokens, context_tokens, flash_attention=flash_attention) + _rotation_bytes(shape, kv_type)
    if flash_attention or shape.kv_lora_rank is not None:
        return inputs
    return inputs + _INDEX_BYTES * tokens * shape.kv_heads * shape.value_length


def _output_rows(shape: ModelShape, flash_attention: bool, kv_type: KvType, few: bool) -> int:
    """Rows of the embedding beside the logits; with few outputs those of the layer before are still there."""
    if shape.experts is not None:
        return 5
    if few:
        return 4
    return 2 if flash_attention and kv_type is KvType.F16 else 3


def _layer_floats(shape: ModelShape, *, flash_attention: bool, kv_type: KvType) -> int:
    """Floats per token that a layer keeps alive at its peak, without mask and scores, on the processor (exact for the
    dense models; those with experts were fitted to R1's shape)."""
    if shape.kv_lora_rank is not None:
        return _mla_floats(shape)
    key_value = shape.key_length + shape.value_length
    queries = shape.heads * shape.key_length
    if shape.kv_heads == shape.heads and shape.key_length != shape.value_length:
        # deepseek2 without the MLA split: full keys and values of every head are computed from the compressed ones.
        return shape.heads * (key_value * (3 if flash_attention else 2) + shape.key_length) + shape.embedding_length
    if flash_attention:
        rows = 4 if kv_type is KvType.F16 else 3
        return 3 * shape.feed_forward_length + rows * shape.embedding_length
    return 3 * shape.embedding_length + 2 * queries + shape.kv_heads * key_value


def _mla_floats(shape: ModelShape) -> int:
    assert shape.kv_lora_rank is not None
    attention = shape.heads * (3 * shape.kv_lora_rank + 3 * (shape.rope_length or 0) // 2)
    dense = 3 * shape.feed_forward_length + 4 * shape.embedding_length
    experts = 0
    if shape.experts_used is not None:
        experts = 2 * (shape.experts_used + 1) * shape.embedding_length + shape.heads * shape.key_length
    return max(attention, dense, experts)


def host_output_bytes(shape: ModelShape, sequences: int) -> int:
    """Logits that llama.cpp hands to the sampler: one row of F32 per sequence, in host memory."""
    return _F32_BYTES * sequences * shape.vocab_size
