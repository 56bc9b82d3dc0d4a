"""A site's own entries beside the catalogue that ships: files ``*.toml`` in one folder, checked like ours.

    schema = 1

    [[additions]]                       # more files or forms of a variant that the catalogue has
    variant = "R1-Distill-Qwen-14B"
    gguf_repositories = ["our-hub/R1-14B-GGUF"]
    files = [{ repository = "our-hub/R1-14B-GGUF", path = "r1-14b-q8_0.gguf", quantization = "Q8_0", sha256 = "..." }]
    hub_forms = [{ form = "W8A8", engines = ["vllm-ascend"], repository = "our-hub/R1-14B-W8A8" }]
    [additions.quantizations]
    Q5_1 = { tensor_bytes = 11135000576, token_embd_bytes = 583925760, output_bytes = 638668800 }

    [[variants]]                        # a whole variant, with the fields of models/catalogue.toml
    id = "R1-Ward-14B"
    ...

A site's file replaces ours of the same repository and path. Files are read in the order of their names; the first
mistake stops everything and names the file, so that nobody plans with half of a catalogue.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import msgspec

from models.catalogue import CATALOGUE_SCHEMA, check_catalogue, load_catalogue
from models.errors import CatalogueInvalid
from models.types import Catalogue, CatalogueFile, HubForm, QuantizationBytes, Variant

MAX_FILES = 64
MAX_FILE_BYTES = 1 << 20


class Addition(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a site adds to one variant of the catalogue."""

    variant: str
    gguf_repositories: tuple[str, ...] = ()
    files: tuple[CatalogueFile, ...] = ()
    hub_forms: tuple[HubForm, ...] = ()
    quantizations: dict[str, QuantizationBytes] = {}


class SiteFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One file of the folder."""

    schema: int
    additions: tuple[Addition, ...] = ()
    variants: tuple[Variant, ...] = ()


def load_site_catalogue(folder: Path | None) -> Catalogue:
    """The catalogue that ships, with the entries of ``folder`` (``None``, or a folder that is not there: none).

    Raises ``CatalogueInvalid`` with the file's name.
    """
    catalogue = load_catalogue()
    if folder is None or not folder.is_dir():
        return catalogue
    paths = sorted(path for path in folder.iterdir() if path.suffix == ".toml")
    if len(paths) > MAX_FILES:
        raise CatalogueInvalid(f"more than {MAX_FILES} files", str(folder))
    for path in paths:
        catalogue = extend(catalogue, _read(path), path.name)
    return catalogue


def site_schema() -> dict[str, Any]:
    """JSON Schema of a site's file, for editors and for those who check before they copy it to the box."""
    return msgspec.json.schema(SiteFile)


def parse_site_file(text: str, source: str) -> SiteFile:
    """Raises ``CatalogueInvalid``."""
    try:
        found = msgspec.convert(tomllib.loads(text), SiteFile, strict=True)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise CatalogueInvalid(str(error), source) from error
    if found.schema != CATALOGUE_SCHEMA:
        raise CatalogueInvalid(f"schema {found.schema}, this software reads {CATALOGUE_SCHEMA}", source)
    return found


def extend(catalogue: Catalogue, site: SiteFile, source: str) -> Catalogue:
    """``catalogue`` with the site's entries, checked as a whole. Raises ``CatalogueInvalid``."""
    variants = {variant.id: variant for variant in catalogue.variants}
    for addition in site.additions:
        known = catalogue.variant(addition.variant)
        if known is None:
            names = ", ".join(variants)
            raise CatalogueInvalid(f"no variant {addition.variant!r} to add to; there are {names}", source)
        variants[known.id] = _with_addition(variants[known.id], addition)
    for variant in site.variants:
        if catalogue.variant(variant.id) is not None:
            raise CatalogueInvalid(f"{variant.id} is in the catalogue already: use [[additions]]", source)
        variants[variant.id] = variant
    extended = msgspec.structs.replace(catalogue, variants=tuple(variants.values()))
    check_catalogue(extended, source)
    return extended


def _with_addition(variant: Variant, addition: Addition) -> Variant:
    theirs = {(file.repository, file.path) for file in addition.files}
    ours = tuple(file for file in variant.files if (file.repository, file.path) not in theirs)
    return msgspec.structs.replace(
        variant,
        gguf_repositories=tuple(dict.fromkeys((*addition.gguf_repositories, *variant.gguf_repositories))),
        files=(*addition.files, *ours),
        hub_forms=(*addition.hub_forms, *variant.hub_forms),
        quantizations={**variant.quantizations, **addition.quantizations},
    )


def _read(path: Path) -> SiteFile:
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_FILE_BYTES + 1)
        if len(raw) > MAX_FILE_BYTES:
            raise CatalogueInvalid(f"larger than {MAX_FILE_BYTES:,} bytes", path.name)
        return parse_site_file(raw.decode("utf-8"), path.name)
    except OSError as error:
        raise CatalogueInvalid(f"it cannot be read: {error.strerror or error}", path.name) from error
    except UnicodeDecodeError as error:
        raise CatalogueInvalid("it is not UTF-8 text", path.name) from error
