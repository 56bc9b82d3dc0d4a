"""Snapshots for tests: a full one, any at all (hypothesis), and what the machines of the planner's tests have."""

from __future__ import annotations

import dataclasses
import types
import typing
from enum import Enum
from typing import Any

from hypothesis import strategies as st

from drivers.snapshot_json import RANGES
from drivers.types import (
    SNAPSHOT_SCHEMA,
    Device,
    DeviceFault,
    DeviceLayers,
    DeviceLink,
    DeviceProcess,
    Disk,
    Finding,
    HardwareSnapshot,
    Health,
    Host,
    Layer,
    LayerReport,
    LayerState,
    LinkKind,
    MemoryErrors,
    Severity,
    Software,
    Vendor,
)

FULL = HardwareSnapshot(
    host=Host(
        hostname="box",
        architecture="aarch64",
        os_name="openEuler 22.03",
        kernel="5.10.0",
        cpu_model="HiSilicon Kunpeng 920 (TaiShan v110)",
        cpu_cores=96,
        cpu_threads=96,
        memory_total_bytes=512 << 30,
        memory_available_bytes=471 << 30,
        disks=(Disk("/", "ext4", 1 << 40, 1 << 39),),
    ),
    devices=(
        Device(
            Vendor.ASCEND,
            0,
            "Ascend 310P3",
            chip="310P3",
            card_id=32768,
            chip_id=0,
            pci_address="0000:81:00.0",
            numa_node=1,
            memory_kind="ddr",
            memory_total_bytes=44280 << 20,
            memory_free_bytes=43000 << 20,
            health=Health.OK,
            utilization_percent=0.0,
            temperature_celsius=51.0,
            driver_version="25.2.0",
            node="/dev/davinci0",
            layers=DeviceLayers(LayerState.OK, LayerState.OK, LayerState.OK),
            firmware_version="7.5.0.1.129",
            memory_reserved_bytes=512 << 20,
            power_limit_watts=72.5,
            clock_mhz=1080,
            memory_clock_mhz=1600,
            throttle_reasons=("hw_thermal",),
            recovery_action="reset",
            faults=(DeviceFault("80E01801", "A meaning.", "An action.", Severity.ERROR), DeviceFault("8C1F8609")),
            memory_errors=MemoryErrors(1, 2, 3, (1 << 64) - 1, 5, 6, True, False),
            links=(DeviceLink("ascend:32768.1", LinkKind.PIX), DeviceLink("nvidia:7", LinkKind.NVLINK, 18)),
            processes=(DeviceProcess(4711, "python3", 1 << 30), DeviceProcess(1)),
            unsupported=("power_watts",),
        ),
        Device(Vendor.NVIDIA, None, "NVIDIA card", health=Health.CRITICAL),
        Device(Vendor.NVIDIA, 1, "NVIDIA H20", partitioned=True),
        Device(Vendor.NVIDIA, None, "MIG 1g.12gb", card_id=1, chip_id=7, selector="MIG-1", parent="nvidia:1"),
    ),
    findings=(Finding("device_lost", "Lost.", "Look.", Severity.ERROR, "nvidia", "nvidia:?"),),
    layers=(
        LayerReport(Vendor.ASCEND, Layer.PCI, LayerState.OK, "1 card"),
        LayerReport(Vendor.NVIDIA, Layer.LIBRARY, LayerState.BROKEN, None, ("device_lost",)),
    ),
    software=(Software("cann", "8.5.0", "/usr/local/Ascend/cann/version.info"),),
)


def any_of(kind: type[Any], **given: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Any value of a dataclass with its numbers in their ranges; ``given`` instead of what the types say."""
    hints = typing.get_type_hints(kind)
    ranges = RANGES.get(kind, {})
    fields = {
        field.name: _any(hints[field.name], ranges.get(field.name))
        for field in dataclasses.fields(kind)
        if field.name not in given
    }
    return st.builds(kind, **(fields | given))


def _any(hint: Any, limits: tuple[float, float] | None) -> st.SearchStrategy[Any]:
    arguments = typing.get_args(hint)
    if isinstance(hint, types.UnionType):
        return st.one_of(*(st.none() if one is type(None) else _any(one, limits) for one in arguments))
    if typing.get_origin(hint) is tuple:
        return st.lists(_any(arguments[0], None), max_size=2).map(tuple)
    if dataclasses.is_dataclass(hint):
        return any_of(typing.cast("type[Any]", hint))
    if issubclass(hint, Enum):
        return st.sampled_from(hint)
    if hint is bool:
        return st.booleans()
    if hint is str:
        return st.text(max_size=8)
    assert limits is not None, "a number without a range"
    low, high = limits
    if hint is int:
        return st.integers(int(low), int(high))
    assert hint is float
    return st.floats(low, high, allow_nan=False)


def _consistent(device: Device) -> Device:
    """No part larger than the whole."""
    total = device.memory_total_bytes
    parts = {"memory_free_bytes": device.memory_free_bytes, "memory_reserved_bytes": device.memory_reserved_bytes}
    if total is None:
        return device
    return dataclasses.replace(device, **{name: part and min(part, total) for name, part in parts.items()})  # type: ignore[arg-type]


def _consistent_host(host: Host) -> Host:
    total, available = host.memory_total_bytes, host.memory_available_bytes
    return (
        host if total is None else dataclasses.replace(host, memory_available_bytes=available and min(available, total))
    )


VENDOR_NAMES = st.sampled_from(Vendor)
ADDRESSES = st.none() | st.from_regex(r"[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]", fullmatch=True)
DEVICES = any_of(Device, vendor=VENDOR_NAMES, pci_address=ADDRESSES).map(_consistent)
SNAPSHOTS = any_of(
    HardwareSnapshot,
    host=any_of(Host).map(_consistent_host),
    devices=st.lists(DEVICES, max_size=3).map(tuple),
    layers=st.lists(any_of(LayerReport, vendor=VENDOR_NAMES), max_size=2).map(tuple),
    schema=st.just(SNAPSHOT_SCHEMA),
)
"""Any snapshot that may be written and has to be read back as it was."""
