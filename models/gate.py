"""The gate: what computes on the card, what only partly, what not at all; always with the reason and its source.

A combination that is not computed on the card is not an error for llama.cpp: it silently hands the operation to the
processor. This module exists so that nobody finds that out from the speed.

Sources: llama.cpp 0c1e57098, ``ggml-cann.cpp`` (``supports_op``) and ``docs/backend/CANN.md``, ``ggml-cuda``; issues of
llama.cpp by number. Nothing here was measured on a card.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum

from drivers.types import Device, Vendor
from models.cards import find_card
from models.types import EngineName, KvType

CANN = "llama.cpp ggml-cann.cpp supports_op, docs/backend/CANN.md"
CUDA = "llama.cpp ggml-cuda"
_GIB = 1024**3
_FIRST_910_MAX_BYTES = 40 * _GIB


class ChipClass(StrEnum):
    """Chips that the rules treat alike."""

    CPU = "cpu"
    NVIDIA = "nvidia"
    ASCEND_310P = "310P"
    ASCEND_910A = "910A"
    ASCEND_910B = "910B"
    ASCEND_910C = "910C"
    ASCEND_OTHER = "other Ascend"
    OTHER = "other vendor"


@dataclass(frozen=True, slots=True)
class Chip:
    """A chip as the rules see it. ``compute_capability`` is NVIDIA's ``(major, minor)``, ``None`` when not known."""

    chip_class: ChipClass
    compute_capability: tuple[int, int] | None = None


class Computes(StrEnum):
    """Where a model's work is done."""

    ON_CARD = "on card"
    PARTLY = "partly"
    NOT = "not on card"


@dataclass(frozen=True, slots=True)
class Verdict:
    """The gate's answer. ``code`` is stable, ``reason`` is a sentence for the operator, ``source`` who says so."""

    computes: Computes
    code: str
    reason: str
    source: str


_ON_CARD = Verdict(Computes.ON_CARD, "on_card", "computed on the card", CUDA)
_ON_CPU = Verdict(Computes.ON_CARD, "on_cpu", "the processor computes every form", "llama.cpp ggml-cpu")

_CANN_TYPES: dict[ChipClass, frozenset[str]] = {
    ChipClass.ASCEND_310P: frozenset({"F32", "F16"}),
    ChipClass.ASCEND_910B: frozenset({"F32", "F16", "BF16", "Q8_0", "Q4_0"}),
    ChipClass.ASCEND_910C: frozenset({"F32", "F16", "BF16", "Q8_0", "Q4_0"}),
}
"""Tensor types that CANN multiplies with, per chip. 910C is as 910B by the code; the document does not mark it
tested."""

_PURE_LABELS = {"Q4_0-pure": "Q4_0"}
_PUBLISHED_MIXTURES = {"Q4_0": {"Q4_0", "Q4_1", "Q6_K"}}
"""Published Q4_0 files are not pure: the output is Q6_K in all of them, and bartowski's have Q4_1 in the first
layers."""
_LOWEST_CUDA = (6, 1)
_BF16_CUDA = (8, 0)


def classify(device: Device) -> Chip:
    """Which rules apply to ``device``."""
    if device.vendor == Vendor.NVIDIA:
        return Chip(ChipClass.NVIDIA, _compute_capability(device))
    if device.vendor != Vendor.ASCEND:
        return Chip(ChipClass.OTHER)
    name = (device.chip or device.name).lower().replace("ascend", "").strip(" -_")
    if name.startswith("310p"):
        return Chip(ChipClass.ASCEND_310P)
    if name.startswith(("910_93", "910c")):
        return Chip(ChipClass.ASCEND_910C)
    if name.startswith("910b"):
        return Chip(ChipClass.ASCEND_910B)
    if name.startswith("910"):
        return Chip(_first_or_third_910(name, device.memory_total_bytes))
    return Chip(ChipClass.ASCEND_OTHER)


def _first_or_third_910(name: str, memory_total_bytes: int | None) -> ChipClass:
    """``npu-smi`` prints a bare 910 for every A3 (64 GB per chip) and for the first generation (32 GB): memory
    decides."""
    if name == "910" and memory_total_bytes is not None and memory_total_bytes > _FIRST_910_MAX_BYTES:
        return ChipClass.ASCEND_910C
    return ChipClass.ASCEND_910A


def _compute_capability(device: Device) -> tuple[int, int] | None:
    text = device.compute_capability
    if text is None:
        card = find_card(device)
        text = card.compute_capability if card else None
    if text is None:
        return None
    major, _, minor = text.partition(".")
    return (int(major), int(minor or 0)) if major.isdigit() and (minor or "0").isdigit() else None


