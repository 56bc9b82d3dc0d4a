"""Loads the catalogue: the data file is checked against its schema and against itself.

A typing error in the data is a ``CatalogueInvalid`` that names the entry; nothing half-read is ever returned.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable
from fractions import Fraction
from importlib import resources
from typing import Any

import msgspec

from models.errors import CatalogueInvalid
from models.types import Catalogue, EngineName, HubForm, ModelShape, QuantizationBytes, Variant

CATALOGUE_SCHEMA = 1
_FILE = "catalogue.toml"
_SHA256 = re.compile(r"[0-9a-f]{64}")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_REPOSITORY = re.compile(r"[A-Za-z0-9_.-]+/[A-Za-z0-9_.-]+")
_POSITIVE = (
    "layers",
    "embedding_length",
    "feed_forward_length",
    "heads",
    "kv_heads",
    "key_length",
    "value_length",
    "vocab_size",
    "context_length",
)
FORM_BITS_PER_WEIGHT: dict[str, Fraction] = {
    "BF16": Fraction(16),
    "FP8": Fraction(8),
    "W8A8": Fraction(8),
    "W8A16": Fraction(8),
    # Groups of 128 weights share a scale of 16 bits and a zero point of 4.
    "AWQ": Fraction(4) + Fraction(16 + 4, 128),
    "GPTQ-Int4": Fraction(4) + Fraction(16 + 4, 128),
    "W4A16": Fraction(4) + Fraction(16 + 4, 128),
}
"""Bits of one weight of the layers in the forms that engines other than llama.cpp read."""
_MOST_OUTSIDE_LAYERS_BYTES = 1024 * 1024
_BITS_PER_WEIGHT = (1.0, 16.2)
"""Between IQ1_S and 16 bits with a few F32 norms."""


def load_catalogue() -> Catalogue:
    """The catalogue that ships with the package. Raises ``CatalogueInvalid``."""
    return parse_catalogue(resources.files("models").joinpath(_FILE).read_text(encoding="utf-8"), _FILE)


def parse_catalogue(text: str, source: str) -> Catalogue:
    """Checks ``text`` (TOML) and returns it as values; ``source`` names it in errors. Raises ``CatalogueInvalid``."""
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise CatalogueInvalid(str(error), source) from error
    _copy_shared_shapes(raw, source)
    try:
        catalogue = msgspec.convert(raw, Catalogue, strict=True)
    except msgspec.ValidationError as error:
        raise CatalogueInvalid(str(error), source) from error
    check_catalogue(catalogue, source)
    return catalogue


def kv_elements_per_token(shape: ModelShape) -> int:
    """Keys and values of one token over all layers; K alone with MLA (llama.cpp's cache for it has no V)."""
    if shape.kv_lora_rank is not None:
        return shape.layers * (shape.kv_lora_rank + (shape.rope_length or 0))
    return shape.layers * shape.kv_heads * (shape.key_length + shape.value_length)


def _copy_shared_shapes(raw: dict[str, Any], source: str) -> None:
    """``same_shape_as = ID``: a second generation takes shape and sizes of the first; its own sizes add to them."""
    variants = raw.get("variants")
    if not isinstance(variants, list) or not all(isinstance(v, dict) for v in variants):
        raise CatalogueInvalid("'variants' must be a list of tables", source)
    by_id = {v.get("id"): v for v in variants}
    for variant in variants:
        other_id = variant.pop("same_shape_as", None)
        if other_id is None:
            continue
        other = by_id.get(other_id)
        if other is None or other is variant or not isinstance(other.get("quantizations"), dict):
            raise CatalogueInvalid(f"{variant.get('id')}: same_shape_as names no usable variant: {other_id!r}", source)
        if "shape" in variant:
            raise CatalogueInvalid(f"{variant.get('id')}: has a shape and same_shape_as", source)
        variant["shape"] = other.get("shape")
        variant["quantizations"] = {**other["quantizations"], **variant.get("quantizations", {})}


def check_catalogue(catalogue: Catalogue, source: str) -> None:
    """Checks the catalogue against itself. Raises ``CatalogueInvalid``."""
    if catalogue.schema != CATALOGUE_SCHEMA:
        raise CatalogueInvalid(f"schema {catalogue.schema}, this software reads {CATALOGUE_SCHEMA}", source)
    names = [q.name for q in catalogue.quantizations]
    _unique(names, "quantization", source)
    _unique([v.id.casefold() for v in catalogue.variants], "variant", source)
    ranks = [v.rank for v in catalogue.variants] + [v.demoted_rank for v in catalogue.variants if v.demoted_rank]
    _unique(ranks, "rank", source)
    for variant in catalogue.variants:
        _check_variant(variant, set(names), source)


def _unique(values: list[Any], what: str, source: str) -> None:
    for value in values:
        if values.count(value) > 1:
            raise CatalogueInvalid(f"{what} {value!r} stands twice", source)


_Wrong = Callable[[str], CatalogueInvalid]


def _check_variant(variant: Variant, known: set[str], source: str) -> None:
    def wrong(problem: str) -> CatalogueInvalid:
        return CatalogueInvalid(f"{variant.id}: {problem}", source)

    _check_shape(variant, wrong)
    if (variant.demoted_below is None) != (variant.demoted_rank is None):
        raise wrong("demoted_below and demoted_rank go together")
    mentioned = {variant.floor, variant.demoted_below, *variant.quantizations, *(f.quantization for f in variant.files)}
    mentioned |= {form.form for form in variant.hub_forms}
    unknown = sorted(str(name) for name in mentioned - {None} - known)
    if unknown:
        raise wrong(f"unknown quantization {', '.join(unknown)}")
    for name, size in variant.quantizations.items():
        _check_size(variant, name, size, wrong)
    for repository in (variant.repository, *variant.gguf_repositories, *(f.repository for f in variant.files)):
        if not _REPOSITORY.fullmatch(repository):
            raise wrong(f"{repository!r} is not OWNER/NAME")
    for form in variant.hub_forms:
        _check_form(form, wrong)
    for file in variant.files:
        if not _SHA256.fullmatch(file.sha256):
            raise wrong(f"{file.path}: not a sha256: {file.sha256!r}")
        if file.revision is not None and not _COMMIT.fullmatch(file.revision):
            raise wrong(f"{file.path}: revision must be a whole commit (40 hexadecimal digits), not {file.revision!r}")


def _check_shape(variant: Variant, wrong: _Wrong) -> None:
    shape = variant.shape
    for name in _POSITIVE:
        if getattr(shape, name) <= 0:
            raise wrong(f"shape.{name} must be positive")
    if variant.parameters <= 0:
        raise wrong("parameters must be positive")
    expected = kv_elements_per_token(shape)
    if variant.kv_elements_per_token != expected:
        raise wrong(f"kv_elements_per_token is {variant.kv_elements_per_token}, the shape gives {expected}")


def _check_form(form: HubForm, wrong: _Wrong) -> None:
    if form.form not in FORM_BITS_PER_WEIGHT:
        raise wrong(f"the form {form.form} has no known size and gate")
    if not form.engines or EngineName.LLAMA_CPP in form.engines:
        raise wrong(f"{form.form}: engines must name at least one, and not llama.cpp")
    for repository in (form.repository, form.modelscope):
        if repository is not None and not _REPOSITORY.fullmatch(repository):
            raise wrong(f"{repository!r} is not OWNER/NAME")


def _check_size(variant: Variant, name: str, size: QuantizationBytes, wrong: _Wrong) -> None:
    bits = size.tensor_bytes * 8 / variant.parameters
    low, high = _BITS_PER_WEIGHT
    if not low <= bits <= high:
        raise wrong(f"{name}: {size.tensor_bytes} bytes are {bits:.2f} bits per weight, outside {low} to {high}")
    rest = size.token_embd_bytes + size.output_bytes
    if min(size.token_embd_bytes, size.output_bytes) < 0 or rest >= size.tensor_bytes:
        raise wrong(f"{name}: embedding and output are not within the tensor bytes")
    if size.layers:
        _check_layers(variant, name, size, size.tensor_bytes - rest, wrong)


def _check_layers(variant: Variant, name: str, size: QuantizationBytes, expected_bytes: int, wrong: _Wrong) -> None:
    """The layers and the few vectors outside them make up all that is neither embedding nor output."""
    if any(count <= 0 or each <= 0 for count, each in size.layers):
        raise wrong(f"{name}: layers must be runs of (how many, bytes of each)")
    if (count := sum(run[0] for run in size.layers)) != variant.shape.layers:
        raise wrong(f"{name}: {count} layers are listed, the shape has {variant.shape.layers}")
    total = sum(count * each for count, each in size.layers)
    if not 0 <= expected_bytes - total <= _MOST_OUTSIDE_LAYERS_BYTES:
        raise wrong(f"{name}: the layers have {total} bytes, {expected_bytes} are left for them")
