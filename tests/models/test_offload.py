"""A part of the model in the host's memory, when it was asked for."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.catalogue import load_catalogue
from models.dry_run import DryRun, Offload, Opening, dry_run
from models.fit import fit_installed, load_of
from models.gguf import read_header
from models.machine import Room
from models.offload import Offloaded, place_with_host
from models.placement import Wish
from models.planner import plan
from models.types import HOST, FitPlan, KvType
from tests.models.cards import build_fake_cards, shown
from tests.models.golden_machines import build
from tests.models.machines import nvidia
from tests.models.r1_files import write_variant

CATALOGUE = load_catalogue()
GIB = 1 << 30
CARD_GIB = {"R1-Distill-Qwen-32B": (28, 28), "R1-Distill-Llama-8B": (9, 13), "R1-0528-671B": (44, 60)}
"""Too little for all of it: the memory of all cards together with and without flash attention."""
DEVICE = nvidia("NVIDIA L20", 44.5, "8.9")


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


@pytest.fixture(scope="module")
def cards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_fake_cards(tmp_path_factory.mktemp("cards"))


@pytest.mark.parametrize("flash_attention", [True, False])
@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("variant_id", ["R1-Distill-Qwen-32B", "R1-Distill-Llama-8B", "R1-0528-671B"])
def test_the_dry_run_never_needs_more(
    variant_id: str, count: int, cards: Path, tmp_path: Path, *, flash_attention: bool
) -> None:
    """Cards that copy weights from the host for prompts, as CUDA's and CANN's do."""
    variant = CATALOGUE.variant(variant_id)
    assert variant is not None
    header = read_header(write_variant(tmp_path / "model.gguf", variant, "Q8_0"))
    load = load_of(header, header.shape())
    wish = Wish(4, 8192, KvType.F16, flash_attention, 512)
    free = CARD_GIB[variant_id][0 if flash_attention else 1] * GIB // count
    rooms = tuple(Room(f"nvidia:{i}", free, GIB, DEVICE, i) for i in range(count))
    found = place_with_host(load, wish, rooms, Room(HOST, 1024 * GIB, 16 * GIB))
    assert isinstance(found, Offloaded)
    placed = found.placed
    environment = shown(len(placed.rooms), FAKE_CARDS_OFFLOAD="1", FAKE_CARDS_ASYNC="1")
    layers = variant.shape.layers + 1 - found.host_layers
    where = Offload(layers, placed.tensor_split, (cards,), environment, experts_on_host=found.experts_on_host)
    (laid_out,) = dry_run(header, [Opening(4, 8192, flash_attention=flash_attention)], where)
    assert isinstance(laid_out, DryRun)
    names = [f"CUDA{i}" for i in range(len(placed.rooms))]
    for line, name in zip(placed.memory, [*names, HOST], strict=True):
        real = laid_out.on(name)
        assert line.total_bytes - line.reserve_bytes >= real.total_bytes * 0.99
        assert line.total_bytes <= line.available_bytes
    weights = sum(line.weights_bytes for line in placed.memory)
    assert weights == pytest.approx(header.tensor_bytes, rel=0.001)
    # Several cards each have room for the copy, which only the first of them makes.
    assert sum(line.total_bytes - line.reserve_bytes for line in placed.memory) <= laid_out.total_bytes * 1.06


def test_a_file_is_opened_with_a_part_on_the_host_only_when_asked(tmp_path: Path) -> None:
    variant = CATALOGUE.variant("R1-Distill-Qwen-14B")
    assert variant is not None
    header = read_header(write_variant(tmp_path / "model.gguf", variant, "Q8_0"))
    box = build("1 T4 15 / host 64")
    alone = fit_installed(header, box, 4, 8192)
    assert (alone.devices, alone.host_layers) == ((), 0)
    part = fit_installed(header, box, 4, 8192, offload=True)
    assert part.devices == ("nvidia:0",)
    assert 0 < part.host_layers < 48
    assert part.gpu_layers == 49 - part.host_layers == sum(part.tensor_split)
    assert part.decode_tokens_per_s is not None
    assert any("layers lie in the host's memory" in note for note in part.notes)
    roomy = build("1 L20 44.5 / host 64")
    assert fit_installed(header, roomy, 4, 8192, offload=True) == fit_installed(header, roomy, 4, 8192)
