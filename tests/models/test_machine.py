"""What a snapshot leaves for plans."""

from __future__ import annotations

from dataclasses import replace

import pytest

from drivers.types import Device, DeviceLayers, Health, LayerState, Vendor
from models.gate import ChipClass
from models.machine import DEVICE_RESERVE_BYTES, read_machine
from tests.models.machines import GIB, ascend, gib, host, machine, nvidia


def test_devices_are_grouped_by_kind() -> None:
    mixed = machine(
        host(64),
        nvidia("Tesla T4", 15, "7.5", 0),
        nvidia("NVIDIA L4", 23, "8.9", 1),
        nvidia("Tesla T4", 15, "7.5", 2),
        ascend("310P3", 21, 0),
    )
    groups = read_machine(mixed).groups
    assert [(g.chip.chip_class, len(g.rooms)) for g in groups] == [
        (ChipClass.NVIDIA, 2),
        (ChipClass.NVIDIA, 1),
        (ChipClass.ASCEND_310P, 1),
    ]
    assert all(r.reserve_bytes == DEVICE_RESERVE_BYTES for g in groups for r in g.rooms)


def test_host_reserve_is_a_tenth_within_bounds() -> None:
    for total, reserve in [(1, 0.25), (24, 2.4), (1024, 16)]:
        room = read_machine(machine(host(total))).host
        assert room is not None
        assert room.reserve_bytes == gib(reserve) or abs(room.reserve_bytes - gib(reserve)) <= 1


def test_unknown_memory_is_never_guessed() -> None:
    card = replace(nvidia("Tesla T4", 15, "7.5"), memory_free_bytes=None)
    found = read_machine(machine(host(64), card))
    assert found.groups[0].rooms == ()
    assert found.groups[0].unknown == ("nvidia:0",)
    assert "not known" in found.notes[0]
    assert read_machine(machine(replace(host(64), memory_available_bytes=None))).host is None


def test_unified_memory_is_the_hosts() -> None:
    card = nvidia("NVIDIA GB10", 119.7, "12.1", unified=True)
    found = read_machine(machine(host(119.7, 90), card))
    room = found.groups[0].rooms[0]
    assert room.available_bytes == gib(90)
    assert found.host is not None
    assert room.reserve_bytes == found.host.reserve_bytes + GIB
    blind = read_machine(machine(replace(host(119.7), memory_available_bytes=None), card))
    assert blind.groups[0].rooms == ()


def test_faulty_cards_and_foreign_vendors_are_left_out_and_told() -> None:
    faulty = replace(nvidia("Tesla T4", 15, "7.5"), health=Health.CRITICAL)
    found = read_machine(machine(host(64), faulty, ascend("310P3", 21)), usable_vendors={Vendor.NVIDIA})
    assert found.groups == ()
    assert "critical fault" in found.notes[0]
    assert "not built for ascend" in found.notes[1]


def instance(number: int, free_gib: float) -> Device:
    """A MIG instance of the card ``nvidia:0``."""
    part = nvidia("NVIDIA A100-SXM4-80GB MIG 3g.40gb", free_gib, "8.0")
    return replace(
        part,
        index=None,
        card_id=0,
        chip_id=number,
        memory_free_bytes=gib(free_gib),
        selector=f"MIG-{number}",
        parent="nvidia:0",
    )


def test_the_parts_of_a_split_card_stand_for_it_one_by_one() -> None:
    whole = replace(nvidia("NVIDIA A100-SXM4-80GB", 80, "8.0"), partitioned=True)
    other = nvidia("NVIDIA A100-SXM4-80GB", 80, "8.0", 1)
    found = read_machine(machine(host(64), whole, other, instance(1, 39), instance(2, 39)))
    assert [[room.name for room in group.rooms] for group in found.groups] == [
        ["nvidia:1"],
        ["nvidia:0.1"],
        ["nvidia:0.2"],
    ]
    assert found.notes == (
        "nvidia:0 (NVIDIA A100-SXM4-80GB) is left out: it is split, and its 2 parts are used instead.",
    )
    empty = read_machine(machine(host(64), whole))
    assert (empty.groups, empty.notes[0].rpartition(": ")[2]) == ((), "it is split, but has no parts.")


@pytest.mark.parametrize("state", [LayerState.BROKEN, LayerState.WAITING, LayerState.NOT_REACHED])
@pytest.mark.parametrize("health", [Health.CRITICAL, Health.UNKNOWN])
def test_a_card_that_does_not_answer_has_one_note(state: LayerState, health: Health) -> None:
    """Neither "memory not known" nor "critical fault" as well: both follow from it."""
    silent = replace(
        nvidia("NVIDIA H20", 96, "9.0"),
        memory_total_bytes=None,
        memory_free_bytes=None,
        health=health,
        layers=DeviceLayers(LayerState.OK, LayerState.OK, state),
    )
    found = read_machine(machine(host(64), silent, nvidia("NVIDIA H20", 96, "9.0", 1)))
    assert found.notes == ("nvidia:0 (NVIDIA H20) is left out: it does not answer.",)
    assert [group.unknown for group in found.groups] == [()]
    assert [room.name for group in found.groups for room in group.rooms] == ["nvidia:1"]


@pytest.mark.parametrize("state", [LayerState.OK, LayerState.UNKNOWN, LayerState.NOT_NEEDED])
def test_a_card_whose_way_is_open_or_not_known_is_used(state: LayerState) -> None:
    card = replace(nvidia("NVIDIA H20", 96, "9.0"), layers=DeviceLayers(library=state))
    assert read_machine(machine(host(64), card)).notes == ()
