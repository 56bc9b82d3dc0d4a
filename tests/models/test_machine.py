"""What a snapshot leaves for plans."""

from __future__ import annotations

from dataclasses import replace

from drivers.types import Health, Vendor
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
