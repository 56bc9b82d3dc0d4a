"""The plans of 71 machines, each with why nothing better was chosen.

Every line was worked out a second time by ``golden_review``, which knows nothing of the planner: the best plan, what
each better candidate lacks, and that the very blocks of the plan lie within each card. The two calculations agree on
all lines; the lines, with the figures beside them, were then read one by one against the catalogue's rule.

``(machine, best plan of llama.cpp, best plan of all engines where it is another, why nothing better)``; a plan reads
``VARIANT QUANTIZATION xDEVICES SEATSxCONTEXT [cache]``, x0 is the processor. The reasons name, of all better
candidates, the one that lacks the least memory (its need of what is there), the best that would be too slow, the best
that the cards do not compute.
"""

from __future__ import annotations

import pytest

from models.catalogue import load_catalogue
from models.planner import plan
from models.types import EngineName, FitPlan, KvType, PlanResult
from tests.models import golden_review as review
from tests.models.golden_machines import LINES, build
from tests.models.golden_review_hubs import best_of_hubs

CATALOGUE = load_catalogue()
OTHERS = tuple(engine for engine in EngineName if engine is not EngineName.LLAMA_CPP)

# fmt: off
GOLDEN: tuple[tuple[str, str, str | None, tuple[str, ...]], ...] = (
    ("/ host 4", "R1-Distill-Qwen-1.5B Q8_0 x0 4x8192", None,
     ("R1-Distill-Qwen-7B IQ4_XS lacks 6.25 of 3.60 GiB",)),
    ("/ host 8", "R1-Distill-Qwen-7B Q4_K_M x0 4x8192", None,
     ("R1-Distill-Qwen-7B Q5_K_S lacks 7.67 of 7.20 GiB",)),
    ("/ host 16", "R1-0528-Qwen3-8B Q8_0 x0 4x8192", None,
     ("R1-Distill-Qwen-32B IQ3_M lacks 23.63 of 14.40 GiB",)),
    ("/ host 32", "R1-0528-Qwen3-8B Q8_0 x0 4x16384", None,
     ("R1-Distill-Qwen-32B IQ4_NL lacks 28.83 of 28.80 GiB", "R1-Distill-Qwen-32B IQ4_XS slow",)),
    ("/ host 64", "R1-0528-Qwen3-8B Q8_0 x0 8x32768", None,
     ("R1-Distill-Llama-70B Q4_1 lacks 57.93 of 57.60 GiB", "R1-Distill-Qwen-32B Q8_0 slow",)),
    ("/ host 128", "R1-0528-Qwen3-8B Q8_0 x0 16x32768", None,
     ("R1-Distill-Llama-70B BF16 lacks 154.49 of 115.20 GiB", "R1-Distill-Llama-70B Q8_0 slow",)),
    ("/ host 256", "R1-0528-Qwen3-8B Q8_0 x0 16x32768", None,
     ("R1-0528-671B UD-IQ2_M lacks 233.99 of 230.40 GiB", "R1-Distill-Llama-70B Q8_0 slow",)),
    ("/ host 1024", "R1-0528-Qwen3-8B Q8_0 x0 16x32768", None,
     ("R1-0528-671B BF16 lacks 1268.67 of 921.60 GiB", "R1-0528-671B Q8_0 slow",)),
    ("1 T4 15 / host 32", "R1-0528-Qwen3-8B Q8_0 x1 4x8192", None,
     ("R1-Distill-Qwen-32B IQ3_M x1 lacks 18.94 of 14.70 GiB", "R1-0528-671B BF16 not on the card",)),
    ("2 T4 15 / host 64", "R1-Distill-Qwen-32B Q5_K_M x2 4x8192 q8_0", None,
     ("R1-Distill-Qwen-32B Q6_K x2 lacks 31.46 of 29.40 GiB", "R1-0528-671B BF16 not on the card",)),
    ("4 T4 15 / host 128", "R1-Distill-Llama-70B Q5_K_M x4 4x8192 q8_0", None,
     ("R1-Distill-Llama-70B Q6_K x4 lacks 64.23 of 58.80 GiB", "R1-0528-671B BF16 not on the card",)),
    ("1 A2 15 / host 32", "R1-0528-Qwen3-8B Q8_0 x1 4x8192", None,
     ("R1-Distill-Qwen-32B IQ3_M x1 lacks 18.94 of 14.70 GiB",)),
    ("1 P4 7.6 / host 32", "R1-0528-Qwen3-8B IQ4_XS x1 4x8192 q8_0", None,
     ("R1-0528-Qwen3-8B IQ4_NL x1 lacks 7.64 of 7.45 GiB", "R1-0528-671B BF16 not on the card",)),
    ("1 K80 11 / host 64", "none: compute_capability", None,
     ("R1-0528-671B Q8_0 not on the card",)),
    ("1 V100 32 / host 128", "R1-Distill-Qwen-32B Q6_K x1 4x8192 q8_0", None,
     ("R1-Distill-Qwen-32B Q8_0 x1 lacks 37.12 of 31.36 GiB", "R1-0528-671B BF16 not on the card",)),
    ("1 L4 22.5 / host 64", "R1-Distill-Qwen-32B IQ4_XS x1 4x8192 q8_0", None,
     ("R1-Distill-Qwen-32B IQ4_NL x1 lacks 22.45 of 22.05 GiB",)),
    ("2 L4 22.5 / host 128", "R1-Distill-Qwen-32B Q8_0 x2 4x8192", None,
     ("R1-Distill-Llama-70B Q5_K_M x2 lacks 54.06 of 44.10 GiB",)),
    ("4 L4 22.5 / host 256", "R1-Distill-Llama-70B Q5_K_M x4 4x16384", None,
     ("R1-Distill-Llama-70B BF16 x4 lacks 140.58 of 88.20 GiB", "R1-Distill-Llama-70B Q8_0 slow",)),
    ("8 L4 22.5 / host 512", "R1-Distill-Llama-70B Q5_K_M x7 8x32768", "R1-Distill-Llama-70B FP8 vllm x8 8x16384",
     ("R1-0528-671B UD-IQ2_M x8 lacks 229.45 of 176.40 GiB", "R1-Distill-Llama-70B Q8_0 slow",)),
    ("1 A10 22.5 / host 64", "R1-Distill-Qwen-32B IQ4_XS x1 4x8192 q8_0", None,
     ("R1-Distill-Qwen-32B IQ4_NL x1 lacks 22.45 of 22.05 GiB",)),
    ("2 A10 22.5 / host 128", "R1-Distill-Qwen-32B Q8_0 x2 4x8192", None,
     ("R1-Distill-Llama-70B Q5_K_M x2 lacks 54.06 of 44.10 GiB",)),
    ("1 3090 24 / host 64", "R1-Distill-Qwen-32B Q4_K_S x1 4x8192 q8_0", None,
     ("R1-Distill-Qwen-32B Q4_K_M x1 lacks 23.54 of 23.52 GiB",)),
    ("2 3090 24 / host 128", "R1-Distill-Qwen-32B Q8_0 x2 4x8192", None,
     ("R1-Distill-Llama-70B Q5_K_M x2 lacks 54.06 of 47.04 GiB",)),
    ("1 4090 24 / host 64", "R1-Distill-Qwen-32B Q4_K_S x1 4x8192 q8_0", None,
     ("R1-Distill-Qwen-32B Q4_K_M x1 lacks 23.54 of 23.52 GiB",)),
    ("2 4090 24 / host 128", "R1-Distill-Qwen-32B Q8_0 x2 4x8192", None,
     ("R1-Distill-Llama-70B Q5_K_M x2 lacks 54.06 of 47.04 GiB",)),
    ("4 4090D 24 / host 256", "R1-Distill-Llama-70B Q8_0 x4 4x8192", None,
     ("R1-0528-671B UD-IQ2_M x4 lacks 223.00 of 94.08 GiB",)),
    ("8 4090 24 / host 512", "R1-Distill-Llama-70B Q8_0 x8 8x32768", None,
     ("R1-0528-671B UD-IQ2_M x8 lacks 229.45 of 188.16 GiB",)),
    ("1 5090 31.8 / host 64", "R1-Distill-Qwen-32B Q6_K x1 4x8192 q8_0", None,
     ("R1-Distill-Qwen-32B Q8_0 x1 lacks 37.12 of 31.16 GiB",)),
    ("2 5090 31.8 / host 128", "R1-Distill-Llama-70B Q6_K x2 4x8192 q8_0", None,
     ("R1-Distill-Llama-70B Q8_0 x2 lacks 77.00 of 62.33 GiB",)),
    ("1 L20 44.5 / host 128", "R1-Distill-Qwen-32B Q8_0 x1 4x8192", None,
     ("R1-Distill-Llama-70B Q5_K_M x1 lacks 52.38 of 43.61 GiB",)),
    ("2 L20 44.5 / host 256", "R1-Distill-Llama-70B Q8_0 x2 4x8192", None,
     ("R1-0528-671B UD-IQ2_M x2 lacks 219.77 of 87.22 GiB",)),
    ("4 L20 44.5 / host 512", "R1-Distill-Llama-70B Q8_0 x4 8x32768", None,
     ("R1-0528-671B UD-IQ2_M x4 lacks 223.00 of 174.44 GiB",)),
    ("8 L20 44.5 / host 1024", "R1-0528-671B Q3_K_M x8 4x16384", None,
     ("R1-0528-671B UD-Q3_K_XL x8 whole layers: 292.47 of 348.88 GiB",)),
    ("1 L40S 44.5 / host 128", "R1-Distill-Qwen-32B Q8_0 x1 4x8192", None,
     ("R1-Distill-Llama-70B Q5_K_M x1 lacks 52.38 of 43.61 GiB",)),
    ("8 L40S 44.5 / host 1024", "R1-0528-671B Q3_K_M x8 4x16384", None,
     ("R1-0528-671B UD-Q3_K_XL x8 whole layers: 292.47 of 348.88 GiB",)),
    ("1 PRO6000 95.6 / host 256", "R1-Distill-Llama-70B Q8_0 x1 4x16384", None,
     ("R1-0528-671B UD-IQ2_M x1 lacks 217.95 of 93.69 GiB",)),
    ("2 PRO6000 95.6 / host 256", "R1-Distill-Llama-70B Q8_0 x2 8x32768", None,
     ("R1-0528-671B UD-IQ2_M x2 lacks 219.77 of 187.38 GiB",)),
    ("8 PRO6000 95.6 / host 1024", "R1-0528-671B Q8_0 x8 4x16384", None,
     ()),
    ("1 A100-40 40 / host 256", "R1-Distill-Qwen-32B Q8_0 x1 4x8192 q8_0", None,
     ("R1-Distill-Llama-70B Q5_K_M x1 lacks 52.38 of 39.20 GiB",)),
    ("1 A100-80 80 / host 256", "R1-Distill-Llama-70B Q8_0 x1 4x8192 q8_0", None,
     ("R1-0528-671B UD-IQ2_M x1 lacks 217.95 of 78.40 GiB",)),
    ("8 A100-80 80 / host 1024", "R1-0528-671B Q6_K x8 8x32768", None,
     ("R1-0528-671B Q8_0 x8 lacks 677.42 of 627.20 GiB",)),
    ("8 A800 80 / host 2048", "R1-0528-671B Q6_K x8 8x32768", None,
     ("R1-0528-671B Q8_0 x8 lacks 677.42 of 627.20 GiB",)),
    ("1 H100 80 / host 512", "R1-Distill-Llama-70B Q8_0 x1 4x8192 q8_0", None,
     ("R1-0528-671B UD-IQ2_M x1 lacks 217.95 of 78.40 GiB",)),
    ("8 H100 80 / host 2048", "R1-0528-671B Q6_K x8 8x32768", None,
     ("R1-0528-671B Q8_0 x8 lacks 677.42 of 627.20 GiB",)),
    ("8 H800 80 / host 2048", "R1-0528-671B Q6_K x8 8x32768", None,
     ("R1-0528-671B Q8_0 x8 lacks 677.42 of 627.20 GiB",)),
    ("1 H20 95.6 / host 512", "R1-Distill-Llama-70B Q8_0 x1 4x16384", None,
     ("R1-0528-671B UD-IQ2_M x1 lacks 217.95 of 93.69 GiB",)),
    ("4 H20 95.6 / host 1024", "R1-0528-671B Q4_K_S x4 4x16384", None,
     ("R1-0528-671B UD-Q4_K_XL x4 whole layers: 368.80 of 374.75 GiB",)),
    ("8 H20 95.6 / host 2048", "R1-0528-671B Q8_0 x8 4x16384", None,
     ()),
    ("8 H20 141 / host 2048", "R1-0528-671B Q8_0 x6 16x32768", None,
     ()),
    ("4 H200 140 / host 1024", "R1-0528-671B Q6_K x4 8x16384", None,
     ("R1-0528-671B Q8_0 x4 lacks 670.97 of 548.80 GiB",)),
    ("8 H200 140 / host 2048", "R1-0528-671B Q8_0 x6 16x32768", None,
     ()),
    ("1 GB10 119.7 / host 119.7", "R1-Distill-Qwen-32B Q8_0 x1 8x16384", None,
     ("R1-Distill-Llama-70B BF16 x1 lacks 150.00 of 107.73 GiB", "R1-Distill-Llama-70B Q8_0 slow",)),
    ("1 4090 24 + 1 3090 24 / host 128", "R1-Distill-Qwen-32B Q8_0 x2 4x8192", None,
     ("R1-Distill-Llama-70B Q5_K_M x2 lacks 54.06 of 47.04 GiB",)),
    ("1 A100-80 80 + 1 T4 15 / host 256", "R1-Distill-Llama-70B Q8_0 x1 4x8192 q8_0", None,
     ("R1-0528-671B UD-IQ2_M x2 lacks 219.77 of 93.10 GiB",)),
    ("1 L20 44.5 + 1 310P3 21.5 / host 256", "R1-Distill-Qwen-32B Q8_0 x1 4x8192", None,
     ("R1-Distill-Llama-70B Q5_K_M x1 lacks 52.38 of 43.61 GiB",)),
    ("1 310P3 21.5 / host 64", "R1-Distill-Qwen-7B F16 x1 4x16384", None,
     ("R1-0528-Qwen3-8B F16 x1 lacks 20.13 of 20.00 GiB", "R1-0528-671B Q8_0 not on the card",)),
    ("2 310P3 21.5 / host 64", "R1-0528-Qwen3-8B F16 x2 8x16384", "R1-0528-Qwen3-8B BF16 mindie x2 8x16384",
     ("R1-Distill-Qwen-32B F16 x2 lacks 70.90 of 40.00 GiB", "R1-0528-671B Q8_0 not on the card",)),
    ("2 310P3 44 / host 128", "R1-0528-Qwen3-8B F16 x2 8x32768", "R1-0528-Qwen3-8B BF16 mindie x2 8x32768",
     ("R1-Distill-Llama-70B F16 x2 lacks 143.56 of 85.00 GiB", "R1-Distill-Qwen-32B F16 slow",
      "R1-0528-671B Q8_0 not on the card",)),
    ("4 310P3 44 / host 256", "R1-0528-Qwen3-8B F16 x3 16x32768", "R1-Distill-Qwen-32B BF16 mindie x4 8x32768",
     ("R1-Distill-Llama-70B F16 slow", "R1-0528-671B Q8_0 not on the card",)),
    ("8 310P3 44 / host 512", "R1-0528-Qwen3-8B F16 x3 16x32768", "R1-Distill-Llama-70B BF16 mindie x8 16x32768",
     ("R1-Distill-Llama-70B F16 slow", "R1-0528-671B Q8_0 not on the card",)),
    ("1 910B4 32 / host 256", "R1-Distill-Qwen-32B Q4_0-pure x1 4x8192", None,
     ("R1-Distill-Qwen-32B Q8_0 x1 lacks 40.88 of 29.00 GiB", "R1-0528-671B Q8_0 not on the card",)),
    ("4 910B4 32 / host 512", "R1-Distill-Llama-70B Q8_0 x4 4x16384", None,
     ("R1-0528-671B Q8_0 not on the card",)),
    ("8 910B4 32 / host 1024", "R1-Distill-Llama-70B Q8_0 x6 8x32768", None,
     ("R1-0528-671B Q8_0 not on the card",)),
    ("1 910B3 64 / host 256", "R1-Distill-Qwen-32B Q8_0 x1 4x16384", None,
     ("R1-Distill-Llama-70B Q8_0 x1 lacks 80.02 of 61.00 GiB", "R1-0528-671B Q8_0 not on the card",)),
    ("2 910B3 64 / host 512", "R1-Distill-Llama-70B Q8_0 x2 8x16384", None,
     ("R1-0528-671B Q8_0 not on the card",)),
    ("8 910B3 64 / host 1024", "R1-Distill-Llama-70B Q8_0 x4 16x32768", None,
     ("R1-0528-671B Q8_0 not on the card",)),
    ("8 910B1 64 / host 2048", "R1-Distill-Llama-70B Q8_0 x4 16x32768", None,
     ("R1-0528-671B Q8_0 not on the card",)),
    ("2 910C 64 / host 512", "R1-Distill-Llama-70B Q8_0 x2 8x16384", None,
     ("R1-0528-671B Q8_0 not on the card",)),
    ("16 910C 64 / host 2048", "R1-Distill-Llama-70B Q8_0 x4 16x32768", "R1-0528-671B W8A8 vllm-ascend x16 16x32768",
     ("R1-0528-671B Q8_0 not on the card",)),
    ("8 910A 32 / host 768", "none: chip_not_supported", None,
     ("R1-0528-671B Q8_0 not on the card",)),
    ("1 950PR 112 / host 512", "none: chip_not_supported", None,
     ("R1-0528-671B Q8_0 not on the card",)),
)
# fmt: on


