"""Devices from what NVML said of a card, from what it did not say, and from the bus alone. Pure.

Rules of memory and MIG: NVIDIA's nvml.h and the reports nvitop #208, gpud #1170, netdata #15755, gpustat #179.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from drivers.host import Memory
from drivers.nvidia_errors import BENIGN_CALL_ERRORS, GPU_IS_LOST, INVALID_ARGUMENT, NO_PERMISSION, RESET_REQUIRED
from drivers.nvidia_ground import CONTROL_NODE, JETSON_NODES, Jetson, NvidiaGround
from drivers.nvidia_health import card_health, memory_errors, recovery_word, throttle_words
from drivers.nvidia_ids import NVIDIA_NAMES
from drivers.nvidia_reading import NvmlDevice, NvmlInstance, NvmlProcess, NvmlReading
from drivers.pci import PciFunction, normalize_address
from drivers.types import Device, DeviceFault, DeviceLayers, DeviceLink, DeviceProcess, Health, LayerState, Vendor

HELD_BY_OTHERS = frozenset({"vfio-pci", "nouveau"})
"""Kernel drivers whose cards NVIDIA's own does not see and does not count."""

_UNIFIED_NAME = re.compile(r"\b(?:GB10|Orin|Xavier|Thor)\b", re.IGNORECASE)
"""Parts whose GPU uses the host's memory. Only these: "not supported" on any other card means unknown. A GH200 or
GB200 has HBM of its own, which NVML tells."""
_UNIFIED_PCI_IDS = frozenset({0x2E12})

_FIELDS: Mapping[str, str] = {
    "uuid": "uuid",
    "pci": "pci_address",
    "vbios": "firmware_version",
    "compute_capability": "compute_capability",
    "temperature": "temperature_celsius",
    "power": "power_watts",
    "power_limit": "power_limit_watts",
    "utilization": "utilization_percent",
    "clock": "clock_mhz",
    "memory_clock": "memory_clock_mhz",
    "throttle_old": "throttle_reasons",
    "recovery": "recovery_action",
    "memory_v2": "memory_reserved_bytes",
    "processes_old": "processes",
    "ecc_corrected": "memory_errors.corrected",
    "ecc_uncorrected": "memory_errors.uncorrected",
    "ecc_corrected_total": "memory_errors.corrected_total",
    "ecc_uncorrected_total": "memory_errors.uncorrected_total",
    "retired_pages": "memory_errors.retired_pages",
    "remapped_rows": "memory_errors.remapped_rows",
}
"""The field of ``Device`` that stays unknown when a question is not supported, by the child's word."""
_WITH_SUCCESSOR = {"memory_v2": "memory", "throttle": "throttle_old", "processes": "processes_old"}
"""Questions that an older call answers too: only that one's failure counts."""
_OF_THE_CARD = (
    "utilization_percent",
    "temperature_celsius",
    "power_watts",
    "power_limit_watts",
    "clock_mhz",
    "memory_clock_mhz",
    "throttle_reasons",
    "recovery_action",
    "memory_errors",
    "links",
)
"""What a MIG instance does not have for itself."""


@dataclass(frozen=True, slots=True)
class Places:
    """Which card of the library is which function of the bus. ``silent`` are functions of cards that it counts but
    that gave no answer, by index; ``unlisted`` those that it does not count or that were not reached."""

    silent: Mapping[int, PciFunction]
    unlisted: tuple[PciFunction, ...]


def is_unified(name: str | None, pci_device_id: int | None) -> bool:
    """Whether a card is known to use the host's memory."""
    return pci_device_id in _UNIFIED_PCI_IDS or _UNIFIED_NAME.search(name or "") is not None


def place(reading: NvmlReading, ground: NvidiaGround) -> Places:
    """Match cards with functions by address. NVML counts in bus order: a silent card is matched when as many
    functions are left over (or lost on the bus) as cards are silent, or when all cards are where that order puts them;
    else nothing is said."""
    functions = ground.on_bus
    own = sorted((one for one in functions if one.driver not in HELD_BY_OTHERS), key=lambda one: one.address)
    answered = {device.index: normalize_address(device.pci_bus_id) for device in reading.devices if device.pci_bus_id}
    count = reading.start.count if reading.start is not None else None
    silent = sorted(device.index for device in reading.devices if device.error is not None)
    left = [one for one in own if one.address not in answered.values()]
    matched: dict[int, PciFunction] = {}
    in_order = count == len(own) and all(
        0 <= index < len(own) and own[index].address == address for index, address in answered.items()
    )
    if in_order:
        matched = {index: own[index] for index in range(len(own)) if index not in answered}
    else:
        gone = [one for one in left if one.address in ground.lost]
        for candidates in (left, gone):
            if len(silent) == len(candidates):
                matched = dict(zip(silent, candidates, strict=True))
                break
    told = {device.index for device in reading.devices}
    covered = {one.address for index, one in matched.items() if index in told} | set(answered.values())
    unlisted = tuple(one for one in functions if one.address not in covered)
    return Places(matched, unlisted)


