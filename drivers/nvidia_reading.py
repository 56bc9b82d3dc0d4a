"""What the NVML child (``drivers.nvml``) prints, one JSON object a line, as values, and how it is run.

The child only measures: units are the library's own (bytes, milliwatts, MHz), errors its numbers by the word of the
question. ``drivers.nvidia`` judges. Calls and units: NVIDIA's nvml.h.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

import msgspec


class NvmlStart(msgspec.Struct, tag="start", tag_field="kind", frozen=True):
    """What the library says of itself. ``error`` is the code of a failed init, ``cuda_version`` 1000*major+10*minor,
    ``library_version`` CUDA's major and the driver (``12.550.54.15``), ``library_path`` its file as loaded."""

    error: int | None = None
    driver_version: str | None = None
    cuda_version: int | None = None
    count: int | None = None
    library_version: str | None = None
    library_path: str | None = None


class NvmlProcess(msgspec.Struct, frozen=True):
    """A program that computes on a device; ``memory_bytes`` is ``None`` when NVML says "not available"."""

    pid: int
    memory_bytes: int | None = None
    name: str | None = None


class NvmlLink(msgspec.Struct, frozen=True):
    """One NVLink. ``remote_type``: 0 a GPU, 1 an IBM NPU, 2 an NVSwitch, 255 unknown."""

    link: int
    active: bool
    remote_type: int | None = None
    remote_bus_id: str | None = None


class NvmlEcc(msgspec.Struct, frozen=True):
    """Memory errors since the driver was loaded and over the card's life."""

    corrected: int | None = None
    uncorrected: int | None = None
    corrected_total: int | None = None
    uncorrected_total: int | None = None


class NvmlInstance(msgspec.Struct, frozen=True):
    """One MIG instance: ``instance`` is its number on the card, ``error`` set when it gives no handle."""

    instance: int
    error: int | None = None
    errors: dict[str, int] = {}
    uuid: str | None = None
    name: str | None = None
    gpu_instance: int | None = None
    compute_instance: int | None = None
    size_mb: int | None = None
    multiprocessors: int | None = None
    gpu_slices: int | None = None
    compute_slices: int | None = None
    memory_total_bytes: int | None = None
    memory_free_bytes: int | None = None
    memory_reserved_bytes: int | None = None
    processes: tuple[NvmlProcess, ...] | None = None


class NvmlDevice(msgspec.Struct, tag="device", tag_field="kind", frozen=True):
    """One card as NVML tells it; ``error`` when it gives no handle, ``errors`` the failed questions by name.

    ``remapped_rows`` are corrected, uncorrected, pending, failed; ``throttle_mask`` NVML's bits; ``recovery_action``
    its number (0: none); ``mig_mode`` and ``mig_pending`` 1 for on.
    """

    index: int
    error: int | None = None
    errors: dict[str, int] = {}
    name: str | None = None
    uuid: str | None = None
    pci_bus_id: str | None = None
    pci_device_id: int | None = None
    minor_number: int | None = None
    vbios_version: str | None = None
    persistence: int | None = None
    virtualization: int | None = None
    memory_total_bytes: int | None = None
    memory_free_bytes: int | None = None
    memory_reserved_bytes: int | None = None
    memory_numa_node: int | None = None
    compute_capability: tuple[int, int] | None = None
    temperature_celsius: int | None = None
    power_milliwatts: int | None = None
    power_limit_milliwatts: int | None = None
    utilization_percent: int | None = None
    clock_mhz: int | None = None
    memory_clock_mhz: int | None = None
    throttle_mask: int | None = None
    recovery_action: int | None = None
    ecc: NvmlEcc | None = None
    remapped_rows: tuple[int, int, int, int] | None = None
    retired_pages: int | None = None
    retirement_pending: bool | None = None
    nvlinks: tuple[NvmlLink, ...] = ()
    processes: tuple[NvmlProcess, ...] | None = None
    mig_mode: int | None = None
    mig_pending: int | None = None
    instances: tuple[NvmlInstance, ...] = ()


class NvmlTopology(msgspec.Struct, tag="topology", tag_field="kind", frozen=True):
    """How near two cards are, by index: NVML's level of their common ancestor. ``error``: why a pair is not known."""

    pairs: tuple[tuple[int, int, int], ...] = ()
    error: int | None = None


class NvmlEnd(msgspec.Struct, tag="end", tag_field="kind", frozen=True):
    """The child asked everything it wanted to ask. ``cuda_library``: a program finds ``libcuda.so.1``."""

    cuda_library: bool | None = None


class NvmlInstanceSample(msgspec.Struct, frozen=True):
    """Memory of one MIG instance at one moment."""

    instance: int
    error: int | None = None
    errors: dict[str, int] = {}
    memory_total_bytes: int | None = None
    memory_free_bytes: int | None = None


class NvmlCardSample(msgspec.Struct, frozen=True):
    """What changes on one card; fields as in ``NvmlDevice``."""

    index: int
    error: int | None = None
    errors: dict[str, int] = {}
    name: str | None = None
    pci_device_id: int | None = None
    memory_total_bytes: int | None = None
    memory_free_bytes: int | None = None
    temperature_celsius: int | None = None
    power_milliwatts: int | None = None
    utilization_percent: int | None = None
    clock_mhz: int | None = None
    throttle_mask: int | None = None
    recovery_action: int | None = None
    mig: bool = False
    instances: tuple[NvmlInstanceSample, ...] = ()


class NvmlSample(msgspec.Struct, tag="sample", tag_field="kind", frozen=True):
    """One answer of the watching child (``--watch``: a start line, then one of these for each line it reads)."""

    cards: tuple[NvmlCardSample, ...] = ()


@dataclass(frozen=True, slots=True)
class NvmlReading:
    """All lines of one child. ``complete`` is false when it stopped before the end."""

    start: NvmlStart | None = None
    devices: tuple[NvmlDevice, ...] = ()
    complete: bool = False
    topology: NvmlTopology | None = None
    cuda_library: bool | None = None


_Line = NvmlStart | NvmlDevice | NvmlTopology | NvmlEnd


def parse_reading(text: str) -> NvmlReading:
    """Read the child's lines; stops at the first one that is not whole. Never raises."""
    start: NvmlStart | None = None
    devices: list[NvmlDevice] = []
    topology: NvmlTopology | None = None
    for line in text.splitlines():
        try:
            record = msgspec.json.decode(line.encode(), type=_Line)
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            break
        if isinstance(record, NvmlStart):
            start = record
        elif isinstance(record, NvmlDevice):
            devices.append(record)
        elif isinstance(record, NvmlTopology):
            topology = record
        else:
            return NvmlReading(start, tuple(devices), True, topology, record.cuda_library)
    failed = start is not None and start.error is not None
    return NvmlReading(start, tuple(devices), failed, topology)


def parse_watch_line(line: str) -> NvmlStart | NvmlSample | None:
    """One line of the watching child, ``None`` when it is none of its records. Never raises."""
    try:
        return msgspec.json.decode(line.encode(), type=NvmlStart | NvmlSample)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None


def child_argv(*, watch: bool = False) -> list[str]:
    """How to run the child: as a module in an isolated interpreter, so that no file of the current folder is imported.
    A frozen executable takes the same words (``installer.pack.frozen``)."""
    return [sys.executable, "-I", "-m", "drivers.nvml", *(["--watch"] if watch else [])]
