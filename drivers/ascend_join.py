"""Joins what DCMI, npu-smi and the PCI bus tell of the same chips into one list of devices. Pure.

A chip is one device, named by (card_id, chip_id) in both sources. What DCMI leaves unknown npu-smi fills; a chip that
is listed and does not answer, and a function on the bus that nobody lists, are devices too: their library layer is
broken.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from drivers.ascend_dcmi import Chips, power_once
from drivers.ascend_device_errors import (
    card_without_answer,
    chip_without_answer,
    chips_missing,
    chips_uncounted,
    counts_differ,
    not_passed,
)
from drivers.ascend_ground import CHIP, Ground
from drivers.ascend_tool import ToolReading
from drivers.npu_smi import MappedChip
from drivers.pci import PciFunction
from drivers.types import Device, DeviceLayers, Finding, Health, LayerState, Vendor

_SYSTEM_ON_CHIP = "310B"


@dataclass(frozen=True, slots=True)
class Joined:
    """``devices`` answer, ``silent`` do not (rows of their own); ``findings`` are about single devices."""

    devices: tuple[Device, ...] = ()
    silent: tuple[Device, ...] = ()
    findings: tuple[Finding, ...] = ()


def join(ground: Ground, chips: Chips, dcmi_complete: bool, tool: ToolReading | None) -> Joined:
    """Every chip once. ``tool`` is ``None`` when npu-smi was not asked."""
    listed = tool_devices(tool) if tool is not None else ()
    findings = list(chips.findings)
    devices = _merged(chips.devices, listed)
    silent = [(device, code) for device, code in chips.silent if all(device.key != one.key for one in devices)]
    whole = tool is not None and tool.failure is None and not tool.info.findings
    if chips.devices and listed and dcmi_complete and whole:
        told = {device.key for device, _ in chips.silent}
        by_dcmi, by_tool = [d.key for d in chips.devices], [d.key for d in listed if d.key not in told]
        if set(by_dcmi) != set(by_tool):
            findings.append(counts_differ(by_dcmi, by_tool))
    if tool is not None and not chips.silent:
        # The table leaves out a chip whose health cannot be read; the list of numbers has it.
        known = {(device.card_id, device.chip_id or 0) for device in devices}
        silent += [
            (_unlisted(chip), -8008) for chip in tool.chips if devices and (chip.card_id, chip.chip_id) not in known
        ]
        counted = sum(chips or 1 for _, chips in tool.cards)
        if devices and counted > len(devices):
            findings.append(chips_uncounted(counted, len(devices)))
    devices = tuple(_located(device, ground) for device in devices)
    rest = _unclaimed(devices, [device for device, _ in silent], ground)
    silent_devices: list[Device] = []
    for device, code in silent:
        function = rest[0] if device.pci_address is None and len(rest) == 1 else _function_of(device, ground)
        if function is not None and device.pci_address is None:
            device = replace(device, pci_address=function.address)
        device = _located(device, ground)
        silent_devices.append(device)
        if code is not None:
            findings.append(chip_without_answer(device, code, function))
    if devices and rest and len(devices) >= ground.expected and ground.nodes.in_container:
        findings.append(not_passed(rest))
    elif not silent and devices:
        for function in rest:
            row = _located(card_row(function), ground)
            silent_devices.append(row)
            findings.append(card_without_answer(function, row))
        findings += _short_cards(devices, ground)
    return Joined(devices, tuple(silent_devices), tuple(findings))


def tool_devices(tool: ToolReading) -> tuple[Device, ...]:
    """The devices of npu-smi's table with the numbers of its list."""
    numbers = {(chip.card_id, chip.chip_id): chip for chip in tool.chips}
    devices = []
    for device in tool.info.devices:
        chip = None if device.card_id is None else numbers.get((device.card_id, device.chip_id or 0))
        device = replace(device, layers=DeviceLayers(library=LayerState.OK))
        if chip is not None:
            node = device.node if chip.phy_id is None else f"{CHIP}{chip.phy_id}"
            # In the table of an A3 the index is the node's number; programs count by the logic id.
            index = chip.number if device.index is None or chip.logic_id is not None else device.index
            device = replace(device, index=index, node=node)
        devices.append(device)
    return power_once(devices)


