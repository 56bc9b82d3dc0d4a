"""Machines in one line each, and how they are built into snapshots.

``COUNT NAME TOTAL_GIB`` for each kind of card, joined by ``+``, then ``/ host GIB``. Free memory is 98 % of an NVIDIA
card and 1.5 GiB (910B, A3: 3 GiB) less than the total of an Ascend chip; the host has 90 % available.
"""

from __future__ import annotations

from drivers.types import Device, HardwareSnapshot
from tests.models.machines import ascend, host, machine, nvidia

_NVIDIA = {
    "T4": ("Tesla T4", "7.5"),
    "L4": ("NVIDIA L4", "8.9"),
    "A10": ("NVIDIA A10", "8.6"),
    "A2": ("NVIDIA A2", "8.6"),
    "L20": ("NVIDIA L20", "8.9"),
    "L40S": ("NVIDIA L40S", "8.9"),
    "A100-40": ("NVIDIA A100-SXM4-40GB", "8.0"),
    "A100-80": ("NVIDIA A100-SXM4-80GB", "8.0"),
    "A800": ("NVIDIA A800-SXM4-80GB", "8.0"),
    "H100": ("NVIDIA H100 80GB HBM3", "9.0"),
    "H800": ("NVIDIA H800", "9.0"),
    "H20": ("NVIDIA H20", "9.0"),
    "H200": ("NVIDIA H200", "9.0"),
    "3090": ("NVIDIA GeForce RTX 3090", "8.6"),
    "4090": ("NVIDIA GeForce RTX 4090", "8.9"),
    "4090D": ("NVIDIA GeForce RTX 4090 D", "8.9"),
    "5090": ("NVIDIA GeForce RTX 5090", "12.0"),
    "PRO6000": ("NVIDIA RTX PRO 6000 Blackwell Server Edition", "12.0"),
    "GB10": ("NVIDIA GB10", "12.1"),
    "P4": ("Tesla P4", "6.1"),
    "V100": ("Tesla V100-SXM2", "7.0"),
    "K80": ("Tesla K80", "3.7"),
}
_UNIFIED = frozenset({"GB10"})
_HELD_GIB = {"310P3": 1.5, "910A": 2.0}
_USUAL_HELD_GIB = 3.0


def build(line: str) -> HardwareSnapshot:
    """The snapshot of one line."""
    cards, _, memory = line.partition("/")
    host_gib = float(memory.split()[1])
    devices: list[Device] = []
    for part in filter(None, (one.strip() for one in cards.split("+"))):
        count, name, total = part.split()
        for _ in range(int(count)):
            devices.append(_device(name, float(total), len(devices)))
    return machine(host(host_gib), *devices)


def _device(name: str, total_gib: float, index: int) -> Device:
    if name in _NVIDIA:
        title, capability = _NVIDIA[name]
        return nvidia(title, total_gib, capability, index, unified=name in _UNIFIED)
    held = _HELD_GIB.get(name, _USUAL_HELD_GIB)
    return ascend(name, total_gib - held, index, total_gib=total_gib)


LINES = (
    "/ host 4",
    "/ host 8",
    "/ host 16",
    "/ host 32",
    "/ host 64",
    "/ host 128",
    "/ host 256",
    "/ host 1024",
    "1 T4 15 / host 32",
    "2 T4 15 / host 64",
    "4 T4 15 / host 128",
    "1 A2 15 / host 32",
    "1 P4 7.6 / host 32",
    "1 K80 11 / host 64",
    "1 V100 32 / host 128",
    "1 L4 22.5 / host 64",
    "2 L4 22.5 / host 128",
    "4 L4 22.5 / host 256",
    "8 L4 22.5 / host 512",
    "1 A10 22.5 / host 64",
    "2 A10 22.5 / host 128",
    "1 3090 24 / host 64",
    "2 3090 24 / host 128",
    "1 4090 24 / host 64",
    "2 4090 24 / host 128",
    "4 4090D 24 / host 256",
    "8 4090 24 / host 512",
    "1 5090 31.8 / host 64",
    "2 5090 31.8 / host 128",
    "1 L20 44.5 / host 128",
    "2 L20 44.5 / host 256",
    "4 L20 44.5 / host 512",
    "8 L20 44.5 / host 1024",
    "1 L40S 44.5 / host 128",
    "8 L40S 44.5 / host 1024",
    "1 PRO6000 95.6 / host 256",
    "2 PRO6000 95.6 / host 256",
    "8 PRO6000 95.6 / host 1024",
    "1 A100-40 40 / host 256",
    "1 A100-80 80 / host 256",
    "8 A100-80 80 / host 1024",
    "8 A800 80 / host 2048",
    "1 H100 80 / host 512",
    "8 H100 80 / host 2048",
    "8 H800 80 / host 2048",
    "1 H20 95.6 / host 512",
    "4 H20 95.6 / host 1024",
    "8 H20 95.6 / host 2048",
    "8 H20 141 / host 2048",
    "4 H200 140 / host 1024",
    "8 H200 140 / host 2048",
    "1 GB10 119.7 / host 119.7",
    "1 4090 24 + 1 3090 24 / host 128",
    "1 A100-80 80 + 1 T4 15 / host 256",
    "1 L20 44.5 + 1 310P3 21.5 / host 256",
    "1 310P3 21.5 / host 64",
    "2 310P3 21.5 / host 64",
    "2 310P3 44 / host 128",
    "4 310P3 44 / host 256",
    "8 310P3 44 / host 512",
    "1 910B4 32 / host 256",
    "4 910B4 32 / host 512",
    "8 910B4 32 / host 1024",
    "1 910B3 64 / host 256",
    "2 910B3 64 / host 512",
    "8 910B3 64 / host 1024",
    "8 910B1 64 / host 2048",
    "2 910C 64 / host 512",
    "16 910C 64 / host 2048",
    "8 910A 32 / host 768",
    "1 950PR 112 / host 512",
)
