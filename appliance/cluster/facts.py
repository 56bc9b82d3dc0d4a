"""What boxes tell each other of their hardware, made from a snapshot, and made into one again. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from appliance.cluster.wire import BoxDevice, BoxHardware
from drivers.types import Device, HardwareSnapshot, Health, Host

MOST_DEVICES = 64


def hardware_of(snapshot: HardwareSnapshot, engines: Mapping[str, str]) -> BoxHardware:
    """As it is told: cards that answer and are whole, the host's memory, the big engines with their versions."""
    usable = [device for device in snapshot.devices if device.health is not Health.CRITICAL and not device.partitioned]
    return BoxHardware(
        devices=tuple(
            BoxDevice(
                vendor=device.vendor,
                name=device.name[:128],
                index=device.index,
                chip=device.chip,
                memory_total_bytes=device.memory_total_bytes,
                memory_free_bytes=device.memory_free_bytes,
                unified_memory=device.unified_memory,
                compute_capability=device.compute_capability,
            )
            for device in usable[:MOST_DEVICES]
        ),
        host_available_bytes=snapshot.host.memory_available_bytes,
        host_total_bytes=snapshot.host.memory_total_bytes,
        engines=dict(engines),
    )


def snapshot_of(hardware: BoxHardware) -> HardwareSnapshot:
    """As a plan takes it."""
    return HardwareSnapshot(
        host=Host(memory_available_bytes=hardware.host_available_bytes, memory_total_bytes=hardware.host_total_bytes),
        devices=tuple(
            Device(
                vendor=device.vendor,
                index=number if device.index is None else device.index,
                name=device.name,
                chip=device.chip,
                memory_total_bytes=device.memory_total_bytes,
                memory_free_bytes=device.memory_free_bytes,
                unified_memory=device.unified_memory,
                compute_capability=device.compute_capability,
                health=Health.OK,
            )
            for number, device in enumerate(hardware.devices)
        ),
    )
