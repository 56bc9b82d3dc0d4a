"""The plans of 71 machines, read line by line against the quality rule of the catalogue; the sums of eighteen of
them (the tight ones) were worked out by hand from sizes and buffers.

``(machine, best plan of llama.cpp, best plan of all engines where it is another one)``; a plan reads ``VARIANT
QUANTIZATION xDEVICES SEATSxCONTEXT [cache]``, x0 is the processor.
"""

from __future__ import annotations

import pytest

from models.catalogue import load_catalogue
from models.planner import plan
from models.types import EngineName, FitPlan, KvType
from tests.models.golden_machines import LINES, build

CATALOGUE = load_catalogue()

# fmt: off
GOLDEN: tuple[tuple[str, str, str | None], ...] = (
    ("/ host 4", "R1-Distill-Qwen-1.5B Q8_0 x0 4x8192", None),
    ("/ host 8", "R1-Distill-Qwen-7B Q4_K_M x0 4x8192", None),
    ("/ host 16", "R1-0528-Qwen3-8B Q8_0 x0 4x8192", None),
    ("/ host 32", "R1-0528-Qwen3-8B Q8_0 x0 4x16384", None),
    ("/ host 64", "R1-0528-Qwen3-8B Q8_0 x0 8x32768", None),
    ("/ host 128", "R1-0528-Qwen3-8B Q8_0 x0 16x32768", None),
    ("/ host 256", "R1-0528-Qwen3-8B Q8_0 x0 16x32768", None),
    ("/ host 1024", "R1-0528-Qwen3-8B Q8_0 x0 16x32768", None),
    ("1 T4 15 / host 32", "R1-0528-Qwen3-8B Q8_0 x1 4x8192", None),
    ("2 T4 15 / host 64", "R1-Distill-Qwen-32B Q5_K_S x2 4x8192 q8_0", None),
    ("4 T4 15 / host 128", "R1-Distill-Qwen-32B Q8_0 x4 4x16384", None),
    ("1 A2 15 / host 32", "R1-0528-Qwen3-8B Q8_0 x1 4x8192", None),
    ("1 P4 7.6 / host 32", "R1-0528-Qwen3-8B IQ4_XS x1 4x8192 q8_0", None),
    ("1 K80 11 / host 64", "none: compute_capability", None),
    ("1 V100 32 / host 128", "R1-Distill-Qwen-32B Q6_K x1 4x8192 q8_0", None),
    ("1 L4 22.5 / host 64", "R1-Distill-Qwen-32B IQ4_XS x1 4x8192 q8_0", None),
    ("2 L4 22.5 / host 128", "R1-Distill-Qwen-32B Q8_0 x2 4x8192", None),
    ("4 L4 22.5 / host 256", "R1-Distill-Llama-70B Q5_K_M x4 4x16384", None),
    ("8 L4 22.5 / host 512", "R1-Distill-Llama-70B Q5_K_M x7 8x32768", "R1-Distill-Llama-70B FP8 vllm x8 8x16384"),
    ("1 A10 22.5 / host 64", "R1-Distill-Qwen-32B IQ4_XS x1 4x8192 q8_0", None),
    ("2 A10 22.5 / host 128", "R1-Distill-Qwen-32B Q8_0 x2 4x8192", None),
    ("1 3090 24 / host 64", "R1-Distill-Qwen-32B Q4_K_S x1 4x8192 q8_0", None),
    ("2 3090 24 / host 128", "R1-Distill-Qwen-32B Q8_0 x2 4x8192", None),
    ("1 4090 24 / host 64", "R1-Distill-Qwen-32B Q4_K_S x1 4x8192 q8_0", None),
    ("2 4090 24 / host 128", "R1-Distill-Qwen-32B Q8_0 x2 4x8192", None),
    ("4 4090D 24 / host 256", "R1-Distill-Llama-70B Q8_0 x4 4x8192", None),
    ("8 4090 24 / host 512", "R1-Distill-Llama-70B Q8_0 x8 8x32768", None),
    ("1 5090 31.8 / host 64", "R1-Distill-Qwen-32B Q6_K x1 4x8192 q8_0", None),
    ("2 5090 31.8 / host 128", "R1-Distill-Llama-70B Q5_K_M x2 4x8192", None),
    ("1 L20 44.5 / host 128", "R1-Distill-Qwen-32B Q8_0 x1 4x8192", None),
    ("2 L20 44.5 / host 256", "R1-Distill-Llama-70B Q8_0 x2 4x8192", None),
    ("4 L20 44.5 / host 512", "R1-Distill-Llama-70B Q8_0 x4 8x32768", None),
    ("8 L20 44.5 / host 1024", "R1-0528-671B UD-Q3_K_XL x8 8x32768", None),
    ("1 L40S 44.5 / host 128", "R1-Distill-Qwen-32B Q8_0 x1 4x8192", None),
    ("8 L40S 44.5 / host 1024", "R1-0528-671B UD-Q3_K_XL x8 8x32768", None),
    ("1 PRO6000 95.6 / host 256", "R1-Distill-Llama-70B Q8_0 x1 4x16384", None),
    ("2 PRO6000 95.6 / host 256", "R1-Distill-Llama-70B Q8_0 x2 8x32768", None),
    ("8 PRO6000 95.6 / host 1024", "R1-0528-671B Q8_0 x8 4x16384", None),
    ("1 A100-40 40 / host 256", "R1-Distill-Qwen-32B Q8_0 x1 4x8192 q8_0", None),
    ("1 A100-80 80 / host 256", "R1-Distill-Llama-70B Q8_0 x1 4x8192 q8_0", None),
    ("8 A100-80 80 / host 1024", "R1-0528-671B Q6_K x8 8x32768", None),
    ("8 A800 80 / host 2048", "R1-0528-671B Q6_K x8 8x32768", None),
    ("1 H100 80 / host 512", "R1-Distill-Llama-70B Q8_0 x1 4x8192 q8_0", None),
    ("8 H100 80 / host 2048", "R1-0528-671B Q6_K x8 8x32768", None),
    ("8 H800 80 / host 2048", "R1-0528-671B Q6_K x8 8x32768", None),
    ("1 H20 95.6 / host 512", "R1-Distill-Llama-70B Q8_0 x1 4x16384", None),
    ("4 H20 95.6 / host 1024", "R1-0528-671B IQ4_XS x4 4x8192", None),
    ("8 H20 95.6 / host 2048", "R1-0528-671B Q8_0 x8 4x16384", None),
    ("8 H20 141 / host 2048", "R1-0528-671B Q8_0 x6 16x32768", None),
    ("4 H200 140 / host 1024", "R1-0528-671B UD-Q5_K_XL x4 16x32768", None),
    ("8 H200 140 / host 2048", "R1-0528-671B Q8_0 x6 16x32768", None),
    ("1 GB10 119.7 / host 119.7", "R1-Distill-Qwen-32B Q8_0 x1 8x16384", None),
    ("1 4090 24 + 1 3090 24 / host 128", "R1-Distill-Qwen-32B Q8_0 x2 4x8192", None),
    ("1 A100-80 80 + 1 T4 15 / host 256", "R1-Distill-Llama-70B Q8_0 x1 4x8192 q8_0", None),
    ("1 L20 44.5 + 1 310P3 21.5 / host 256", "R1-Distill-Qwen-32B Q8_0 x1 4x8192", None),
    ("1 310P3 21.5 / host 64", "R1-Distill-Qwen-7B F16 x1 4x16384", "R1-Distill-Qwen-7B BF16 mindie x1 4x8192"),
    ("2 310P3 21.5 / host 64", "R1-0528-Qwen3-8B F16 x2 8x16384", "R1-0528-Qwen3-8B BF16 mindie x2 8x16384"),
    ("2 310P3 44 / host 128", "R1-0528-Qwen3-8B F16 x2 8x32768", "R1-0528-Qwen3-8B BF16 mindie x2 8x32768"),
    ("4 310P3 44 / host 256", "R1-0528-Qwen3-8B F16 x3 16x32768", "R1-Distill-Qwen-32B BF16 mindie x4 8x32768"),
    ("8 310P3 44 / host 512", "R1-0528-Qwen3-8B F16 x3 16x32768", "R1-Distill-Llama-70B BF16 mindie x8 16x32768"),
    ("1 910B4 32 / host 256", "R1-Distill-Qwen-32B Q4_0-pure x1 4x8192", None),
    ("4 910B4 32 / host 512", "R1-Distill-Llama-70B Q8_0 x4 4x16384", None),
    ("8 910B4 32 / host 1024", "R1-Distill-Llama-70B Q8_0 x6 8x32768", None),
    ("1 910B3 64 / host 256", "R1-Distill-Qwen-32B Q8_0 x1 4x16384", None),
    ("2 910B3 64 / host 512", "R1-Distill-Llama-70B Q8_0 x2 8x16384", None),
    ("8 910B3 64 / host 1024", "R1-Distill-Llama-70B Q8_0 x5 16x32768", None),
    ("8 910B1 64 / host 2048", "R1-Distill-Llama-70B Q8_0 x5 16x32768", None),
    ("2 910C 64 / host 512", "R1-Distill-Llama-70B Q8_0 x2 8x16384", None),
    ("16 910C 64 / host 2048", "R1-Distill-Llama-70B Q8_0 x5 16x32768", "R1-0528-671B W8A8 vllm-ascend x16 16x32768"),
    ("8 910A 32 / host 768", "none: chip_not_supported", None),
    ("1 950PR 112 / host 512", "none: chip_not_supported", None),
)
# fmt: on


