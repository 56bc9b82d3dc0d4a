"""Snapshots of machines for planner tests. Memory as the drivers of such cards report it free on an idle machine."""

from __future__ import annotations

from drivers.types import Device, HardwareSnapshot, Health, Host, Vendor

GIB = 1024**3


def gib(size: float) -> int:
    return int(size * GIB)


def host(total_gib: float, available_gib: float | None = None) -> Host:
    available = 0.9 * total_gib if available_gib is None else available_gib
    return Host("box", "x86_64", None, None, None, 8, 16, gib(total_gib), gib(available))


def nvidia(name: str, total_gib: float, capability: str | None, index: int = 0, *, unified: bool = False) -> Device:
    return Device(
        Vendor.NVIDIA,
        index,
        name,
        memory_total_bytes=gib(total_gib),
        memory_free_bytes=gib(total_gib * 0.98),
        unified_memory=unified,
        compute_capability=capability,
        health=Health.OK,
    )


def ascend(chip: str, free_gib: float, index: int = 0, *, total_gib: float | None = None) -> Device:
    return Device(
        Vendor.ASCEND,
        index,
        chip,
        chip=chip,
        card_id=index // 2,
        chip_id=index % 2,
        memory_total_bytes=gib(total_gib if total_gib is not None else free_gib + 1.5),
        memory_free_bytes=gib(free_gib),
        health=Health.OK,
    )


def machine(memory: Host, *devices: Device) -> HardwareSnapshot:
    return HardwareSnapshot(memory, tuple(devices))


CPU_24 = machine(host(24))
CPU_4 = machine(host(4))
T4 = machine(host(64), nvidia("Tesla T4", 15, "7.5"))
RTX_4090 = machine(host(64), nvidia("NVIDIA GeForce RTX 4090", 24, "8.9"))
GB10 = machine(host(119.7), nvidia("NVIDIA GB10", 119.7, "12.1", unified=True))
TWO_910B3 = machine(host(512), *(ascend("910B3", 62, i) for i in range(2)))
ONE_DUO_96 = machine(host(256), *(ascend("310P3", 42.5, i) for i in range(2)))
TWO_DUOS_96 = machine(host(256), *(ascend("310P3", 42.5, i) for i in range(4)))
ONE_DUO_48 = machine(host(64), *(ascend("310P3", 21, i) for i in range(2)))
FOUR_910A = machine(host(256), *(ascend("910A", 30, i) for i in range(4)))
EIGHT_H20 = machine(host(1024), *(nvidia("NVIDIA H20", 95.6, "9.0", i) for i in range(8)))
EIGHT_910B1 = machine(host(1024), *(ascend("910B1", 62, i) for i in range(8)))
ALL = {
    "cpu-24": CPU_24,
    "cpu-4": CPU_4,
    "t4": T4,
    "rtx-4090": RTX_4090,
    "gb10": GB10,
    "2x910B3": TWO_910B3,
    "1xDuo-96": ONE_DUO_96,
    "2xDuo-96": TWO_DUOS_96,
    "1xDuo-48": ONE_DUO_48,
    "4x910A": FOUR_910A,
    "8xH20": EIGHT_H20,
    "8x910B1": EIGHT_910B1,
}
