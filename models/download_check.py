"""Checks a downloaded model in the staging folder as an import checks one on a medium, and writes its manifest."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import msgspec

from models.errors import printable
from models.gguf import read_header
from models.gguf_set import combine
from models.import_checks import TemplateCheck
from models.import_safetensors import read_folder
from models.import_source import opened
from models.importer import check_usable, display_name
from models.model_facts import folder_facts, gguf_facts, manifest_of, shown_name
from models.store_manifest import FileEntry, Manifest
from models.store_staging import Staging
from models.store_types import ModelFormat, Provenance
from models.types import Catalogue


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
        header = combine([read_header(staging.path(entry.name)) for entry in entries])
        check_usable(header)
        path = Path(origin.first)
        title = display_name(replace(header, path=path))
        facts = gguf_facts(header, path, title, (path.stem, origin.repository), check_template)
    else:
        title = shown_name(origin.repository.rpartition("/")[2])
        with opened([(staging.path(entry.name), entry.name) for entry in entries], staging.folder) as files:
            facts = folder_facts(read_folder(Path(title), files), Path(title), title, check_template)
    provenance = Provenance(
        "hub",
        printable(origin.first.rpartition("/")[2]),
        hub=origin.hub,
        repository=origin.repository,
        revision=origin.revision,
    )
    manifest = manifest_of(facts, entries, catalogue, provenance, now, name=name)
    if manifest.variant is None or origin.variant in (None, manifest.variant):
        return manifest
    other = f"{origin.variant} was asked for; the model in the file is {manifest.variant}."
    return msgspec.structs.replace(manifest, warnings=(*manifest.warnings, other))