def card_device(
    answer: NvmlDevice,
    ground: NvidiaGround,
    *,
    driver_version: str | None,
    host_memory: Callable[[], Memory],
    faults: tuple[DeviceFault, ...] = (),
    links: tuple[DeviceLink, ...] = (),
) -> Device:
    """A card that answered."""
    fallback = NVIDIA_NAMES.get(answer.pci_device_id) if answer.pci_device_id is not None else None
    name = answer.name or (f"NVIDIA {fallback}" if fallback else "NVIDIA card")
    unified = is_unified(name, answer.pci_device_id)
    total, free = answer.memory_total_bytes or None, answer.memory_free_bytes
    if unified:
        # NVML answers "not supported" here, or zero, or figures that reporters found wrong; the host's are right.
        memory = host_memory()
        total, free = memory.total_bytes, memory.available_bytes
    capability = answer.compute_capability
    address = normalize_address(answer.pci_bus_id) if answer.pci_bus_id else None
    function = ground.function_at(address)
    node, node_state = _node(ground, answer.minor_number, answered=True)
    return Device(
        vendor=Vendor.NVIDIA,
        index=answer.index,
        name=name,
        chip=_short_name(name) or fallback,
        uuid=answer.uuid,
        pci_address=address,
        numa_node=function.numa_node if function is not None else None,
        memory_total_bytes=total,
        memory_free_bytes=free if total is not None else None,
        memory_reserved_bytes=None if unified else answer.memory_reserved_bytes,
        unified_memory=unified,
        compute_capability=f"{capability[0]}.{capability[1]}" if capability is not None else None,
        health=card_health(answer, faults),
        utilization_percent=answer.utilization_percent,
        temperature_celsius=answer.temperature_celsius,
        power_watts=_watts(answer.power_milliwatts),
        power_limit_watts=_watts(answer.power_limit_milliwatts),
        clock_mhz=answer.clock_mhz,
        memory_clock_mhz=answer.memory_clock_mhz,
        throttle_reasons=throttle_words(answer.throttle_mask),
        recovery_action=recovery_word(answer.recovery_action),
        driver_version=driver_version,
        firmware_version=answer.vbios_version,
        faults=faults,
        memory_errors=memory_errors(answer),
        links=links,
        processes=_processes(answer.processes),
        partitioned=answer.mig_mode == 1,
        node=node,
        layers=DeviceLayers(_pci_state(ground, function), node_state, LayerState.OK),
        unsupported=_unsupported(answer, unified=unified),
    )


def instance_device(instance: NvmlInstance, card: Device) -> Device:
    """A MIG instance of ``card``: a device of its own memory on a card that takes no work itself."""
    answered = instance.error is None
    total = instance.memory_total_bytes or None
    device = Device(
        vendor=Vendor.NVIDIA,
        index=None,
        card_id=card.index,
        chip_id=instance.instance,
        name=instance.name if instance.name and "MIG" in instance.name else f"{card.name} MIG {_profile(instance)}",
        chip=card.chip,
        uuid=instance.uuid,
        selector=instance.uuid,
        parent=card.key,
        pci_address=card.pci_address,
        numa_node=card.numa_node,
        memory_total_bytes=total,
        memory_free_bytes=instance.memory_free_bytes if total is not None else None,
        memory_reserved_bytes=instance.memory_reserved_bytes,
        compute_capability=card.compute_capability,
        health=card.health if answered else Health.UNKNOWN,
        driver_version=card.driver_version,
        processes=_processes(instance.processes),
        node=card.node,
        layers=replace(card.layers, library=LayerState.OK if answered else LayerState.BROKEN),
    )
    return replace(device, unsupported=_OF_THE_CARD) if answered else device


def silent_device(
    function: PciFunction | None,
    ground: NvidiaGround,
    *,
    index: int | None = None,
    error: int | None = None,
    faults: tuple[DeviceFault, ...] = (),
    library: LayerState = LayerState.BROKEN,
) -> Device:
    """A card that gives no answer: the library counts it (``index``, ``error``), or the bus alone shows it."""
    chip = function.chip if function is not None else None
    address = function.address if function is not None else None
    lost = address in ground.lost or error in (GPU_IS_LOST, RESET_REQUIRED)
    node, node_state = _node(ground, ground.minors.get(address) if address is not None else None, answered=False)
    if chip is None and function is not None:
        name = f"NVIDIA card {function.vendor_id:04x}:{function.device_id:04x}"
    else:
        name = f"NVIDIA {chip}" if chip else "NVIDIA card"
    return Device(
        vendor=Vendor.NVIDIA,
        index=index,
        name=name,
        chip=chip,
        pci_address=address,
        numa_node=function.numa_node if function is not None else None,
        health=Health.CRITICAL if lost else Health.UNKNOWN,
        faults=faults,
        node=node,
        layers=DeviceLayers(_pci_state(ground, function), node_state, library),
    )


