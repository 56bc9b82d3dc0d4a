"""What is looked at in a sound model before it is copied: its tokenizer, its chat template, and whether the catalogue
knows it. Findings that do not keep a model from being served are warnings; they are printed and stay in the manifest.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from models.errors import TemplateRefused, printable
from models.gguf import read_token_types, read_tokens
from models.gguf_header import GgufHeader
from models.store_types import RecognisedBy
from models.types import Catalogue, Licence, ModelShape, Variant

# fmt: off
PRE_TOKENIZERS = frozenset((
    "a.x-4.0", "afmoe", "bailingmoe", "bailingmoe2", "bloom", "chameleon", "chatglm-bpe", "codeshell", "cohere2moe",
    "command-r", "dbrx", "deepseek-coder", "deepseek-llm", "deepseek-r1-qwen", "deepseek-v3", "default", "exaone",
    "exaone-moe", "exaone4", "f2llmv2", "falcon", "falcon-h1", "falcon3", "gemma4", "gigachat", "glm4", "glm5",
    "gpt-2", "gpt-4o", "gpt3-finnish", "granite-docling", "granite-embed-multi-311m", "granite-embed-multi-97m",
    "grok-2", "hunyuan", "hunyuan-dense", "hy_v4", "jais", "jais-2", "jina-de", "jina-es", "jina-v1-en",
    "jina-v2-code", "jina-v2-de", "jina-v2-es", "jina-v5-nano", "joyai-llm", "kanana2", "kimi-k2", "kormo",
    "laguna", "lfm2", "llada-moe", "llama-bpe", "llama-v3", "llama3", "llama4", "megrez", "mellum", "mellum2",
    "midm-2.0", "minerva-7b", "minicpm5", "minimax-m2", "modern-bert", "mpt", "olmo", "phi-2", "pixtral",
    "poro-chat", "qwen2", "qwen35", "refact", "roberta-bpe", "sarvam-moe", "seed-coder", "smaug-bpe", "smollm",
    "solar-open", "spark2_5", "stablelm2", "starcoder", "superbpe", "talkie", "tekken", "tiny_aya", "trillion",
    "ufakzeka", "viking", "whitespace", "youtu",
))
# fmt: on
"""Values of ``tokenizer.ggml.pre`` that llama.cpp 0c1e57098 (src/llama-vocab.cpp) compares with; it refuses to load
others. Review this list when that pin moves."""

NO_PRE_TOKENIZER = (
    "The file names no pre-tokenizer (tokenizer.ggml.pre): it was made with an old converter, and texts may be cut "
    "into other tokens than the model was trained with. Get a newer file."
)
NO_TEMPLATE = "The model brings no chat template: it completes text, but cannot chat."

_MARKED_TOKEN_TYPES = (3, 4)
_R1_NAME = re.compile(r"(?<![a-z0-9])r1(?![a-z0-9])", re.IGNORECASE)
_R1_TURN = "<｜Assistant｜>"
_SAME_PARAMETERS = 0.005
"""Converters drop or add small tensors (rope factors, the MTP layer is larger and not counted in the catalogue)."""


@dataclass(frozen=True, slots=True)
class ChatTemplateFacts:
    """A model's chat template with the tokens it is rendered with; ``name`` is the model's."""

    source: str
    control_tokens: frozenset[str]
    bos_token: str | None
    eos_token: str | None
    name: str


class TemplateFindings(Protocol):
    """What a check of a chat template found: why it cannot be used, or what in it is not as R1 wants it."""

    @property
    def refusal(self) -> str | None: ...

    @property
    def warnings(self) -> tuple[str, ...]: ...


TemplateCheck = Callable[[ChatTemplateFacts], TemplateFindings]
"""Renders a template through golden conversations. The appliance brings it: it owns the sandbox."""


@dataclass(frozen=True, slots=True)
class Recognition:
    """A catalogue variant, and what it was recognised by."""

    variant: Variant
    by: RecognisedBy


def tokenizer_warnings(header: GgufHeader) -> list[str]:
    """What is doubtful about a GGUF's tokenizer. Raises ``CorruptHeader`` for entries of another type."""
    if header.text("tokenizer.ggml.model") != "gpt2":
        return []
    name = header.text("tokenizer.ggml.pre")
    if name is None:
        return [NO_PRE_TOKENIZER]
    if name not in PRE_TOKENIZERS:
        return [f"This llama.cpp does not know the pre-tokenizer '{printable(name)[:60]}' and may not load the model."]
    return []


def gguf_template(header: GgufHeader, name: str) -> ChatTemplateFacts | None:
    """The default chat template of a GGUF with its tokens, ``None`` when it has none. Reads the token list."""
    template = header.chat_template
    if template is None:
        return None
    marked = zip(read_tokens(header), read_token_types(header), strict=False)
    control = frozenset(token for token, kind in marked if kind in _MARKED_TOKEN_TYPES and token)
    return ChatTemplateFacts(template, control, header.token_text("bos"), header.token_text("eos"), name)


def template_warnings(path: Path, facts: ChatTemplateFacts | None, check: TemplateCheck) -> list[str]:
    """What is doubtful about the chat template. Raises ``TemplateRefused`` when it cannot be rendered, or not
    safely."""
    if facts is None:
        return [NO_TEMPLATE]
    findings = check(facts)
    if findings.refusal is not None:
        raise TemplateRefused(path, findings.refusal)
    return list(findings.warnings)


def recognise(
    catalogue: Catalogue,
    hashes: Collection[str],
    *,
    architecture: str,
    shape: ModelShape,
    parameters: int | None,
    names: Collection[str],
    template: str | None,
) -> Recognition | None:
    """The variant that a model is: by the sha256 of one of its files, else by architecture, shape and size, provided
    that it calls itself an R1 or writes turns as R1 does (a Llama 3.1 8B has R1-Distill-Llama-8B's shape).

    ``parameters`` is ``None`` where the stored numbers are packed and do not tell. ``names`` are those of the file, the
    folder, the model.
    """
    for variant in catalogue.variants:
        if any(f.sha256 in hashes for f in variant.files):
            return Recognition(variant, RecognisedBy.SHA256)
    text = template or ""
    writes_as_r1 = _R1_TURN in text and "</think>" in text and "thinking" not in text  # V3.1 can be told to think
    if not writes_as_r1 and not any(_R1_NAME.search(name) for name in names):
        return None
    found = [v for v in catalogue.variants if _same_model(v, architecture, shape, parameters)]
    newer = any("0528" in name for name in names)
    for variant in found:
        if ("0528" in variant.id) == newer or len(found) == 1:
            return Recognition(variant, RecognisedBy.SHAPE)
    return None


def licence_of(recognition: Recognition | None, declared: str | None) -> Licence | None:
    """The catalogue's licence, else what the model itself says."""
    if recognition is not None:
        return recognition.variant.licence
    return Licence(name=printable(declared)[:80]) if declared else None


def _same_model(variant: Variant, architecture: str, shape: ModelShape, parameters: int | None) -> bool:
    known = variant.shape
    if variant.architecture != architecture:
        return False
    if parameters is not None and abs(parameters - variant.parameters) > _SAME_PARAMETERS * variant.parameters:
        return False
    return (known.layers, known.embedding_length, known.heads, known.vocab_size) == (
        shape.layers,
        shape.embedding_length,
        shape.heads,
        shape.vocab_size,
    )