def judge(chip: Chip, engine: EngineName, architecture: str, quantization: str) -> Verdict:
    """Whether ``chip`` computes a published file of this architecture and quantization under ``engine``."""
    if engine is not EngineName.LLAMA_CPP:
        return Verdict(Computes.NOT, "engine_not_planned", f"{engine} is run by the operator, not planned here", "-")
    label = _PURE_LABELS.get(quantization, quantization)
    return judge_types(chip, architecture, _PUBLISHED_MIXTURES.get(quantization, {label}))


def judge_types(chip: Chip, architecture: str, matrix_types: Collection[str]) -> Verdict:
    """As ``judge``, from the tensor types a file really holds (``GgufHeader.matrix_types``).

    Labels such as Q4_K_M may stand for the types they are made of: CANN has none of them.
    """
    if chip.chip_class is ChipClass.CPU:
        return _ON_CPU
    if chip.chip_class is ChipClass.NVIDIA:
        return _judge_cuda(chip, matrix_types)
    if chip.chip_class is ChipClass.OTHER:
        reason = "no engine here is known to compute on cards of this vendor"
        return Verdict(Computes.NOT, "vendor_not_supported", reason, "r1box")
    return _judge_cann(chip.chip_class, architecture, matrix_types)


def _judge_cuda(chip: Chip, matrix_types: Collection[str]) -> Verdict:
    capability = chip.compute_capability
    if capability is None:
        return Verdict(
            Computes.NOT,
            "compute_capability_unknown",
            "the card's compute capability is not known, so nobody can say which kernels it has",
            CUDA,
        )
    said = f"{capability[0]}.{capability[1]}"
    if capability < _LOWEST_CUDA:
        return Verdict(
            Computes.NOT, "compute_capability", f"compute capability {said} is below 6.1, which the kernels need", CUDA
        )
    if "BF16" in matrix_types and capability < _BF16_CUDA:
        return Verdict(
            Computes.PARTLY, "no_bf16", f"compute capability {said} has no BF16 (8.0 has): take the F16 file", CUDA
        )
    return _ON_CARD


def _judge_cann(chip_class: ChipClass, architecture: str, matrix_types: Collection[str]) -> Verdict:
    supported = _CANN_TYPES.get(chip_class)
    if supported is None:
        reason = (
            "CANN's kernels for llama.cpp do not run on the first-generation 910"
            if chip_class is ChipClass.ASCEND_910A
            else "llama.cpp's CANN backend does not know this chip"
        )
        return Verdict(Computes.NOT, "chip_not_supported", reason, "llama.cpp docs/backend/CANN.md, issue 18133")
    if architecture == "deepseek2":
        return Verdict(
            Computes.NOT,
            "architecture_not_on_cann",
            "the 671B architecture (deepseek2) is not computed by CANN under llama.cpp; vLLM-Ascend runs its W8A8 form "
            "on two Atlas 800 A2 or one A3",
            "llama.cpp docs/backend/CANN.md, issue 11966",
        )
    missing = sorted(set(matrix_types) - supported)
    if not missing:
        return Verdict(Computes.ON_CARD, "on_card", "computed on the card", CANN)
    does = "F16 only" if chip_class is ChipClass.ASCEND_310P else "F16, BF16, Q8_0 and pure Q4_0"
    some = bool(set(matrix_types) & (supported - {"F32"}))
    reason = f"{', '.join(missing)} would be computed on the processor: {chip_class} does {does}"
    return Verdict(Computes.PARTLY if some else Computes.NOT, "quantization_not_on_card", reason, CANN)


def flash_attention(chip: Chip, *, legacy_mla: bool = False) -> tuple[bool, ...]:
    """With or without flash attention on ``chip``, the better first: never on 310P, nor for R1 files without the MLA
    split on CUDA. A processor can do both. Without it, it writes twice as fast deep in a context (SmolLM2-135M, two
    cores, eight sequences 900 tokens deep: 56 against 108 ms a step); with it, buffers are smaller."""
    if chip.chip_class is ChipClass.CPU:
        return (False, True)
    if chip.chip_class in (ChipClass.ASCEND_910B, ChipClass.ASCEND_910C):
        return (True,)
    return (chip.chip_class is ChipClass.NVIDIA and not legacy_mla,)


def kv_types(chip: Chip, *, flash_attention_on: bool) -> tuple[KvType, ...]:
    """Forms of the cache that ``chip`` computes, best first. A quantized V needs flash attention; CANN writes F16
    only."""
    if chip.chip_class in (ChipClass.NVIDIA, ChipClass.CPU) and flash_attention_on:
        return (KvType.F16, KvType.Q8_0, KvType.Q4_0)
    return (KvType.F16,)