def jetson_device(jetson: Jetson, ground: NvidiaGround, memory: Memory) -> Device:
    """A Jetson whose system has no NVML (before JetPack 6): known from the device tree alone."""
    node = next((one for one in JETSON_NODES if ground.nodes.get(one).exists), None)
    usable = node is not None and ground.nodes.get(node).usable
    state = LayerState.UNKNOWN if node is None else LayerState.OK if usable else LayerState.BROKEN
    return Device(
        vendor=Vendor.NVIDIA,
        index=0,
        name=jetson.model or f"NVIDIA Jetson {jetson.chip}",
        chip=jetson.chip,
        memory_total_bytes=memory.total_bytes,
        memory_free_bytes=memory.available_bytes,
        unified_memory=True,
        compute_capability=jetson.compute_capability,
        node=node,
        layers=DeviceLayers(LayerState.NOT_NEEDED, state, LayerState.NOT_NEEDED),
    )


def failed_questions(answer: NvmlDevice) -> dict[str, int]:
    """Questions that a card answered with a real error: not those that it does not have, not those that another call
    answered in their place, and not what a cut-up card keeps to itself."""
    return {
        name: code
        for name, code in answer.errors.items()
        if not _benign(name, code)
        and not (name in _WITH_SUCCESSOR and _WITH_SUCCESSOR[name] not in answer.errors)
        and not (answer.mig_mode == 1 and code == NO_PERMISSION)
    }


def _benign(name: str, code: int) -> bool:
    # Some drivers call a field that they do not know an invalid argument.
    return code in BENIGN_CALL_ERRORS or (name == "recovery" and code == INVALID_ARGUMENT)


def _unsupported(answer: NvmlDevice, *, unified: bool) -> tuple[str, ...]:
    absent = {name for name, code in answer.errors.items() if _benign(name, code)}
    fields = [field for name, field in _FIELDS.items() if name in absent]
    if "memory" in absent and not unified:
        fields += ["memory_total_bytes", "memory_free_bytes"]
    repairs = [field for field in fields if field.startswith("memory_errors.")]
    if memory_errors(answer) is None and repairs:
        fields = [field for field in fields if field not in repairs] + ["memory_errors"]
    return tuple(fields)


def _pci_state(ground: NvidiaGround, function: PciFunction | None) -> LayerState:
    if function is not None:
        return LayerState.BROKEN if function.address in ground.lost else LayerState.OK
    return LayerState.NOT_NEEDED if ground.jetson is not None else LayerState.UNKNOWN


def _node(ground: NvidiaGround, minor: int | None, *, answered: bool) -> tuple[str | None, LayerState]:
    """Path and state of a card's node. Nodes need the controlling one beside them."""
    if minor is None:
        return None, LayerState.UNKNOWN
    path = f"/dev/nvidia{minor}"
    if not ground.nodes.any:
        return path, LayerState.UNKNOWN if answered or not ground.nodes.nodes else LayerState.BROKEN
    usable = ground.nodes.get(path).usable and ground.nodes.get(CONTROL_NODE).usable
    return path, LayerState.OK if usable else LayerState.BROKEN


def _processes(processes: tuple[NvmlProcess, ...] | None) -> tuple[DeviceProcess, ...]:
    return tuple(DeviceProcess(one.pid, one.name, one.memory_bytes) for one in processes or ())


def _profile(instance: NvmlInstance) -> str:
    """``1c.2g.20gb`` as NVIDIA writes it: compute slices where fewer than all, slices, memory."""
    if instance.gpu_slices is None or instance.size_mb is None:
        return f"instance {instance.instance}"
    part = ""
    if instance.compute_slices is not None and instance.compute_slices < instance.gpu_slices:
        part = f"{instance.compute_slices}c."
    return f"{part}{instance.gpu_slices}g.{round(instance.size_mb / 1024)}gb"


def _watts(milliwatts: int | None) -> float | None:
    return None if milliwatts is None else milliwatts / 1000


def _short_name(name: str) -> str:
    """``NVIDIA L20`` -> ``L20``, ``Tesla T4`` -> ``T4``, ``Orin (nvgpu)`` -> ``Orin``."""
    return name.removeprefix("NVIDIA ").removeprefix("Tesla ").removesuffix("(nvgpu)").strip()
