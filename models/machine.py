"""Turns a snapshot into the memory that plans may use: groups of like devices, and the host, each with a reserve."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from drivers.types import Device, HardwareSnapshot, Health, LayerState, Vendor
from models.gate import Chip, ChipClass, classify
from models.types import HOST

_MIB = 1024**2
_GIB = 1024**3
DEVICE_RESERVE_BYTES = 1 * _GIB
"""Kept free on every device for the driver's context, cuBLAS and memory pools: llama.cpp's own ``--fit`` keeps 1024
MiB."""
_NO_ANSWER = (LayerState.BROKEN, LayerState.WAITING, LayerState.NOT_REACHED)
_HOST_RESERVE_SHARE = 10
_HOST_RESERVE_BOUNDS = (256 * _MIB, 16 * _GIB)


_Kind = tuple[str, Chip, str | None]
"""Vendor, chip, and the key of a device that is alone in its group."""


@dataclass(frozen=True, slots=True)
class Room:
    """Memory of one device or of the host: ``available_bytes`` free now, ``reserve_bytes`` of it to be left alone."""

    name: str
    available_bytes: int
    reserve_bytes: int
    device: Device | None = None
    index: int = 0

    @property
    def unified(self) -> bool:
        return self.device is not None and self.device.unified_memory

    @property
    def usable_bytes(self) -> int:
        return self.available_bytes - self.reserve_bytes


@dataclass(frozen=True, slots=True)
class Group:
    """Devices of one kind, over which a model may be spread. ``unknown`` names those whose memory no probe could
    tell."""

    chip: Chip
    rooms: tuple[Room, ...]
    unknown: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Machine:
    """What a plan may use. ``host`` is ``None`` when its free memory is unknown."""

    groups: tuple[Group, ...]
    host: Room | None
    notes: tuple[str, ...] = ()


CPU_CHIP = Chip(ChipClass.CPU)


def read_machine(snapshot: HardwareSnapshot, usable_vendors: Collection[Vendor] | None = None) -> Machine:
    """Groups the devices of ``snapshot``.

    ``usable_vendors`` are those the installed engine was built for (``None``: all). Cards of vendors the engine cannot
    use are left out, and so are cards that do not answer, that are in a critical state, or that are split into parts,
    which are devices themselves. ``notes`` tells each with one reason. A part is a group of its own.
    """
    host = _host_room(snapshot)
    rooms: dict[_Kind, list[Room]] = {}
    unknown: dict[_Kind, list[str]] = {}
    notes: list[str] = []
    for place, device in enumerate(snapshot.devices):
        reason = _left_out(device, snapshot.devices, usable_vendors)
        if reason is not None:
            notes.append(f"{device.key} ({device.name}) is left out: {reason}.")
            continue
        # A program sees one MIG instance at a time (NVIDIA's MIG User Guide, Device Enumeration): a model is never
        # spread over several.
        kind = (device.vendor, classify(device), None if device.parent is None else device.key)
        rooms.setdefault(kind, [])
        room = _device_room(device, host, place)
        if room is None:
            unknown.setdefault(kind, []).append(device.key)
            notes.append(f"{device.key} ({device.name}) is left out: how much of its memory is free is not known.")
        else:
            rooms[kind].append(room)
    groups = tuple(
        Group(chip=kind[1], rooms=tuple(found), unknown=tuple(unknown.get(kind, ()))) for kind, found in rooms.items()
    )
    return Machine(groups=groups, host=host, notes=tuple(notes))


def _left_out(device: Device, devices: Collection[Device], usable_vendors: Collection[Vendor] | None) -> str | None:
    """Why no plan may use the device: the first reason, which explains those that would follow from it."""
    if usable_vendors is not None and device.vendor not in usable_vendors:
        return f"this engine was not built for {device.vendor}"
    if device.layers.library in _NO_ANSWER:
        return "it does not answer"
    if device.health is Health.CRITICAL:
        return "its driver reports a critical fault"
    if device.partitioned:
        parts = sum(part.parent == device.key for part in devices)
        return f"it is split, and its {parts} parts are used instead" if parts else "it is split, but has no parts"
    return None


def _host_room(snapshot: HardwareSnapshot) -> Room | None:
    available = snapshot.host.memory_available_bytes
    if available is None:
        return None
    total = snapshot.host.memory_total_bytes or available
    low, high = _HOST_RESERVE_BOUNDS
    return Room(HOST, available, min(max(total // _HOST_RESERVE_SHARE, low), high))


def _device_room(device: Device, host: Room | None, place: int) -> Room | None:
    """A device that shares the host's memory has no more than the host, and keeps the host's reserve."""
    free = device.memory_free_bytes
    if free is None:
        return None
    index = device.index if device.index is not None else place
    if not device.unified_memory:
        return Room(device.key, free, DEVICE_RESERVE_BYTES, device, index)
    if host is None:
        return None
    return Room(device.key, min(free, host.available_bytes), host.reserve_bytes + DEVICE_RESERVE_BYTES, device, index)
