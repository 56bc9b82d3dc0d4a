"""What a GGUF's header says, with typed access: a missing or mistyped entry is an error that names it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from models.errors import CorruptHeader, NotAChatModel
from models.gguf_format import FILE_TYPES
from models.types import ModelShape

Scalar = int | float | bool | str
Value = Scalar | tuple[Scalar, ...]

_MAX_LAYERS = 4096
_MAX_HEADS = 65_536
_MAX_LENGTH = 2**24
_MAX_CONTEXT = 2**31
_MAX_VOCAB = 2**24


@dataclass(frozen=True, slots=True)
class ArrayRef:
    """A long array that was checked but not kept: where it lies in the file and of what it is."""

    element_type: int
    count: int
    offset: int


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """A tensor's place: ``offset`` counts from the start of the file; ``shape`` has the row length first."""

    name: str
    shape: tuple[int, ...]
    type_name: str
    offset: int
    size_bytes: int

    @property
    def elements(self) -> int:
        elements = 1
        for length in self.shape:
            elements *= length
        return elements


@dataclass(frozen=True, slots=True)
class GgufHeader:
    """A checked header. ``metadata`` has scalars and short arrays; ``arrays`` refers to the long ones;
    ``special_tokens`` maps the ids named in the metadata (BOS, EOS, ...) to their text."""

    path: Path
    version: int
    file_bytes: int
    header_bytes: int
    alignment: int
    metadata: Mapping[str, Value]
    arrays: Mapping[str, ArrayRef]
    tensors: tuple[TensorInfo, ...]
    special_tokens: Mapping[int, str]

    # --- typed access ------------------------------------------------------------------------------------------------

    def text(self, key: str) -> str | None:
        """The string at ``key``, ``None`` when absent. Raises ``CorruptHeader`` when it is something else."""
        value = self.metadata.get(key)
        if value is None or isinstance(value, str):
            return value
        raise CorruptHeader(self.path, key, f"should be text, is {type(value).__name__}")

    def integer(self, key: str, minimum: int = 0, maximum: int = 2**63) -> int | None:
        """The whole number at ``key``, ``None`` when absent. Raises ``CorruptHeader`` on another type or out of
        range."""
        value = self.metadata.get(key)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int):
            raise CorruptHeader(self.path, key, f"should be a whole number, is {type(value).__name__}")
        if not minimum <= value <= maximum:
            raise CorruptHeader(self.path, key, f"{value} is outside {minimum} to {maximum}")
        return value

    def flag(self, key: str) -> bool | None:
        """The truth value at ``key``, ``None`` when absent. Raises ``CorruptHeader`` when it is something else."""
        value = self.metadata.get(key)
        if value is None or isinstance(value, bool):
            return value
        raise CorruptHeader(self.path, key, f"should be true or false, is {type(value).__name__}")

    def _length(self, name: str, maximum: int, minimum: int = 1) -> int | None:
        return self.integer(f"{self.architecture}.{name}", minimum, maximum)

    def _needed(self, name: str, maximum: int) -> int:
        value = self._length(name, maximum)
        if value is None:
            raise NotAChatModel(self.path, f"its header has no '{self.architecture}.{name}'")
        return value

    # --- what it is --------------------------------------------------------------------------------------------------

    @property
    def architecture(self) -> str:
        """``general.architecture``. Raises ``CorruptHeader`` when there is none."""
        value = self.text("general.architecture")
        if not value:
            raise CorruptHeader(self.path, "general.architecture", "is missing")
        return value

    @property
    def name(self) -> str:
        """``general.name``, or the file's name without ending."""
        return (self.text("general.name") or "").strip() or self.path.stem

    @property
    def bytes_by_type(self) -> dict[str, int]:
        """Tensor type -> bytes stored in it."""
        sizes: dict[str, int] = {}
        for tensor in self.tensors:
            sizes[tensor.type_name] = sizes.get(tensor.type_name, 0) + tensor.size_bytes
        return sizes

    @property
    def matrix_types(self) -> frozenset[str]:
        """Types of the tensors that decoding multiplies with: every matrix except the token embedding, which llama.cpp
        keeps on the host (unless it is the output as well)."""
        tied = not self.has_output_tensor
        return frozenset(
            t.type_name for t in self.tensors if len(t.shape) > 1 and (tied or t.name != "token_embd.weight")
        )

    @property
    def quantization(self) -> str:
        """``Q4_K_M`` ...: the file's own label when its tensors bear it out, else the type that holds most bytes."""
        sizes = self.bytes_by_type
        label = self.metadata.get("general.file_type")
        if isinstance(label, int) and not isinstance(label, bool) and label in FILE_TYPES:
            name, types = FILE_TYPES[label]
            if any(t in sizes for t in types):
                return name
        return max(sizes, key=lambda t: (sizes[t], t)) if sizes else "unknown"

    @property
    def parameters(self) -> int:
        return sum(t.elements for t in self.tensors)

    @property
    def tensor_bytes(self) -> int:
        return sum(t.size_bytes for t in self.tensors)

    def tensor(self, name: str) -> TensorInfo | None:
        return next((t for t in self.tensors if t.name == name), None)

    @property
    def token_embd_bytes(self) -> int:
        tensor = self.tensor("token_embd.weight")
        return tensor.size_bytes if tensor else 0

    @property
    def has_output_tensor(self) -> bool:
        """False when the output shares the token embedding (tied): then the cards get a copy of it."""
        return self.tensor("output.weight") is not None

    @property
    def output_bytes(self) -> int:
        tensor = self.tensor("output.weight")
        return tensor.size_bytes if tensor else self.token_embd_bytes

    @property
    def split(self) -> tuple[int, int] | None:
        """``(number, count)`` from 1 when the file is one of a set, else ``None``."""
        count = self.integer("split.count", 0, 65_535)
        if count is None or count <= 1:
            return None
        return (self.integer("split.no", 0, 65_535) or 0) + 1, count

    @property
    def context_length(self) -> int:
        """Tokens of context the model was trained for. Raises ``NotAChatModel`` when it is not said."""
        return self._needed("context_length", _MAX_CONTEXT)

    @property
    def vocab_size(self) -> int:
        """Entries of the output: rows of the embedding, else the token list, else what the metadata claim; 0 if
        none."""
        embedding = self.tensor("token_embd.weight")
        if embedding is not None and len(embedding.shape) == 2:
            return embedding.shape[1]
        tokens = self.arrays.get("tokenizer.ggml.tokens")
        if tokens is not None:
            return tokens.count
        return self._length("vocab_size", _MAX_VOCAB) or 0

    @property
    def is_legacy_mla(self) -> bool:
        """A deepseek2 file from before llama.cpp split ``attn_kv_b``: its cache is 71 times larger (January 2025)."""
        return (
            self.architecture == "deepseek2"
            and self._length("attention.kv_lora_rank", _MAX_LENGTH) is not None
            and self._length("attention.key_length_mla", _MAX_LENGTH) is None
        )

    def shape(self) -> ModelShape:
        """The dimensions the memory formulas need.

        Per-layer lists (head counts, feed-forward lengths) are answered with their largest value. Raises
        ``NotAChatModel`` when one is missing and ``CorruptHeader`` when one is out of all proportion.
        """
        layers = self._needed("block_count", _MAX_LAYERS)
        embedding = self._needed("embedding_length", _MAX_LENGTH)
        heads = self._largest("attention.head_count", _MAX_HEADS)
        if heads is None:
            raise NotAChatModel(self.path, "its header names no attention heads")
        kv_heads = self._largest("attention.head_count_kv", _MAX_HEADS) or heads
        head_length = max(embedding // heads, 1)
        key_length = self._length("attention.key_length", _MAX_LENGTH) or head_length
        value_length = self._length("attention.value_length", _MAX_LENGTH) or head_length
        lora_rank: int | None = None
        rope_length: int | None = None
        if self.architecture == "deepseek2" and not self.is_legacy_mla:
            lora_rank = self._length("attention.kv_lora_rank", _MAX_LENGTH)
            rope_length = self._length("rope.dimension_count", _MAX_LENGTH)
            key_length = self._length("attention.key_length_mla", _MAX_LENGTH) or key_length
            value_length = self._length("attention.value_length_mla", _MAX_LENGTH) or value_length
        return ModelShape(
            layers=layers,
            embedding_length=embedding,
            feed_forward_length=self._largest("feed_forward_length", _MAX_LENGTH) or 4 * embedding,
            heads=heads,
            kv_heads=kv_heads,
            key_length=key_length,
            value_length=value_length,
            vocab_size=self.vocab_size,
            context_length=self.context_length,
            kv_lora_rank=lora_rank,
            rope_length=rope_length,
            experts=self._length("expert_count", _MAX_HEADS, 0) or None,
            experts_used=self._length("expert_used_count", _MAX_HEADS, 0) or None,
        )

    def _largest(self, name: str, maximum: int) -> int | None:
        key = f"{self.architecture}.{name}"
        value = self.metadata.get(key)
        if not isinstance(value, tuple):
            return self._length(name, maximum)
        numbers = [v for v in value if isinstance(v, int) and not isinstance(v, bool)]
        if len(numbers) != len(value) or not numbers or not 1 <= max(numbers) <= maximum or min(numbers) < 0:
            raise CorruptHeader(self.path, key, "should be a list of whole numbers within bounds")
        return max(numbers)

    # --- tokenizer ---------------------------------------------------------------------------------------------------

    @property
    def has_tokenizer(self) -> bool:
        """Whether the file brings a vocabulary (``no_vocab`` files do not)."""
        model = self.text("tokenizer.ggml.model")
        return model not in (None, "no_vocab", "none") and self.token_count > 0

    @property
    def token_count(self) -> int:
        key = "tokenizer.ggml.tokens"
        if key in self.arrays:
            return self.arrays[key].count
        value = self.metadata.get(key)
        return len(value) if isinstance(value, tuple) else 0

    @property
    def chat_template(self) -> str | None:
        """The default chat template, a Jinja2 text."""
        return self.text("tokenizer.chat_template")

    @property
    def chat_templates(self) -> dict[str, str]:
        """All chat templates by name; the default one is ``default``."""
        prefix = "tokenizer.chat_template"
        found = {
            key[len(prefix) + 1 :] or "default": value
            for key, value in self.metadata.items()
            if isinstance(value, str) and (key == prefix or key.startswith(prefix + "."))
        }
        return dict(sorted(found.items()))

    def token_id(self, role: str) -> int | None:
        """Id of a special token: ``bos``, ``eos``, ``eot``, ``eom``, ``unknown``, ``padding``. ``None`` when not
        named."""
        return self.integer(f"tokenizer.ggml.{role}_token_id", 0, _MAX_VOCAB)

    def token_text(self, role: str) -> str | None:
        """Text of a special token, ``None`` when the file names none or its id lies outside the vocabulary."""
        number = self.token_id(role)
        return None if number is None else self.special_tokens.get(number)

    @property
    def add_bos_token(self) -> bool | None:
        """Whether the tokenizer puts BOS in front by itself; ``None`` when the file leaves it to the tokenizer's
        type."""
        return self.flag("tokenizer.ggml.add_bos_token")
