"""Answers "why (not) this one?" about a variant, from a plan of the whole catalogue. Pure."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass

from models.errors import VariantUnknown
from models.types import Catalogue, FitPlan, PlanResult, Rejection, Variant

_WORDS = re.compile(r"[a-z]+|[0-9]+(?:\.[0-9]+)?", re.IGNORECASE)
_WHOLE_R1 = frozenset({"r1", "deepseek-r1", "deepseek", "671b"})
_LARGEST_FAMILY = "R1-671B"


@dataclass(frozen=True, slots=True)
class Explanation:
    """One variant: what fits, best first, and what does not, the nearest first. ``quantization`` when one was asked
    for."""

    variant: Variant
    plans: tuple[FitPlan, ...]
    rejections: tuple[Rejection, ...]
    quantization: str | None = None


def explain(catalogue: Catalogue, result: PlanResult, query: str) -> tuple[Explanation, ...]:
    """What ``result`` says of ``query``: ``VARIANT`` or ``VARIANT:QUANTIZATION``, abbreviations allowed.

    ``R1`` and ``671B`` stand for both generations of the large model. Raises ``VariantUnknown`` with what comes near.
    """
    name, _, quantization = query.partition(":")
    variants = find_variants(catalogue, name)
    wanted = _find_quantization(catalogue, variants, quantization.strip()) if quantization.strip() else None
    return tuple(
        Explanation(
            variant,
            tuple(p for p in result.plans if p.variant == variant.id and wanted in (None, p.quantization)),
            tuple(r for r in result.rejections if r.variant == variant.id and wanted in (None, r.quantization)),
            wanted,
        )
        for variant in variants
    )


def find_variants(catalogue: Catalogue, name: str) -> tuple[Variant, ...]:
    """The variant of this id, or the only one whose id has all words of ``name`` (``qwen 32b``), or the generations of
    one family. Raises ``VariantUnknown``."""
    exact = catalogue.variant(name.strip())
    if exact is not None:
        return (exact,)
    if name.strip().casefold() in _WHOLE_R1:
        return tuple(v for v in catalogue.variants if v.family == _LARGEST_FAMILY)
    wanted = _words(name)
    found = tuple(v for v in catalogue.variants if wanted and all(word in _words(v.id) for word in wanted))
    if found and len({v.family for v in found}) == 1:
        return found
    ids = [v.id for v in catalogue.variants]
    near = [v.id for v in found] or difflib.get_close_matches(name, ids, n=3, cutoff=0.4)
    raise VariantUnknown(name, near or ids)


def _words(text: str) -> list[str]:
    """``R1-Distill-Qwen-1.5B`` -> r, 1, distill, qwen, 1.5, b."""
    return [word.casefold() for word in _WORDS.findall(text)]


def _find_quantization(catalogue: Catalogue, variants: Sequence[Variant], name: str) -> str:
    """The quantization of this name, letter case aside. Raises ``VariantUnknown`` when no such form exists for them."""
    names = [
        quantization.name
        for quantization in catalogue.quantizations
        if any(
            quantization.name in v.quantizations or quantization.name in {f.form for f in v.hub_forms} for v in variants
        )
    ]
    for known in names:
        if known.casefold() == name.casefold():
            return known
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.4)
    raise VariantUnknown(f"{variants[0].id}:{name}", [f"{variants[0].id}:{one}" for one in near or names])
