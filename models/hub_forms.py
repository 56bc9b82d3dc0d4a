"""The forms that vLLM, vLLM-Ascend and MindIE read: how large they are, and which chips compute them.

The gate for these engines, beside ``models.gate`` for llama.cpp. Sources: vLLM documentation 0.32, "Quantization:
supported hardware" and the pages of each form; vLLM-Ascend support matrix and FAQ 1 (310P and the first 910 are not
among the chips for these models); MindIE: what integrators of the Atlas 300I Duo run. Nothing was measured on a card.
"""

from __future__ import annotations

from fractions import Fraction

from models.catalogue import FORM_BITS_PER_WEIGHT
from models.gate import Chip, ChipClass, Computes, Verdict
from models.types import EngineName, HubForm, Variant

VLLM = "vLLM documentation, quantization: supported hardware"
VLLM_ASCEND = "vLLM-Ascend support matrix and FAQ"
MINDIE = "MindIE on Atlas cards: integrators' practice"

_SIXTEEN_BIT = Fraction(16)

_LOWEST_CUDA = (7, 5)
_FP8_CUDA = (8, 9)
_BLACKWELL = (10, 0)
_BF16_CUDA = (8, 0)


def form_bytes(variant: Variant, form: HubForm) -> int:
    """Bytes of the weights: as published, else layers in the form's bits and embedding and output in 16 bits.

    The formula agrees with the published sizes of the distilled models to 1 %. Raises ``KeyError`` for a form whose
    bits are not known.
    """
    if form.weights_bytes is not None:
        return form.weights_bytes
    rest = 2 * variant.shape.vocab_size * variant.shape.embedding_length
    bits = (variant.parameters - rest) * FORM_BITS_PER_WEIGHT[form.form] + rest * _SIXTEEN_BIT
    return -(-bits.numerator // (bits.denominator * 8))


def judge_form(chip: Chip, engine: EngineName, architecture: str, form: str) -> Verdict:
    """Whether ``chip`` computes a model of ``architecture`` in ``form`` under ``engine``."""
    if engine is EngineName.VLLM:
        return _judge_vllm(chip, form)
    if engine is EngineName.VLLM_ASCEND:
        return _judge_vllm_ascend(chip, form)
    if engine is EngineName.MINDIE:
        return _judge_mindie(chip, architecture, form)
    return Verdict(Computes.NOT, "engine_reads_gguf", "llama.cpp reads GGUF files alone", "llama.cpp")


def _judge_vllm(chip: Chip, form: str) -> Verdict:
    if chip.chip_class is not ChipClass.NVIDIA:
        return Verdict(Computes.NOT, "engine_not_for_chip", "vLLM is planned on NVIDIA cards alone", VLLM)
    capability = chip.compute_capability
    if capability is None:
        return Verdict(Computes.NOT, "compute_capability_unknown", "the card's compute capability is not known", VLLM)
    said = f"{capability[0]}.{capability[1]}"
    if capability < _LOWEST_CUDA:
        return Verdict(
            Computes.NOT, "compute_capability", f"compute capability {said} is below 7.5, which vLLM needs", VLLM
        )
    if form == "W8A8" and capability >= _BLACKWELL:
        reason = f"vLLM has no INT8 kernels for compute capability {said}: take the FP8 form"
        return Verdict(Computes.NOT, "no_int8", reason, VLLM)
    if form == "FP8" and capability < _FP8_CUDA:
        reason = (
            f"compute capability {said} has no FP8 (8.9 has): only the weights are FP8, the work is done in 16 bits"
        )
        return Verdict(Computes.ON_CARD, "weights_only", reason, VLLM)
    if form == "BF16" and capability < _BF16_CUDA:
        reason = f"compute capability {said} has no BF16 (8.0 has): vLLM runs it in F16 (--dtype half)"
        return Verdict(Computes.ON_CARD, "as_f16", reason, VLLM)
    return Verdict(Computes.ON_CARD, "on_card", "computed on the card", VLLM)


def _judge_vllm_ascend(chip: Chip, form: str) -> Verdict:
    if chip.chip_class not in (ChipClass.ASCEND_910B, ChipClass.ASCEND_910C):
        reason = f"vLLM-Ascend lists R1 for Atlas A2 and A3 (910B, 910C), not for {chip.chip_class}"
        return Verdict(Computes.NOT, "chip_not_supported", reason, VLLM_ASCEND)
    if form not in ("BF16", "W8A8"):
        reason = f"vLLM-Ascend computes BF16 and its own W8A8 (ModelSlim); {form} is not among them"
        return Verdict(Computes.NOT, "quantization_not_on_card", reason, VLLM_ASCEND)
    return Verdict(Computes.ON_CARD, "on_card", "computed on the card", VLLM_ASCEND)


def _judge_mindie(chip: Chip, architecture: str, form: str) -> Verdict:
    if chip.chip_class is ChipClass.ASCEND_310P:
        if form == "BF16" and architecture != "deepseek2":
            reason = "310P has no BF16: MindIE runs it in F16"
            return Verdict(Computes.ON_CARD, "as_f16", reason, MINDIE)
        return Verdict(Computes.NOT, "quantization_not_on_card", "310P computes F16 under MindIE", MINDIE)
    if chip.chip_class not in (ChipClass.ASCEND_910B, ChipClass.ASCEND_910C):
        return Verdict(
            Computes.NOT, "chip_not_supported", f"nothing is known of MindIE with R1 on {chip.chip_class}", MINDIE
        )
    if form not in ("BF16", "W8A8"):
        return Verdict(
            Computes.NOT, "quantization_not_on_card", f"MindIE computes BF16 and W8A8 here, not {form}", MINDIE
        )
    return Verdict(Computes.ON_CARD, "on_card", "computed on the card", MINDIE)