def card_row(function: PciFunction) -> Device:
    """A card that only the PCI bus knows."""
    kind = function.chip or f"card {function.vendor_id:04x}:{function.device_id:04x}"
    return Device(
        vendor=Vendor.ASCEND,
        index=None,
        name=f"Ascend {kind}",
        chip=function.chip,
        pci_address=function.address,
        layers=DeviceLayers(pci=LayerState.OK, library=LayerState.BROKEN),
    )


def _merged(first: Sequence[Device], second: Sequence[Device]) -> tuple[Device, ...]:
    """The first source's devices completed by the second's, then those that only the second has."""
    others = {device.key: device for device in second}
    keys = {device.key for device in first}
    joined = [_completed(device, others[device.key]) if device.key in others else device for device in first]
    return power_once([*joined, *(device for device in second if device.key not in keys)])


def _completed(device: Device, other: Device) -> Device:
    """``device`` with what it does not know from ``other``; memory's kind, size and free part belong together."""
    if device.memory_total_bytes is None:
        device = replace(
            device,
            memory_kind=other.memory_kind,
            memory_total_bytes=other.memory_total_bytes,
            memory_free_bytes=other.memory_free_bytes,
        )
    elif device.memory_free_bytes is None and device.memory_total_bytes == other.memory_total_bytes:
        device = replace(device, memory_free_bytes=other.memory_free_bytes)
    if device.chip is None and other.chip is not None:
        device = replace(device, chip=other.chip, name=other.name)
    return replace(
        device,
        index=other.index if device.index is None else device.index,
        node=device.node or other.node,
        pci_address=device.pci_address or other.pci_address,
        health=other.health if device.health is Health.UNKNOWN else device.health,
        utilization_percent=_known(device.utilization_percent, other.utilization_percent),
        temperature_celsius=_known(device.temperature_celsius, other.temperature_celsius),
        power_watts=_known(device.power_watts, other.power_watts),
        driver_version=device.driver_version or other.driver_version,
    )


def _known(one: float | None, other: float | None) -> float | None:
    return other if one is None else one


def _located(device: Device, ground: Ground) -> Device:
    """The device with what the bus and its node tell of it."""
    function = _function_of(device, ground)
    if function is not None:
        device = replace(device, numa_node=function.numa_node)
        family = function.chip
        if family in ("910A", "910C") and (device.chip or "910").startswith("910"):
            # The driver calls both the first and the third generation 910.
            device = replace(device, chip=family, name=f"Ascend {family}")
        elif device.chip is None and device.name == "Ascend" and family is not None:
            device = replace(device, chip=family, name=f"Ascend {family}")
        pci = LayerState.OK
    elif not ground.cards:
        pci = LayerState.NOT_NEEDED if (device.chip or "").startswith(_SYSTEM_ON_CHIP) else LayerState.UNKNOWN
    else:
        pci = LayerState.UNKNOWN
    node = LayerState.UNKNOWN
    if device.node is not None:
        found = ground.nodes.get(device.node)
        node = LayerState.OK if found.exists and found.usable else LayerState.BROKEN
    return replace(device, layers=replace(device.layers, pci=pci, node=node))


def _function_of(device: Device, ground: Ground) -> PciFunction | None:
    return next((one for one in ground.functions or () if one.address == device.pci_address), None)


def _unclaimed(devices: Sequence[Device], silent: Sequence[Device], ground: Ground) -> list[PciFunction]:
    """Functions that no device names. None when an answering device has no address (310B, 950 on UB): it may be any."""
    if any(device.pci_address is None for device in devices):
        return []
    addresses = {device.pci_address for device in [*devices, *silent]}
    return [function for function in ground.cards if function.address not in addresses]


def _short_cards(devices: Sequence[Device], ground: Ground) -> list[Finding]:
    found = []
    for function in ground.cards:
        seen = sum(device.pci_address == function.address for device in devices)
        if 0 < seen < function.chips:
            found.append(chips_missing(function, seen))
    return found


def _unlisted(chip: MappedChip) -> Device:
    return Device(
        vendor=Vendor.ASCEND,
        index=chip.number,
        name="Ascend",
        card_id=chip.card_id,
        chip_id=chip.chip_id,
        node=None if chip.phy_id is None else f"{CHIP}{chip.phy_id}",
        layers=DeviceLayers(library=LayerState.BROKEN),
    )