def written(found: FitPlan) -> str:
    cache = "" if found.kv_type is KvType.F16 else f" {found.kv_type}"
    engine = "" if found.engine is EngineName.LLAMA_CPP else f" {found.engine}"
    reduced = " reduced" if found.reduced else ""
    seats = f"{found.seats}x{found.context_tokens}"
    return f"{found.variant} {found.quantization}{engine} x{len(found.devices)} {seats}{cache}{reduced}"


def planned(line: str, *engines: EngineName) -> PlanResult:
    return plan(CATALOGUE, build(line), engines=engines or (EngineName.LLAMA_CPP,))


def test_every_machine_has_its_line() -> None:
    assert [line for line, *_ in GOLDEN] == list(LINES)


@pytest.mark.parametrize(("line", "llama_cpp", "all_engines", "why"), GOLDEN)
def test_golden_plan(line: str, llama_cpp: str, all_engines: str | None, why: tuple[str, ...]) -> None:
    result = planned(line)
    best = written(result.plans[0]) if result.plans else f"none: {result.rejections[0].code}"
    assert best == llama_cpp
    with_all = planned(line, *EngineName)
    best_of_all = written(with_all.plans[0]) if with_all.plans else best
    assert best_of_all == (all_engines or llama_cpp)
    assert review.reasons(line) == why


