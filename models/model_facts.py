"""What a model is, read from its own files: the same for an import, a download and a bundle."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from models.errors import printable
from models.gguf_header import GgufHeader
from models.import_checks import (
    NO_TEMPLATE,
    ChatTemplateFacts,
    Recognition,
    TemplateCheck,
    gguf_template,
    licence_of,
    recognise,
    template_warnings,
    tokenizer_warnings,
)
from models.import_safetensors import HubModel
from models.store_manifest import FileEntry, Manifest, licence_entry, make_id
from models.store_types import ModelFormat, Provenance
from models.types import Catalogue, ModelShape

_MAX_NAME_LENGTH = 120
_PACKED = frozenset({"AWQ", "GPTQ", "W4A16", "COMPRESSED"})
"""Forms in which several weights share a stored number, so that counting numbers does not count parameters."""


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """A checked model. ``title`` is the name people know, ``names`` are all by which the catalogue may know it;
    ``counted`` are its stored numbers, which are its parameters unless it ``is_packed``. ``licence`` is what the file
    says of itself."""

    format: ModelFormat
    title: str
    names: tuple[str, ...]
    architecture: str
    quantization: str
    counted: int
    is_packed: bool
    shape: ModelShape
    template: str | None
    licence: str | None
    warnings: tuple[str, ...]

    def recognised(self, catalogue: Catalogue, hashes: Collection[str]) -> Recognition | None:
        """The catalogue's entry for it; ``hashes`` are the sha256 of its files."""
        return recognise(
            catalogue,
            hashes,
            architecture=self.architecture,
            shape=self.shape,
            parameters=None if self.is_packed else self.counted,
            names=self.names,
            template=self.template,
        )

    def parameters(self, recognition: Recognition | None) -> int:
        """How many weights it has, as far as that is known."""
        return recognition.variant.parameters if recognition and self.is_packed else self.counted


def gguf_facts(
    header: GgufHeader, path: Path, title: str, other_names: tuple[str, ...], check_template: TemplateCheck | None
) -> ModelFacts:
    """Of a GGUF (all parts of a split one) whose usability was checked; ``path`` is named in what is found wrong.
    Raises what the check of the template raises."""
    warnings = tokenizer_warnings(header)
    if header.chat_template is None:
        warnings.append(NO_TEMPLATE)
    elif check_template is not None:
        warnings += template_warnings(path, gguf_template(header, title), check_template)
    licence = header.metadata.get("general.license")
    return ModelFacts(
        format=ModelFormat.GGUF,
        title=title,
        names=(title, header.name, *other_names),
        architecture=header.architecture,
        quantization=header.quantization,
        counted=header.parameters,
        is_packed=False,
        shape=header.shape(),
        template=header.chat_template,
        licence=licence if isinstance(licence, str) else None,
        warnings=tuple(warnings),
    )


def folder_facts(model: HubModel, path: Path, title: str, check_template: TemplateCheck | None) -> ModelFacts:
    """Of a safetensors folder; as ``gguf_facts``."""
    warnings: list[str] = []
    if model.chat_template is None:
        warnings.append(NO_TEMPLATE)
    elif check_template is not None:
        template = ChatTemplateFacts(model.chat_template, model.control_tokens, model.bos_token, model.eos_token, title)
        warnings += template_warnings(path, template, check_template)
    return ModelFacts(
        format=ModelFormat.SAFETENSORS,
        title=title,
        names=(title,),
        architecture=model.architecture,
        quantization=model.quantization,
        counted=model.tensor_elements,
        is_packed=model.quantization in _PACKED,
        shape=model.shape,
        template=model.chat_template,
        licence=None,
        warnings=tuple(warnings),
    )


def manifest_of(
    facts: ModelFacts,
    files: tuple[FileEntry, ...],
    catalogue: Catalogue,
    provenance: Provenance,
    imported_at: datetime,
    *,
    name: str | None = None,
    warnings: tuple[str, ...] = (),
) -> Manifest:
    """What the store keeps of it. ``name`` replaces the title; ``warnings`` come after its own."""
    recognition = facts.recognised(catalogue, {file.sha256 for file in files})
    variant = recognition.variant if recognition else None
    title = shown_name(name) if name else facts.title
    return Manifest(
        id=make_id(title, facts.quantization),
        name=title,
        architecture=facts.architecture,
        quantization=facts.quantization,
        parameters=facts.parameters(recognition),
        context_length_trained=facts.shape.context_length,
        has_chat_template=facts.template is not None,
        imported_at=imported_at.astimezone(UTC).isoformat(timespec="seconds"),
        files=files,
        provenance=provenance,
        format=facts.format,
        variant=variant.id if variant else None,
        recognised_by=recognition.by if recognition else None,
        profile=variant.profile if variant else None,
        licence=licence_entry(licence_of(recognition, facts.licence)),
        warnings=(*facts.warnings, *warnings),
    )


def shown_name(text: str) -> str:
    """A name without control and direction characters, bounded: it is shown on terminals and pages."""
    return printable(text).strip()[:_MAX_NAME_LENGTH]
