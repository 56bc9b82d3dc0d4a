"""What computes on which chip (llama.cpp's CANN and CUDA sources)."""

from __future__ import annotations

import pytest

from drivers.types import Device, Vendor
from models.gate import Chip, ChipClass, Computes, classify, flash_attention, judge, judge_types, kv_types
from models.types import EngineName, KvType
from tests.models.machines import ascend, nvidia

ON, PARTLY, NOT = Computes.ON_CARD, Computes.PARTLY, Computes.NOT
LLAMA = EngineName.LLAMA_CPP
GTX_1060 = Chip(ChipClass.NVIDIA, (6, 1))
T4 = Chip(ChipClass.NVIDIA, (7, 5))
HOPPER = Chip(ChipClass.NVIDIA, (9, 0))
P310, B910, C910 = Chip(ChipClass.ASCEND_310P), Chip(ChipClass.ASCEND_910B), Chip(ChipClass.ASCEND_910C)
A910, CPU = Chip(ChipClass.ASCEND_910A), Chip(ChipClass.CPU)


@pytest.mark.parametrize(
    ("chip", "architecture", "quantization", "computes"),
    [
        (P310, "qwen3", "F16", ON),
        (P310, "qwen3", "BF16", NOT),
        (P310, "qwen3", "Q8_0", NOT),
        (P310, "qwen3", "Q4_0-pure", NOT),
        (B910, "qwen2", "F16", ON),
        (B910, "qwen2", "BF16", ON),
        (B910, "qwen2", "Q8_0", ON),
        (B910, "qwen2", "Q4_0-pure", ON),
        (B910, "qwen2", "Q4_0", PARTLY),
        (B910, "qwen2", "Q4_K_M", NOT),
        (B910, "qwen2", "IQ4_XS", NOT),
        (B910, "qwen2", "Q4_1", NOT),
        (B910, "qwen2", "Q5_0", NOT),
        (C910, "llama", "Q8_0", ON),
        (B910, "deepseek2", "Q8_0", NOT),
        (C910, "deepseek2", "F16", NOT),
        (A910, "qwen2", "F16", NOT),
        (Chip(ChipClass.ASCEND_OTHER), "qwen2", "F16", NOT),
        (GTX_1060, "qwen2", "Q4_K_M", ON),
        (GTX_1060, "qwen2", "BF16", PARTLY),
        (T4, "qwen2", "BF16", PARTLY),
        (T4, "qwen2", "F16", ON),
        (T4, "deepseek2", "UD-Q3_K_XL", ON),
        (HOPPER, "llama", "BF16", ON),
        (HOPPER, "qwen2", "IQ1_S", ON),
        (Chip(ChipClass.NVIDIA, (6, 0)), "qwen2", "Q8_0", NOT),
        (Chip(ChipClass.NVIDIA, None), "qwen2", "Q8_0", NOT),
        (CPU, "deepseek2", "IQ1_S", ON),
    ],
)
def test_rules(chip: Chip, architecture: str, quantization: str, computes: Computes) -> None:
    verdict = judge(chip, LLAMA, architecture, quantization)
    assert verdict.computes is computes
    assert verdict.reason
    assert verdict.source


def test_refusals_say_why_and_what_else() -> None:
    k_quant = judge(B910, LLAMA, "qwen2", "Q4_K_M")
    assert k_quant.code == "quantization_not_on_card"
    assert "processor" in k_quant.reason
    assert "Q8_0" in k_quant.reason
    assert judge(P310, LLAMA, "qwen2", "Q8_0").reason.endswith("F16 only")
    assert "vLLM-Ascend" in judge(B910, LLAMA, "deepseek2", "Q8_0").reason
    assert "F16" in judge(T4, LLAMA, "qwen2", "BF16").reason
    assert judge(HOPPER, EngineName.VLLM, "qwen2", "BF16").computes is NOT


def test_files_are_judged_by_what_they_hold() -> None:
    """A file labelled Q4_0 whose every matrix is Q4_0 or Q8_0 runs on a 910B; one Q6_K tensor changes that."""
    assert judge_types(B910, "qwen2", {"Q4_0", "Q8_0"}).computes is ON
    mixed = judge_types(B910, "qwen2", {"Q4_0", "Q6_K"})
    assert mixed.computes is PARTLY
    assert "Q6_K" in mixed.reason
    assert judge_types(P310, "qwen2", {"Q4_K", "Q6_K"}).computes is NOT


@pytest.mark.parametrize(
    ("device", "chip"),
    [
        (ascend("310P3", 21), P310),
        (ascend("Ascend 310P3", 21), P310),
        (ascend("910B3", 62), B910),
        (ascend("Ascend910B4", 30), B910),
        (ascend("910_9392", 60), C910),
        (ascend("Ascend910", 60), C910),
        (ascend("Ascend910", 30), A910),
        (ascend("910A", 30), A910),
        (ascend("910ProB", 30), A910),
        (ascend("310B4", 15), Chip(ChipClass.ASCEND_OTHER)),
        (ascend("Ascend950PR", 100), Chip(ChipClass.ASCEND_OTHER)),
        (nvidia("Tesla T4", 15, "7.5"), T4),
        (nvidia("NVIDIA H20", 96, None), HOPPER),
        (nvidia("NVIDIA Unheard Of", 96, None), Chip(ChipClass.NVIDIA, None)),
        (nvidia("NVIDIA Odd", 96, "n/a"), Chip(ChipClass.NVIDIA, None)),
    ],
    ids=lambda v: v.name if isinstance(v, Device) else "",
)
def test_chips_are_recognised(device: Device, chip: Chip) -> None:
    assert classify(device) == chip


def test_bare_910_without_memory_is_taken_for_the_first_generation() -> None:
    assert classify(Device(Vendor.ASCEND, 0, "Ascend910")) == A910


def test_flash_attention_and_cache_forms() -> None:
    assert flash_attention(P310) == (False,)
    assert flash_attention(B910) == (True,)
    assert flash_attention(T4) == (True,)
    assert flash_attention(T4, legacy_mla=True) == (False,)
    assert flash_attention(Chip(ChipClass.CPU)) == (False, True)
    assert kv_types(P310, flash_attention_on=False) == (KvType.F16,)
    assert kv_types(B910, flash_attention_on=True) == (KvType.F16,)
    assert KvType.Q8_0 in kv_types(T4, flash_attention_on=True)
    assert kv_types(T4, flash_attention_on=False) == (KvType.F16,)


def test_cards_of_another_vendor_are_found_but_not_planned() -> None:
    chip = classify(Device("amd", 0, "AMD Instinct MI300X"))
    assert chip == Chip(ChipClass.OTHER)
    verdict = judge(chip, EngineName.LLAMA_CPP, "qwen2", "Q8_0")
    assert (verdict.computes, verdict.code) == (Computes.NOT, "vendor_not_supported")