@pytest.mark.parametrize("line", LINES)
def test_the_second_calculation_finds_the_same(line: str) -> None:
    plans = planned(line).plans
    again = review.best(line)
    if again is None:
        assert not plans
    else:
        variant, form, found = again
        seats, context = review.LEVELS[found.level]
        cache = "" if found.cache == "f16" else f" {found.cache}"
        assert written(plans[0]) == f"{variant} {form} x{found.devices} {seats}x{context}{cache}"
    others = planned(line, *OTHERS).plans
    hub = best_of_hubs(line)
    if hub is None:
        assert not others or others[0].reduced
    else:
        variant, form, engine, level, devices = hub
        seats, context = review.LEVELS[level]
        assert written(others[0]) == f"{variant} {form} {engine} x{devices} {seats}x{context}"


@pytest.mark.parametrize("line", LINES)
def test_the_blocks_themselves_lie_within_each_card(line: str) -> None:
    """Of every plan with llama.cpp that keeps the usual seats; byte by byte, by llama.cpp's own buffers."""
    for found in planned(line).plans:
        if found.reduced or not found.devices:
            continue
        level = review.LEVELS.index((found.seats, found.context_tokens))
        cache = f"fa {found.kv_type}" if found.flash_attention else f"no fa {found.ubatch_tokens}"
        if review.weights(found.variant, found.quantization) is not None:
            cards = (found.variant, found.quantization, found.tensor_split, level, cache)
            assert review.holds(line, *cards), written(found)


@pytest.mark.parametrize("line", LINES)
def test_what_is_refused_for_memory_lacks_it_in_the_second_calculation_too(line: str) -> None:
    """And needs as much, to 2 % (of several cards: to a layer of each)."""
    for rejection in planned(line).rejections:
        if rejection.code != "memory":
            continue
        verdict, found = review.judge(line, rejection.variant, rejection.quantization)
        if verdict == "none":
            continue
        assert verdict == "memory", rejection
        assert isinstance(found, review.Missing)
        assert rejection.needed_bytes is not None
        if found.devices == 1:
            assert rejection.needed_bytes == pytest.approx(found.needed, rel=0.02)


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
