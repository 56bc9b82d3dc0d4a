"""The JSON Schema (draft 2020-12) of a snapshot, made from the dataclasses and the reader's limits.

``drivers/snapshot.schema.json`` is what ``schema_json`` gives; ``r1box detect --schema`` prints it. A new field needs a
line in ``DESCRIPTIONS``; the file is made anew with ``r1box detect --schema > drivers/snapshot.schema.json``.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

import msgspec

from drivers.snapshot_json import FIELDS, LENGTHS, RANGES
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
)

SCHEMA_ID = f"urn:r1box:snapshot:{SNAPSHOT_SCHEMA}"
DIALECT = "https://json-schema.org/draft/2020-12/schema"
PCI_ADDRESS = "^([0-9a-fA-F]{1,8}:)?[0-9a-fA-F]{1,2}:[0-9a-fA-F]{1,2}\\.[0-7]$"
VENDOR = "^[a-z][a-z0-9_]*$"
"""Open on purpose: a new vendor is no new schema. The reader takes the vendors that it knows."""

WORDS: tuple[type[StrEnum], ...] = (Health, Severity, Layer, LayerState, LinkKind)
"""The words that a snapshot may use, each kind in its own order."""

DESCRIPTIONS: Mapping[type[Any], Mapping[str, str]] = {
    HardwareSnapshot: {
        "schema": "Version of this form. Fields may be added to a version; none goes and none changes its meaning.",
        "host": "The machine around the cards.",
        "devices": "Every device, in the order of the vendors, then by index and card.",
        "findings": "What the operator should know, in the order in which it was found.",
        "layers": "How each layer of each vendor stands. Vendors without any trace on the machine are left out.",
        "software": "Parts of the vendors' stacks that are installed.",
    },
    Host: {
        "hostname": "The machine's own name.",
        "architecture": "Of the processor, as uname names it: x86_64, aarch64.",
        "os_name": "PRETTY_NAME of os-release(5).",
        "kernel": "Release of the kernel.",
        "cpu_model": "Name of the processor.",
        "cpu_cores": "Physical cores that this process may run on.",
        "cpu_threads": "Logical processors that this process may run on.",
        "memory_total_bytes": "Memory that this process may use: the smaller of the machine's and its cgroup's limit.",
        "memory_available_bytes": "What of it is free or can be freed at once.",
        "disks": "Mounted local file systems, each once.",
    },
    Disk: {
        "mount_point": "Where it is mounted.",
        "filesystem": "Its kind: ext4, xfs.",
        "total_bytes": "Its size.",
        "free_bytes": "What users without special rights may still fill.",
    },
    Device: {
        "vendor": "Who makes the chip: nvidia, ascend.",
        "index": "The number that selects the device for a program: CUDA's in PCI order, Ascend's logic id.",
        "name": "The driver's name of it.",
        "chip": "The chip in short: H20, 910B3, 310P3.",
        "card_id": "The vendor's id of the card. Ascend's are sparse numbers such as 32768 and never an index.",
        "chip_id": "The chip on the card, or the instance on a partitioned device.",
        "uuid": "The vendor's lasting id of this device.",
        "pci_address": "Domain, bus, device, function: 0000:81:00.0. Two devices of one card may share it.",
        "numa_node": "The NUMA node that it is attached to.",
        "memory_kind": "hbm, ddr, gddr: the memory that models use.",
        "memory_total_bytes": "Size of that memory.",
        "memory_free_bytes": "What of it is free; without what driver and firmware hold.",
        "unified_memory": "Whether it is the host's memory. Then it must not be counted twice.",
        "compute_capability": "CUDA's: 9.0.",
        "health": "The driver's verdict.",
        "utilization_percent": "How busy it is.",
        "temperature_celsius": "Of the chip.",
        "power_watts": "Drawn now. It belongs to the card and may stand on the card's first device only.",
        "driver_version": "Of the kernel's driver.",
        "selector": "The word for the visible-devices variable where the index is not it: a MIG instance's UUID.",
        "parent": "vendor:card of the device that this is a part of.",
        "partitioned": "Whether its instances are devices of their own; it takes no work itself then.",
        "node": "Its node under /dev.",
        "layers": "How far the way to it leads.",
        "firmware_version": "Of the device's firmware.",
        "memory_reserved_bytes": "What driver and firmware hold of its memory.",
        "power_limit_watts": "The most that it may draw.",
        "clock_mhz": "Of the computing units, in MHz, now.",
        "memory_clock_mhz": "Of the memory, in MHz, now.",
        "throttle_reasons": "Why it runs slower than it could; the alarming reasons alone.",
        "recovery_action": "What the driver asks for before it can be used again.",
        "faults": "What it reports now.",
        "memory_errors": "Memory errors that it has counted.",
        "links": "The best way to each other device.",
        "processes": "Programs that use it.",
        "unsupported": "Fields that this device or its driver does not have, as apart from those that failed.",
    },
    DeviceLayers: {
        "pci": "Its function on the PCI bus.",
        "node": "Its node under /dev, and whether this user may open it.",
        "library": "The answer of the vendor's library or tool.",
    },
    DeviceFault: {
        "code": "xid:79 (NVIDIA), 80E01801 (Ascend).",
        "meaning": "In plain words.",
        "action": "What to do.",
        "severity": "How much it matters.",
    },
    DeviceLink: {
        "peer": "The other device: vendor:card or vendor:card.chip.",
        "kind": "Fastest first: nvlink, sio, hccs, hccs_sw, ub, pix, pxb, phb, sys.",
        "lanes": "How many NVLinks.",
    },
    DeviceProcess: {
        "pid": "Process id as the host counts.",
        "name": "Name of the program.",
        "memory_bytes": "Device memory that it holds.",
    },
    MemoryErrors: {
        "corrected": "Single-bit errors since the driver was loaded.",
        "uncorrected": "Double-bit errors since the driver was loaded.",
        "corrected_total": "Single-bit errors over the device's life.",
        "uncorrected_total": "Double-bit errors over the device's life.",
        "retired_pages": "Pages that are no longer used.",
        "remapped_rows": "Rows that spare ones have replaced.",
        "repair_pending": "Whether a repair waits for a reset.",
        "repair_failed": "Whether there was no spare left to repair with.",
    },
    Finding: {
        "code": "Stable word for programs; docs/drivers.md lists them.",
        "message": "What is so.",
        "hint": "What to do next.",
        "severity": "How much it matters.",
        "source": "The probe that says it.",
        "device": "The device that it is about: vendor:card or vendor:card.chip.",
    },
    LayerReport: {
        "vendor": "Whose layer: nvidia, ascend.",
        "layer": "The step, each resting on the one before: pci, module, nodes, access, library, runtime, engine.",
        "state": "How it stands.",
        "detail": "A few words: 4 cards, 550.54.15.",
        "findings": "Codes of the findings that explain a state other than ok.",
    },
    Software: {
        "name": "nvidia-driver, cuda-driver, ascend-driver, ascend-firmware, cann.",
        "version": "As it names itself.",
        "path": "Where it was read.",
    },
}


def schema() -> dict[str, Any]:
    """The schema as plain values. It asks for no more than the reader does: machines are described by hand as well."""
    made = msgspec.json.schema(HardwareSnapshot)
    parts = made["$defs"]
    for kind in FIELDS:
        _complete(kind, parts[kind.__name__])
    for words in WORDS:
        part = parts[words.__name__]
        part["description"] = _plain(part["description"])
        part["enum"] = [word.value for word in words]
    snapshot = parts.pop(HardwareSnapshot.__name__)
    properties = snapshot["properties"]
    properties["schema"] = {"const": SNAPSHOT_SCHEMA, "description": properties["schema"]["description"]}
    snapshot["properties"] = {"schema": properties.pop("schema")} | properties
    snapshot["required"] = ["schema"]
    device = parts[Device.__name__]
    device["required"].remove("index")
    device["properties"]["pci_address"]["anyOf"][0]["pattern"] = PCI_ADDRESS
    for part in (device, parts[LayerReport.__name__]):
        part["properties"]["vendor"]["pattern"] = VENDOR
    head = {"$schema": DIALECT, "$id": SCHEMA_ID, "title": "Hardware of an R1 Box"}
    return head | {name: value for name, value in snapshot.items() if name != "title"} | {"$defs": parts}


def schema_json() -> str:
    """The schema as it stands in ``drivers/snapshot.schema.json``."""
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"


def _complete(kind: type[Any], part: dict[str, Any]) -> None:
    """Descriptions and limits of one dataclass."""
    part["description"] = _plain(part["description"])
    for name, values in part["properties"].items():
        values["description"] = DESCRIPTIONS[kind][name]
        if name in RANGES.get(kind, {}):
            number = values["anyOf"][0] if "anyOf" in values else values
            number["minimum"], number["maximum"] = RANGES[kind][name]
        if name in LENGTHS.get(kind, {}):
            values["maxItems"] = LENGTHS[kind][name]


def _plain(docstring: str) -> str:
    """A docstring as one line of text; Python before 3.13 keeps its indentation."""
    return " ".join(inspect.cleandoc(docstring).split()).replace("``", "")