def written(found: FitPlan) -> str:
    cache = "" if found.kv_type is KvType.F16 else f" {found.kv_type}"
    engine = "" if found.engine is EngineName.LLAMA_CPP else f" {found.engine}"
    reduced = " reduced" if found.reduced else ""
    seats = f"{found.seats}x{found.context_tokens}"
    return f"{found.variant} {found.quantization}{engine} x{len(found.devices)} {seats}{cache}{reduced}"


def test_every_machine_has_its_line() -> None:
    assert [line for line, _, _ in GOLDEN] == list(LINES)


@pytest.mark.parametrize(("line", "llama_cpp", "all_engines"), GOLDEN)
def test_golden_plan(line: str, llama_cpp: str, all_engines: str | None) -> None:
    snapshot = build(line)
    result = plan(CATALOGUE, snapshot)
    best = written(result.plans[0]) if result.plans else f"none: {result.rejections[0].code}"
    assert best == llama_cpp
    with_all = plan(CATALOGUE, snapshot, engines=tuple(EngineName))
    best_of_all = written(with_all.plans[0]) if with_all.plans else best
    assert best_of_all == (all_engines or llama_cpp)


@pytest.mark.parametrize("line", LINES)
def test_no_plan_of_any_engine_exceeds_a_device(line: str) -> None:
    snapshot = build(line)
    free = {device.key: device.memory_free_bytes for device in snapshot.devices}
    for found in plan(CATALOGUE, snapshot, engines=tuple(EngineName)).plans:
        assert len(set(found.devices)) == len(found.devices)
        for memory in found.memory:
            assert memory.total_bytes <= memory.available_bytes <= (free.get(memory.device) or 1 << 60)
            assert memory.reserve_bytes > 0
        if found.engine is not EngineName.LLAMA_CPP:
            assert len(found.devices) == found.tensor_parallel * found.data_parallel
