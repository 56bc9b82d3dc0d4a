"""Checks a downloaded model in the staging folder as an import checks one on a medium, and writes its manifest."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from models.errors import printable
from models.gguf import read_header
from models.gguf_set import combine
from models.import_checks import (
    NO_TEMPLATE,
    ChatTemplateFacts,
    TemplateCheck,
    gguf_template,
    licence_of,
    recognise,
    template_warnings,
    tokenizer_warnings,
)
from models.import_safetensors import read_folder
from models.import_source import opened
from models.importer import check_usable, display_name
from models.store_manifest import FileEntry, Manifest, licence_entry, make_id
from models.store_staging import Staging
from models.store_types import ModelFormat, Provenance
from models.types import Catalogue, ModelShape

_MAX_NAME_LENGTH = 120
_PACKED = frozenset({"AWQ", "GPTQ", "W4A16", "COMPRESSED"})
"""Forms in which a stored number holds several weights, so that counting numbers does not count parameters."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where the files came from: ``first`` is the path of the first of them in ``repository``; ``variant`` is the one
    that was asked for."""

    hub: str
    repository: str
    revision: str
    first: str
    form: ModelFormat
    variant: str | None = None


@dataclass(frozen=True, slots=True)
class _Facts:
    title: str
    names: tuple[str, ...]
    architecture: str
    quantization: str
    parameters: int
    is_packed: bool
    shape: ModelShape
    template: str | None
    licence: str | None
    warnings: list[str]


def checked_manifest(
    staging: Staging,
    entries: tuple[FileEntry, ...],
    origin: Origin,
    catalogue: Catalogue,
    check_template: TemplateCheck | None,
    name: str | None,
    now: datetime,
) -> Manifest:
    """The manifest of the files ``entries`` that lie in ``staging``. Raises a ``ModelFileError`` for what the box
    cannot use."""
    if origin.form is ModelFormat.GGUF:
        facts = _gguf(staging, entries, origin, check_template)
    else:
        facts = _folder(staging, entries, origin, check_template)
    found = recognise(
        catalogue,
        {entry.sha256 for entry in entries},
        architecture=facts.architecture,
        shape=facts.shape,
        parameters=None if facts.is_packed else facts.parameters,
        names=facts.names,
        template=facts.template,
    )
    variant = found.variant if found else None
    if variant is not None and origin.variant is not None and variant.id != origin.variant:
        facts.warnings.append(f"{origin.variant} was asked for; the model in the file is {variant.id}.")
    title = printable(name).strip()[:_MAX_NAME_LENGTH] if name else facts.title
    return Manifest(
        id=make_id(title, facts.quantization),
        name=title,
        architecture=facts.architecture,
        quantization=facts.quantization,
        parameters=variant.parameters if variant and facts.is_packed else facts.parameters,
        context_length_trained=facts.shape.context_length,
        has_chat_template=facts.template is not None,
        imported_at=now.astimezone(UTC).isoformat(timespec="seconds"),
        files=entries,
        provenance=Provenance(
            "hub",
            printable(origin.first.rpartition("/")[2]),
            hub=origin.hub,
            repository=origin.repository,
            revision=origin.revision,
        ),
        format=origin.form,
        variant=variant.id if variant else None,
        recognised_by=found.by if found else None,
        profile=variant.profile if variant else None,
        licence=licence_entry(licence_of(found, facts.licence)),
        warnings=tuple(facts.warnings),
    )


def _gguf(
    staging: Staging, entries: tuple[FileEntry, ...], origin: Origin, check_template: TemplateCheck | None
) -> _Facts:
    header = combine([read_header(staging.path(entry.name)) for entry in entries])
    check_usable(header)
    path = Path(origin.first)
    title = display_name(replace(header, path=path))
    warnings = tokenizer_warnings(header)
    if header.chat_template is None:
        warnings.append(NO_TEMPLATE)
    elif check_template is not None:
        warnings += template_warnings(path, gguf_template(header, title), check_template)
    licence = header.metadata.get("general.license")
    return _Facts(
        title=title,
        names=(title, header.name, path.stem, origin.repository),
        architecture=header.architecture,
        quantization=header.quantization,
        parameters=header.parameters,
        is_packed=False,
        shape=header.shape(),
        template=header.chat_template,
        licence=licence if isinstance(licence, str) else None,
        warnings=warnings,
    )


def _folder(
    staging: Staging, entries: tuple[FileEntry, ...], origin: Origin, check_template: TemplateCheck | None
) -> _Facts:
    title = printable(origin.repository.rpartition("/")[2])[:_MAX_NAME_LENGTH]
    path = Path(title)
    with opened([(staging.path(entry.name), entry.name) for entry in entries], staging.folder) as files:
        model = read_folder(path, files)
    warnings: list[str] = []
    if model.chat_template is None:
        warnings.append(NO_TEMPLATE)
    elif check_template is not None:
        facts = ChatTemplateFacts(model.chat_template, model.control_tokens, model.bos_token, model.eos_token, title)
        warnings += template_warnings(path, facts, check_template)
    return _Facts(
        title=title,
        names=(title,),
        architecture=model.architecture,
        quantization=model.quantization,
        parameters=model.tensor_elements,
        is_packed=model.quantization in _PACKED,
        shape=model.shape,
        template=model.chat_template,
        licence=None,
        warnings=warnings,
    )
