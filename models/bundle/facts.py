"""What a model is and what a machine needs for it, read from its own files: for the manifest when a bundle is made, and
against the manifest when one was copied.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from models.bundle.manifest import BundleManifest, BundleModel, Hardware
from models.errors import printable
from models.fit import largest_layer_bytes
from models.gguf import read_header_from
from models.gguf_header import GgufHeader
from models.gguf_set import combine
from models.import_checks import Recognition, TemplateCheck, licence_of
from models.import_safetensors import HubModel, read_folder
from models.import_source import SourceFile, opened
from models.importer import check_usable, display_name
from models.memory import compute_bytes, header_weights, kv_bytes
from models.model_facts import ModelFacts, folder_facts, gguf_facts, shown_name
from models.parallel import load_of
from models.store_types import ModelFormat, RecognisedBy
from models.types import Catalogue, EngineName, KvType, ModelShape

_SMALLEST_CONTEXT_TOKENS = 4096
_SHAPE = ("layers", "embedding_length", "heads", "kv_heads", "vocab_size", "context_length")
_SAFETENSORS_ENGINES = (EngineName.VLLM, EngineName.VLLM_ASCEND, EngineName.MINDIE)


@dataclass(frozen=True, slots=True)
class BundleFacts:
    """A checked model in the manifest's terms. ``title`` is the name people know; ``recognised_by`` how the catalogue
    knew it."""

    title: str
    model: BundleModel
    hardware: Hardware
    has_chat_template: bool
    recognised_by: RecognisedBy | None
    warnings: tuple[str, ...]


def read_facts(
    paths: Sequence[tuple[Path, str]],
    model_format: ModelFormat,
    *,
    named: Path,
    hashes: Collection[str],
    catalogue: Catalogue,
    check_template: TemplateCheck | None = None,
    title: str | None = None,
) -> BundleFacts:
    """Opens ``(path, name in the store)`` of all files of a model and checks them as an import does.

    ``named`` is what the operator gave (its name is a hint); ``hashes`` are the files' sha256; ``title`` replaces the
    name found. Raises a ``ModelFileError``.
    """
    with opened(paths, named) as files:
        if model_format is ModelFormat.GGUF:
            header = combine([read_header_from(f.descriptor, f.path) for f in files])
            check_usable(header)
            facts = gguf_facts(header, named, title or display_name(header), (named.stem,), check_template)
            recognition = facts.recognised(catalogue, hashes)
            hardware = gguf_hardware(header, facts.shape, recognition)
        else:
            name = title or shown_name(named.absolute().name) or "model"
            found = read_folder(named, files)
            facts = folder_facts(found, named, name, check_template)
            recognition = facts.recognised(catalogue, hashes)
            hardware = _folder_hardware(found, files, recognition)
    return BundleFacts(
        title=facts.title,
        model=_model(facts, recognition),
        hardware=hardware,
        has_chat_template=facts.template is not None,
        recognised_by=recognition.by if recognition else None,
        warnings=facts.warnings,
    )


def contradiction(manifest: BundleManifest, facts: BundleFacts) -> str | None:
    """Where the manifest says something else of the model than its files do, ``None`` when nowhere. Compares only what
    lies in the files themselves: labels may be chosen otherwise by another version of this software."""
    said, found = manifest.hardware, facts.hardware
    claims: list[tuple[str, object, object]] = [
        ("architecture", manifest.model.architecture, facts.model.architecture),
        ("bytes of weights", said.weights_bytes, found.weights_bytes),
    ]
    if manifest.model.format is ModelFormat.GGUF:
        claims.append(("parameters", manifest.model.parameters, facts.model.parameters))
        claims.append(("tensor types", ", ".join(said.matrix_types), ", ".join(found.matrix_types)))
        claims += [(name, getattr(said.shape, name), getattr(found.shape, name)) for name in _SHAPE]
    for what, claimed, real in claims:
        if claimed != real:
            return f"its manifest gives {what} {claimed}, the files have {printable(str(real))}"
    return None


def _model(facts: ModelFacts, recognition: Recognition | None) -> BundleModel:
    variant = recognition.variant if recognition else None
    return BundleModel(
        format=facts.format,
        quantization=printable(facts.quantization)[:64] or "unknown",
        architecture=printable(facts.architecture)[:64],
        parameters=facts.parameters(recognition),
        context_length_trained=facts.shape.context_length,
        variant=variant.id if variant else None,
        profile=variant.profile if variant else None,
        licence=licence_of(recognition, facts.licence),
    )


def gguf_hardware(header: GgufHeader, shape: ModelShape, recognition: Recognition | None) -> Hardware:
    """What a machine needs for the GGUF of ``header``."""
    weights = header_weights(header)
    expert_bytes = load_of(recognition.variant, weights.total_bytes).expert_bytes if recognition else 0
    return Hardware(
        minimum_memory_bytes=_minimum(shape, weights.total_bytes),
        weights_bytes=weights.total_bytes,
        repeating_bytes=weights.repeating_bytes,
        largest_layer_bytes=min(largest_layer_bytes(header, shape.layers), weights.repeating_bytes),
        expert_bytes=min(expert_bytes, weights.repeating_bytes),
        embedding_bytes=weights.embedding_bytes,
        output_bytes=weights.output_bytes,
        tied=weights.tied,
        legacy_mla=header.is_legacy_mla,
        matrix_types=tuple(sorted(header.matrix_types)),
        engines=(EngineName.LLAMA_CPP,),
        shape=shape,
    )


def _folder_hardware(found: HubModel, files: Sequence[SourceFile], recognition: Recognition | None) -> Hardware:
    weights = sum(f.size_bytes for f in files if f.name.endswith(".safetensors"))
    variant = recognition.variant if recognition else None
    # config.json says less than the catalogue (MLA, experts), which the planner needs.
    shape = variant.shape if variant else found.shape
    engines = tuple(
        engine
        for engine in _SAFETENSORS_ENGINES
        if variant is None or any(engine in f.engines for f in variant.hub_forms if f.form == found.quantization)
    )
    return Hardware(
        minimum_memory_bytes=_minimum(shape, weights),
        weights_bytes=weights,
        repeating_bytes=weights,
        largest_layer_bytes=-(-weights // shape.layers),
        expert_bytes=load_of(variant, weights).expert_bytes if variant else 0,
        embedding_bytes=0,
        output_bytes=0,
        tied=False,
        legacy_mla=False,
        matrix_types=(),
        engines=engines or _SAFETENSORS_ENGINES,
        shape=shape,
    )


def _minimum(shape: ModelShape, weights_bytes: int) -> int:
    tokens = min(_SMALLEST_CONTEXT_TOKENS, shape.context_length)
    return weights_bytes + kv_bytes(shape, tokens, KvType.F16) + compute_bytes(shape, tokens, flash_attention=True)
