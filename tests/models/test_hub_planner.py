"""Plans for vLLM, vLLM-Ascend and MindIE: sizes, gate, splits, placement, ranking."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.types import HardwareSnapshot
from models.catalogue import load_catalogue
from models.gate import Chip, ChipClass, Computes
from models.hub_forms import form_bytes, judge_form
from models.parallel import load_of, splits
from models.planner import plan
from models.types import EngineName, FitPlan, HubForm, Rejection, Variant
from tests.models.golden_machines import LINES, build

CATALOGUE = load_catalogue()
ALL = tuple(EngineName)
GB = 10**9


def variant(name: str) -> Variant:
    found = CATALOGUE.variant(name)
    assert found is not None
    return found


def only(snapshot: HardwareSnapshot, engine: EngineName) -> tuple[list[FitPlan], list[Rejection]]:
    result = plan(CATALOGUE, snapshot, engines=(engine,))
    return list(result.plans), list(result.rejections)


@pytest.mark.parametrize(
    ("name", "form", "published_gb"),
    [
        # The trees of the repositories, in decimal GB.
        ("R1-Distill-Qwen-1.5B", "AWQ", 1.61),
        ("R1-Distill-Qwen-7B", "AWQ", 5.57),
        ("R1-Distill-Qwen-14B", "AWQ", 9.98),
        ("R1-Distill-Qwen-32B", "FP8", 34.3),
        ("R1-Distill-Qwen-32B", "BF16", 65.53),
        ("R1-Distill-Llama-70B", "W8A8", 72.66),
        ("R1-0528-Qwen3-8B", "W8A16", 9.44),
        ("R1-671B", "FP8", 687.2),
    ],
)
def test_sizes_agree_with_what_is_published(name: str, form: str, published_gb: float) -> None:
    found = next(one for one in variant(name).hub_forms if one.form == form)
    assert form_bytes(variant(name), found) / GB == pytest.approx(published_gb, rel=0.01)


@pytest.mark.parametrize(
    ("capability", "form", "computes", "code"),
    [
        ((7, 0), "AWQ", Computes.NOT, "compute_capability"),
        (None, "AWQ", Computes.NOT, "compute_capability_unknown"),
        ((7, 5), "AWQ", Computes.ON_CARD, "on_card"),
        ((7, 5), "BF16", Computes.ON_CARD, "as_f16"),
        ((8, 0), "BF16", Computes.ON_CARD, "on_card"),
        ((8, 6), "FP8", Computes.ON_CARD, "weights_only"),
        ((8, 9), "FP8", Computes.ON_CARD, "on_card"),
        ((9, 0), "W8A8", Computes.ON_CARD, "on_card"),
        ((12, 0), "W8A8", Computes.NOT, "no_int8"),
    ],
)
def test_gate_of_vllm(capability: tuple[int, int] | None, form: str, computes: Computes, code: str) -> None:
    verdict = judge_form(Chip(ChipClass.NVIDIA, capability), EngineName.VLLM, "qwen2", form)
    assert (verdict.computes, verdict.code) == (computes, code)
    assert verdict.reason
    assert verdict.source


@pytest.mark.parametrize(
    ("chip", "engine", "architecture", "form", "computes"),
    [
        (ChipClass.ASCEND_910B, EngineName.VLLM_ASCEND, "deepseek2", "W8A8", Computes.ON_CARD),
        (ChipClass.ASCEND_910B, EngineName.VLLM_ASCEND, "qwen2", "FP8", Computes.NOT),
        (ChipClass.ASCEND_310P, EngineName.VLLM_ASCEND, "qwen2", "BF16", Computes.NOT),
        (ChipClass.ASCEND_910A, EngineName.VLLM_ASCEND, "qwen2", "BF16", Computes.NOT),
        (ChipClass.ASCEND_310P, EngineName.MINDIE, "qwen2", "BF16", Computes.ON_CARD),
        (ChipClass.ASCEND_310P, EngineName.MINDIE, "deepseek2", "W8A8", Computes.NOT),
        (ChipClass.ASCEND_910C, EngineName.MINDIE, "deepseek2", "W8A8", Computes.ON_CARD),
        (ChipClass.ASCEND_OTHER, EngineName.MINDIE, "qwen2", "BF16", Computes.NOT),
        (ChipClass.NVIDIA, EngineName.LLAMA_CPP, "qwen2", "AWQ", Computes.NOT),
        (ChipClass.ASCEND_910B, EngineName.VLLM, "qwen2", "BF16", Computes.NOT),
    ],
)
def test_gate_of_the_ascend_engines(
    chip: ChipClass, engine: EngineName, architecture: str, form: str, computes: Computes
) -> None:
    assert judge_form(Chip(chip), engine, architecture, form).computes is computes


def test_splits_keep_the_heads_whole() -> None:
    qwen_7b = variant("R1-Distill-Qwen-7B").shape  # 28 heads: neither 8 nor 16 divide them
    assert [s.devices for s in splits(qwen_7b, EngineName.VLLM, 16)] == [1, 2, 4]
    llama = variant("R1-Distill-Llama-70B").shape  # 64 heads, 8 key-value heads
    assert [s.devices for s in splits(llama, EngineName.VLLM, 16)] == [1, 2, 4, 8, 16]
    large = variant("R1-671B").shape
    assert [(s.tensor, s.data) for s in splits(large, EngineName.VLLM_ASCEND, 16)] == [
        (1, 1), (2, 1), (4, 1), (4, 2), (4, 4),
    ]  # fmt: skip
    assert [(s.tensor, s.data) for s in splits(large, EngineName.VLLM, 8)][-1] == (8, 1)


def test_experts_are_most_of_a_mixture() -> None:
    load = load_of(variant("R1-671B"), 700 * GB)
    assert load.total_bytes == 700 * GB
    # 58 layers x 256 experts x 3 x 7168 x 2048 parameters of 671 billion.
    assert load.expert_bytes / load.total_bytes == pytest.approx(653.9 / 671.0, abs=0.01)


def test_671b_runs_on_one_a3_and_needs_two_a2() -> None:
    plans, _ = only(build("16 910C 64 / host 2048"), EngineName.VLLM_ASCEND)
    best = plans[0]
    assert (best.variant, best.quantization, best.tensor_parallel, best.data_parallel) == (
        "R1-0528-671B", "W8A8", 4, 4,
    )  # fmt: skip
    assert best.repository == "vllm-ascend/DeepSeek-R1-0528-W8A8"
    _, rejections = only(build("8 910B3 64 / host 1024"), EngineName.VLLM_ASCEND)
    refused = next(r for r in rejections if r.variant == "R1-0528-671B")
    assert refused.code == "memory"
    assert refused.needed_bytes is not None
    assert refused.available_bytes is not None
    assert refused.needed_bytes > refused.available_bytes
    assert "2 such boxes together" in refused.reason


def test_awq_of_the_671b_fits_eight_cards_of_80_gb() -> None:
    plans, _ = only(build("8 A100-80 80 / host 1024"), EngineName.VLLM)
    found = next(p for p in plans if p.quantization == "AWQ" and p.variant == "R1-671B")
    assert len(found.devices) == 8
    band = found.decode_tokens_per_s
    assert band is not None
    assert band.low < 46.8 < band.high  # what its card reports for 8 x A100


def test_engine_that_is_not_installed_ranks_behind_and_says_so() -> None:
    snapshot = build("8 L4 22.5 / host 512")
    first = plan(CATALOGUE, snapshot, engines=ALL).plans[0]
    assert first.engine is EngineName.VLLM
    result = plan(CATALOGUE, snapshot, engines=ALL, installed=(EngineName.LLAMA_CPP,))
    assert result.plans[0].engine is EngineName.LLAMA_CPP
    absent = next(p for p in result.plans if p.engine is EngineName.VLLM)
    assert not absent.installed
    assert "not installed" in absent.notes[0]
    engines = [p.engine is EngineName.LLAMA_CPP for p in result.plans]
    assert engines == sorted(engines, reverse=True)


def test_nobody_hears_of_engines_for_other_vendors() -> None:
    for line, absent in (
        ("1 T4 15 / host 32", {EngineName.VLLM_ASCEND, EngineName.MINDIE}),
        ("1 910B3 64 / host 256", {EngineName.VLLM}),
        ("/ host 64", {EngineName.VLLM, EngineName.VLLM_ASCEND, EngineName.MINDIE}),
    ):
        result = plan(CATALOGUE, build(line), engines=ALL)
        assert not absent & {one.engine for one in (*result.plans, *result.rejections)}


def test_a_form_without_published_weights_says_so() -> None:
    one = variant("R1-Distill-Qwen-14B")
    changed = replace_form(one, HubForm("W8A8", (EngineName.VLLM,)))
    catalogue = type(CATALOGUE)(CATALOGUE.schema, CATALOGUE.quantizations, (changed,))
    found = plan(catalogue, build("1 H100 80 / host 512"), engines=(EngineName.VLLM,)).plans[0]
    assert found.repository is None
    assert any("has to be made" in note for note in found.notes)


def replace_form(one: Variant, form: HubForm) -> Variant:
    import msgspec

    return msgspec.structs.replace(one, hub_forms=(form,))


@given(st.sampled_from([line for line in LINES if not line.startswith("/")]), st.integers(0, 40))
def test_more_memory_never_gives_a_worse_plan_of_the_large_engines(line: str, extra_gib: int) -> None:
    snapshot = build(line)
    more = HardwareSnapshot(
        snapshot.host,
        tuple(
            replace(
                device,
                memory_total_bytes=(device.memory_total_bytes or 0) + (extra_gib << 30),
                memory_free_bytes=(device.memory_free_bytes or 0) + (extra_gib << 30),
            )
            for device in snapshot.devices
        ),
    )
    engines = (EngineName.VLLM, EngineName.VLLM_ASCEND, EngineName.MINDIE)
    before = {(p.variant, p.quantization, p.engine): p for p in plan(CATALOGUE, snapshot, engines=engines).plans}
    after = {(p.variant, p.quantization, p.engine): p for p in plan(CATALOGUE, more, engines=engines).plans}
    for key, found in before.items():
        assert key in after
        assert after[key].total_context_tokens >= found.total_context_tokens
