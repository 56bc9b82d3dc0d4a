"""Placing layers: what is placed fits, and more memory never hurts."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from models.catalogue import load_catalogue
from models.machine import DEVICE_RESERVE_BYTES, Room
from models.memory import variant_weights
from models.placement import Load, Placed, Shortfall, Wish, place_on_devices, place_on_host
from models.types import HOST, KvType
from tests.models.machines import GIB, gib, nvidia

CATALOGUE = load_catalogue()
HOST_ROOM = Room(HOST, 4096 * GIB, 16 * GIB)
PLENTY = Wish(4, 8192, KvType.F16, flash_attention=True, ubatch_tokens=512)


def load(variant_id: str, quantization: str, *, spread: int = 0) -> Load:
    variant = CATALOGUE.variant(variant_id)
    assert variant is not None
    weights = variant_weights(variant, variant.quantizations[quantization])
    mean = -(-weights.repeating_bytes // variant.shape.layers)
    return Load(weights, variant.shape, mean + mean * spread // 100)


def rooms(*free_gib: float) -> tuple[Room, ...]:
    return tuple(
        Room(f"nvidia:{i}", gib(free), DEVICE_RESERVE_BYTES, nvidia("Tesla T4", 15, "7.5", i), i)
        for i, free in enumerate(free_gib)
    )


def test_one_device_holds_all_but_the_embedding() -> None:
    placed = place_on_devices(load("R1-Distill-Qwen-7B", "Q4_K_M"), PLENTY, rooms(15), HOST_ROOM)
    assert isinstance(placed, Placed)
    card, memory = placed.memory
    assert (card.device, memory.device) == ("nvidia:0", HOST)
    assert card.weights_bytes == 4_677_120_000 - 306_561_024
    assert card.kv_bytes == 57_344 * 32_768
    assert memory.weights_bytes == 306_561_024
    # 512 tokens are rounded up to a multiple of 4 seats + 8 slots that keep what is shared + 1 to save them through.
    assert memory.compute_bytes == 13 * 4 * 152_064 + 520 * (2 * 32_768 + 2 * 4 * 3584 + 24)
    assert placed.tensor_split == (29,)


def test_two_devices_share_layers_in_proportion() -> None:
    placed = place_on_devices(load("R1-Distill-Llama-70B", "Q8_0"), PLENTY, rooms(60, 30), HOST_ROOM)
    assert isinstance(placed, Placed)
    assert sum(placed.tensor_split) == 81
    assert [r.name for r in placed.rooms] == ["nvidia:0", "nvidia:1"]
    assert placed.tensor_split[0] > 1.8 * placed.tensor_split[1]
    assert (
        sum(m.weights_bytes for m in placed.memory[:2]) >= load("R1-Distill-Llama-70B", "Q8_0").weights.on_cards_bytes
    )


def test_no_more_devices_than_needed() -> None:
    placed = place_on_devices(load("R1-Distill-Qwen-7B", "Q4_K_M"), PLENTY, rooms(15, 20, 15), HOST_ROOM)
    assert isinstance(placed, Placed)
    assert [r.name for r in placed.rooms] == ["nvidia:1"]


def test_shortfalls_have_both_numbers() -> None:
    alone = place_on_devices(load("R1-Distill-Qwen-32B", "Q8_0"), PLENTY, rooms(24), HOST_ROOM)
    assert isinstance(alone, Shortfall)
    assert alone.where == "nvidia:0"
    assert alone.needed_bytes > alone.available_bytes == 24 * GIB
    together = place_on_devices(load("R1-Distill-Qwen-32B", "Q8_0"), PLENTY, rooms(20, 20), HOST_ROOM)
    assert isinstance(together, Shortfall)
    assert together.where == "2 devices together"
    assert together.missing_bytes > 0
    poor = place_on_devices(load("R1-Distill-Qwen-7B", "Q4_K_M"), PLENTY, rooms(24), Room(HOST, GIB // 4, GIB // 4))
    assert isinstance(poor, Shortfall)
    assert poor.where == HOST


def test_host_alone() -> None:
    placed = place_on_host(load("R1-Distill-Qwen-7B", "Q4_K_M"), PLENTY, Room(HOST, 10 * GIB, GIB))
    assert isinstance(placed, Placed)
    assert placed.memory[0].weights_bytes == 4_677_120_000
    assert isinstance(place_on_host(load("R1-Distill-Qwen-7B", "BF16"), PLENTY, Room(HOST, 10 * GIB, GIB)), Shortfall)


frees = st.lists(st.floats(0.5, 100), min_size=1, max_size=8)
loads = st.sampled_from(
    [("R1-Distill-Qwen-7B", "Q8_0"), ("R1-Distill-Qwen-32B", "Q4_K_M"), ("R1-671B", "Q4_K_M"), ("R1-671B", "IQ3_M")]
)


@settings(max_examples=200)
@given(free=frees, which=loads, seats=st.integers(1, 32), context=st.sampled_from([2048, 8192, 32_768]))
def test_what_is_placed_fits_every_device_and_holds_every_layer(
    free: list[float], which: tuple[str, str], seats: int, context: int
) -> None:
    wish = Wish(seats, context, KvType.F16, flash_attention=True, ubatch_tokens=512)
    wanted = load(*which, spread=5)
    placed = place_on_devices(wanted, wish, rooms(*free), HOST_ROOM)
    if isinstance(placed, Shortfall):
        assert placed.needed_bytes > placed.available_bytes
        return
    assert sum(placed.tensor_split) == wanted.shape.layers + 1
    assert all(m.total_bytes <= m.available_bytes for m in placed.memory)
    assert sum(m.weights_bytes for m in placed.memory[:-1]) >= wanted.weights.on_cards_bytes
    assert len(placed.tensor_split) == len(placed.rooms)


@settings(max_examples=200)
@given(free=frees, which=loads, more=st.floats(0, 60), at=st.integers(0, 7), seats=st.integers(1, 16))
def test_more_memory_never_turns_a_placement_into_a_refusal(
    free: list[float], which: tuple[str, str], more: float, at: int, seats: int
) -> None:
    wish = Wish(seats, 8192, KvType.F16, flash_attention=True, ubatch_tokens=512)
    wanted = load(*which, spread=5)
    richer = list(free)
    richer[at % len(free)] += more
    if isinstance(place_on_devices(wanted, wish, rooms(*free), HOST_ROOM), Placed):
        assert isinstance(place_on_devices(wanted, wish, rooms(*richer), HOST_ROOM), Placed)
        assert isinstance(place_on_devices(wanted, wish, rooms(*free, more + 1), HOST_ROOM), Placed)
