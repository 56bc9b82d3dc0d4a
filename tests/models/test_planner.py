"""Plans for known machines, checked by hand against the facts, and properties that hold for every machine."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.types import HardwareSnapshot, Vendor
from models.catalogue import load_catalogue
from models.gate import CANN, Computes, classify, judge
from models.planner import plan
from models.types import HOST, Catalogue, CounterOffer, EngineName, FitPlan, KvType, PlanResult, Rejection
from tests.models import machines
from tests.models.machines import ascend, gib, host, machine, nvidia

CATALOGUE = load_catalogue()


def first(snapshot: HardwareSnapshot, seats: int | None = None, context: int | None = None) -> FitPlan:
    return plan(CATALOGUE, snapshot, seats, context).plans[0]


def rejection(result: PlanResult, variant: str, quantization: str) -> Rejection:
    return next(r for r in result.rejections if (r.variant, r.quantization) == (variant, quantization))


# Machine -> best plan: variant, quantization, devices, seats, context, cache.
GOLDEN = {
    # 8.1 GiB of weights, 9 of cache, 0.3 of buffer and 2.4 of reserve in 21.6.
    "cpu-24": ("R1-0528-Qwen3-8B", "Q8_0", 0, 4, 16_384, KvType.F16),
    # 4 GiB: only the 1.5B, 1.8 GiB in Q8_0 and 0.9 of cache.
    "cpu-4": ("R1-Distill-Qwen-1.5B", "Q8_0", 0, 4, 8192, KvType.F16),
    # 13.3 of 14.7 GiB; Qwen-14B would fit in Q4_K_M only with a Q8_0 cache and ranks behind.
    "t4": ("R1-0528-Qwen3-8B", "Q8_0", 1, 4, 8192, KvType.F16),
    # 24 GiB hold the 32B in four bits with the Q8_0 cache.
    "rtx-4090": ("R1-Distill-Qwen-32B", "Q4_K_S", 1, 4, 8192, KvType.Q8_0),
    # The 70B in Q8_0 fits as well, at 2 to 3 tokens per second (273 GB/s): of no use to a model that thinks first.
    "gb10": ("R1-Distill-Qwen-32B", "Q8_0", 1, 8, 16_384, KvType.F16),
    # Q8_0 is what a 910B computes best; 35 GiB of weights and 20 of cache on each.
    "2x910B3": ("R1-Distill-Llama-70B", "Q8_0", 2, 8, 16_384, KvType.F16),
    # 310P: F16 alone, no flash attention. 32B and 70B would crawl (2.5 and 1.2 tokens per second at best).
    "1xDuo-96": ("R1-0528-Qwen3-8B", "F16", 2, 8, 32_768, KvType.F16),
    "2xDuo-96": ("R1-0528-Qwen3-8B", "F16", 3, 16, 32_768, KvType.F16),
    "1xDuo-48": ("R1-0528-Qwen3-8B", "F16", 2, 8, 16_384, KvType.F16),
    # 664 GiB over eight cards of 93.7.
    "8xH20": ("R1-0528-671B", "Q8_0", 8, 4, 16_384, KvType.F16),
    # The 671B is not computed by CANN.
    "8x910B1": ("R1-Distill-Llama-70B", "Q8_0", 4, 16, 32_768, KvType.F16),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_machines(name: str) -> None:
    best = first(machines.ALL[name])
    found = (best.variant, best.quantization, len(best.devices), best.seats, best.context_tokens, best.kv_type)
    assert found == GOLDEN[name]
    assert not best.reduced


def test_first_generation_910_gets_no_plan_and_a_reason() -> None:
    result = plan(CATALOGUE, machines.FOUR_910A)
    assert result.plans == ()
    assert "first-generation 910" in rejection(result, "R1-Distill-Qwen-7B", "F16").reason


@pytest.mark.parametrize("name", machines.ALL)
def test_every_combination_is_a_plan_or_a_rejection(name: str) -> None:
    result = plan(CATALOGUE, machines.ALL[name])
    seen = [(p.variant, p.quantization) for p in result.plans] + [
        (r.variant, r.quantization) for r in result.rejections
    ]
    assert sorted(seen) == sorted((v.id, q) for v in CATALOGUE.variants for q in v.quantizations)
    for rejected in result.rejections:
        assert rejected.reason
        if rejected.code == "memory":
            assert rejected.needed_bytes is not None
            assert rejected.available_bytes is not None
            assert rejected.needed_bytes > rejected.available_bytes


def check_plans(snapshot: HardwareSnapshot) -> None:
    """No plan takes more than a device has, is longer than its model was trained for, or is one the gate forbids."""
    by_key = {d.key: d for d in snapshot.devices}
    for found in plan(CATALOGUE, snapshot).plans:
        variant = CATALOGUE.variant(found.variant)
        assert variant is not None
        for memory in found.memory:
            assert memory.total_bytes <= memory.available_bytes
            assert memory.reserve_bytes > 0
        assert found.context_tokens <= variant.shape.context_length
        assert found.gpu_layers == (variant.shape.layers + 1 if found.devices else 0)
        assert sum(found.tensor_split) == found.gpu_layers
        for key in found.devices:
            chip = classify(by_key[key])
            verdict = judge(chip, EngineName.LLAMA_CPP, variant.architecture, found.quantization)
            assert verdict.computes is Computes.ON_CARD


@pytest.mark.parametrize("name", machines.ALL)
def test_no_plan_exceeds_a_device_or_passes_the_gate(name: str) -> None:
    check_plans(machines.ALL[name])


_NVIDIA = (
    ("Tesla T4", "7.5"),
    ("NVIDIA A10", "8.6"),
    ("NVIDIA H20", "9.0"),
    ("NVIDIA Tesla P4", "6.1"),
    ("Card", None),
)
_ASCEND = ("910B3", "910B1", "310P3", "910A", "910_9392", "999X")


@settings(max_examples=30)
@given(
    cards=st.lists(
        st.one_of(
            st.tuples(st.sampled_from(_NVIDIA), st.floats(0.5, 141)),
            st.tuples(st.sampled_from(_ASCEND), st.floats(0.5, 64)),
        ),
        max_size=4,
    ),
    memory=st.floats(1, 600),
)
def test_no_machine_gets_a_plan_that_exceeds_a_device_or_passes_the_gate(
    cards: list[tuple[str | tuple[str, str | None], float]], memory: float
) -> None:
    devices = [
        ascend(kind, size, place) if isinstance(kind, str) else nvidia(kind[0], size, kind[1], place)
        for place, (kind, size) in enumerate(cards)
    ]
    check_plans(machine(host(memory), *devices))


def test_asked_for_seats_and_context_are_kept(catalogue: Catalogue) -> None:
    for found in plan(catalogue, machines.TWO_910B3, 8, 16_384).plans:
        assert (found.seats, found.context_tokens, found.reduced) == (8, 16_384, False)


def test_counter_offer_when_less_would_fit(catalogue: Catalogue) -> None:
    result = plan(catalogue, machines.RTX_4090, 8, 32_768)
    rejected = rejection(result, "R1-Distill-Qwen-14B", "Q4_K_M")
    assert rejected.code == "memory"
    offer = rejected.counter_offer
    assert offer is not None
    assert offer.seats * offer.context_tokens < 8 * 32_768
    again = plan(catalogue, machines.RTX_4090, offer.seats, offer.context_tokens)
    assert any((p.variant, p.quantization) == ("R1-Distill-Qwen-14B", "Q4_K_M") for p in again.plans)
    assert f"{offer.seats} x {offer.context_tokens:,} would fit" in rejected.reason


def test_context_beyond_the_trained_one_is_refused_with_an_offer(catalogue: Catalogue) -> None:
    result = plan(catalogue, machines.EIGHT_H20, 1, 150_000)
    rejected = rejection(result, "R1-Distill-Llama-70B", "Q8_0")
    assert rejected.code == "context_too_long"
    assert rejected.counter_offer == CounterOffer(1, 131_072)
    assert result.plans[0].variant == "R1-0528-671B"


def test_reduced_plans_come_after_full_ones(catalogue: Catalogue) -> None:
    found = plan(catalogue, machine(host(64), nvidia("Tesla T4", 8, "7.5"))).plans
    flags = [p.reduced for p in found]
    assert flags == sorted(flags)
    assert any(flags)


def test_70b_below_five_bits_ranks_behind_32b(catalogue: Catalogue) -> None:
    found = plan(catalogue, machine(host(256), *(nvidia("NVIDIA L40S", 46, "8.9", i) for i in range(2)))).plans
    order = [(p.variant, p.quantization) for p in found]
    assert order.index(("R1-Distill-Qwen-32B", "Q8_0")) < order.index(("R1-Distill-Llama-70B", "Q4_K_M"))
    assert order.index(("R1-Distill-Llama-70B", "Q5_K_M")) < order.index(("R1-Distill-Qwen-32B", "Q8_0"))


def test_ascend_refuses_k_quants_and_says_who_says_so(catalogue: Catalogue) -> None:
    rejected = rejection(plan(catalogue, machines.TWO_910B3), "R1-Distill-Qwen-32B", "Q4_K_M")
    assert rejected.code == "quantization_not_on_card"
    assert CANN in rejected.reason
    assert rejected.needed_bytes is None


def test_cards_that_cannot_compute_do_not_lead_to_the_processor_in_silence(catalogue: Catalogue) -> None:
    assert plan(catalogue, machines.FOUR_910A).plans == ()
    allowed = plan(catalogue, machines.FOUR_910A, allow_cpu=True).plans
    assert allowed
    assert allowed[0].devices == ()
    assert "processor" in allowed[0].notes[0]


def test_engine_not_built_for_the_cards(catalogue: Catalogue) -> None:
    result = plan(catalogue, machines.T4, usable_vendors=[])
    assert result.plans == ()
    assert rejection(result, "R1-Distill-Qwen-7B", "Q8_0").code == "no_devices"
    assert "not built for nvidia" in result.notes[0]
    assert plan(catalogue, machines.T4, usable_vendors=[Vendor.NVIDIA]).plans


def test_unknown_memory_is_a_rejection(catalogue: Catalogue) -> None:
    card = replace(nvidia("Tesla T4", 15, "7.5"), memory_free_bytes=None)
    for snapshot in (machine(host(64), card), machine(replace(host(64), memory_available_bytes=None))):
        result = plan(catalogue, snapshot)
        assert result.plans == ()
        assert rejection(result, "R1-Distill-Qwen-7B", "Q8_0").code == "memory_unknown"


def test_one_blind_card_of_two_leaves_the_other(catalogue: Catalogue) -> None:
    blind = replace(nvidia("Tesla T4", 15, "7.5", 1), memory_free_bytes=None)
    result = plan(catalogue, machine(host(64), nvidia("Tesla T4", 15, "7.5"), blind))
    assert result.plans[0].devices == ("nvidia:0",)
    assert "nvidia:1" in result.notes[0]


def test_mixed_vendors_take_the_group_that_serves_more(catalogue: Catalogue) -> None:
    mixed = machine(host(512), nvidia("Tesla T4", 15, "7.5"), *(ascend("910B3", 62, i) for i in range(2)))
    found = {(p.variant, p.quantization): p for p in plan(catalogue, mixed).plans}
    assert found["R1-Distill-Llama-70B", "Q8_0"].devices == ("ascend:0.0", "ascend:0.1")
    assert found["R1-0528-Qwen3-8B", "Q4_K_M"].devices == ("nvidia:0",)


def test_unified_memory_counts_the_embedding_on_the_device_and_has_no_host_line() -> None:
    best = first(machines.GB10)
    assert [m.device for m in best.memory] == ["nvidia:0"]
    assert best.memory[0].weights_bytes == 34_814_906_368


def test_host_line_of_a_card_plan_holds_the_embedding() -> None:
    best = first(machines.T4)
    assert best.memory[-1].device == HOST
    assert best.memory[-1].weights_bytes == 661_225_472


def test_310p_uses_a_smaller_micro_batch_when_scores_fill_the_buffer() -> None:
    best = first(machines.TWO_DUOS_96)
    assert (best.flash_attention, best.ubatch_tokens) == (False, 128)


def test_speed_is_none_for_unknown_cards() -> None:
    assert first(machine(host(64), nvidia("NVIDIA Odd", 24, "8.9"))).decode_tokens_per_s is None
    band = first(machines.RTX_4090).decode_tokens_per_s
    assert band is not None
    assert band.low < band.high < 57  # the ceiling of 18.8 GB at 1,008 GB/s


def test_speed_of_a_processor_is_a_wide_band_and_slow_models_rank_behind() -> None:
    result = plan(CATALOGUE, machines.CPU_24)
    band = result.plans[0].decode_tokens_per_s
    assert band is not None
    assert band.high > 5 * band.low
    slow = next(p for p in result.plans if p.variant == "R1-Distill-Qwen-14B" and p.quantization == "Q8_0")
    assert "Slow" in slow.notes[0]
    assert result.plans.index(slow) > 10


def test_nonsense_wishes_are_refused(catalogue: Catalogue) -> None:
    with pytest.raises(ValueError, match="seats"):
        plan(catalogue, machines.T4, 0, 8192)


def test_whole_catalogue_for_eight_cards_is_planned_quickly(catalogue: Catalogue) -> None:
    began = time.process_time()
    plan(catalogue, machines.EIGHT_H20)
    assert time.process_time() - began < 1.0


free = st.floats(1, 140)


def key(result: PlanResult) -> tuple[int, ...]:
    """What the operator gets: fuller seats, better variant, better quantization; larger is better."""
    if not result.plans:
        return (0,)
    best = result.plans[0]
    variant = CATALOGUE.variant(best.variant)
    assert variant is not None
    rank = variant.rank
    quality = CATALOGUE.quantization_rank(best.quantization)
    if variant.demoted_below and quality > CATALOGUE.quantization_rank(variant.demoted_below):
        rank = variant.demoted_rank or rank
    return (1, int(not best.reduced), -rank, -quality, best.seats * best.context_tokens)


@settings(max_examples=15)
@given(memory=st.lists(free, min_size=1, max_size=4), more=st.floats(0, 80), at=st.integers(0, 3))
def test_more_card_memory_never_gives_a_worse_plan(memory: list[float], more: float, at: int) -> None:
    def cards(sizes: list[float]) -> HardwareSnapshot:
        return machine(host(512), *(nvidia("NVIDIA H20", s, "9.0", i) for i, s in enumerate(sizes)))

    richer = list(memory)
    richer[at % len(memory)] += more
    assert key(plan(CATALOGUE, cards(richer))) >= key(plan(CATALOGUE, cards(memory)))


@settings(max_examples=15)
@given(total=st.floats(1, 600), more=st.floats(0, 300))
def test_more_host_memory_never_gives_a_worse_plan(total: float, more: float) -> None:
    poorer = machine(replace(host(1024), memory_available_bytes=gib(total)))
    richer = machine(replace(host(1024), memory_available_bytes=gib(total + more)))
    assert key(plan(CATALOGUE, richer)) >= key(plan(CATALOGUE, poorer))
