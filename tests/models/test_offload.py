"""A part of the model in the host's memory, when it was asked for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.catalogue import load_catalogue
from models.planner import plan
from models.types import HOST, FitPlan
from tests.models.golden_machines import build

CATALOGUE = load_catalogue()
GIB = 1 << 30


def found(line: str, variant: str, quantization: str, *, offload: bool = True) -> FitPlan | None:
    plans = plan(CATALOGUE, build(line), offload=offload).plans
    return next((p for p in plans if (p.variant, p.quantization) == (variant, quantization)), None)


def test_nothing_is_moved_unasked() -> None:
    for line in ("1 T4 15 / host 128", "8 910B3 64 / host 1024", "2 4090 24 / host 512"):
        for one in plan(CATALOGUE, build(line)).plans:
            assert (one.host_layers, one.experts_on_host) == (0, False)


def test_what_fits_on_cards_stays_there() -> None:
    for line in ("1 T4 15 / host 128", "8 H20 95.6 / host 2048"):
        plain = plan(CATALOGUE, build(line)).plans
        asked = {(p.variant, p.quantization): p for p in plan(CATALOGUE, build(line), offload=True).plans}
        for one in plain:
            assert asked[one.variant, one.quantization] == one


def test_layers_of_a_dense_model_lie_on_the_host() -> None:
    assert found("1 T4 15 / host 128", "R1-Distill-Qwen-32B", "Q8_0", offload=False) is None
    one = found("1 T4 15 / host 128", "R1-Distill-Qwen-32B", "Q8_0")
    assert one is not None
    assert 0 < one.host_layers < 64
    assert one.gpu_layers == 64 + 1 - one.host_layers
    assert sum(one.tensor_split) == one.gpu_layers
    card, host = one.memory
    assert host.device == HOST
    # Every byte lies somewhere: the weights and the cache of both together are the whole model's.
    variant = CATALOGUE.variant("R1-Distill-Qwen-32B")
    assert variant is not None
    assert card.weights_bytes + host.weights_bytes == pytest.approx(
        variant.quantizations["Q8_0"].tensor_bytes, rel=0.001
    )
    assert card.kv_bytes + host.kv_bytes == pytest.approx(131072 * 2 * one.total_context_tokens, rel=0.001)
    assert card.total_bytes <= card.available_bytes
    assert host.total_bytes <= host.available_bytes
    assert any("layers lie in the host's memory" in note for note in one.notes)
    band = one.decode_tokens_per_s
    assert band is not None
    assert band.high < 10


def test_experts_of_the_671b_lie_on_the_host() -> None:
    line = "1 4090 24 / host 768"
    assert found(line, "R1-0528-671B", "Q4_K_M", offload=False) is None
    one = found(line, "R1-0528-671B", "Q4_K_M")
    assert one is not None
    assert (one.experts_on_host, one.host_layers, one.gpu_layers) == (True, 0, 62)
    card, host = one.memory
    # Of the 404 GB 394 are experts; what is not is 9.98 GB with the output (catalogue facts).
    assert card.weights_bytes == pytest.approx(9.98e9, rel=0.02)
    assert host.weights_bytes == pytest.approx(394.5e9, rel=0.01)
    band = one.decode_tokens_per_s
    assert band is not None
    assert 0.5 < band.low < band.high < 20


def test_unified_memory_gains_nothing() -> None:
    line = "1 GB10 119.7 / host 119.7"
    assert found(line, "R1-0528-671B", "Q4_K_M") is None
    assert found(line, "R1-Distill-Llama-70B", "BF16") is None


@given(st.integers(8, 96), st.integers(16, 1024))
def test_no_memory_is_given_out_twice(card_gib: int, host_gib: int) -> None:
    for one in plan(CATALOGUE, build(f"1 L20 {card_gib} / host {host_gib}"), 2, 4096, offload=True).plans:
        for memory in one.memory:
            assert memory.total_bytes <= memory.available_bytes
        if one.devices:
            assert sum(one.tensor_split) == one.gpu_layers >= 2
