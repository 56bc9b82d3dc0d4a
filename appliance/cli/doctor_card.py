"""One device in detail, as lines for people: all that is known of it. Pure: values in, lines out."""

from __future__ import annotations

from collections.abc import Iterator

from appliance.cli.doctor_view import Marks
from appliance.cli.output import size
from drivers.errors import printable
from drivers.types import Device, HardwareSnapshot, LayerState, MemoryErrors, Severity

_COLUMN = 14


def card_lines(device: Device, snapshot: HardwareSnapshot, *, marks: Marks) -> Iterator[str]:
    """The device: what it is, how far the way to it leads, how it is, what is wrong, who uses it, what it reaches."""
    yield printable(f"{device.key}  {device.chip or device.name}")
    for name, value in _rows(device, marks):
        if value is not None:
            yield f"  {name.ljust(_COLUMN)}{printable(value)}"
    yield from _faults(device, marks)
    for process in device.processes:
        used = "" if process.memory_bytes is None else f", {size(process.memory_bytes)}"
        yield printable(f"  {'process'.ljust(_COLUMN)}{process.pid} {process.name or '?'}{used}")
    for link in device.links:
        lanes = "" if link.lanes is None else f" x{link.lanes}"
        yield printable(f"  {'link'.ljust(_COLUMN)}{link.peer} by {link.kind.value}{lanes}")
    if device.unsupported:
        yield printable(f"  {'does not tell'.ljust(_COLUMN)}{', '.join(device.unsupported)}")
    signs = {Severity.ERROR: marks.error, Severity.WARNING: marks.warning, Severity.INFO: marks.info}
    for finding in snapshot.findings:
        if finding.device == device.key or (device.pci_address is not None and device.pci_address in finding.message):
            yield printable(f"{signs[finding.severity]} {finding.message}")
            if finding.hint:
                yield printable(f"  Fix: {finding.hint}")


def _rows(device: Device, marks: Marks) -> Iterator[tuple[str, str | None]]:
    yield "name", device.name
    yield "vendor", device.vendor
    yield "card", _number(device.card_id)
    yield "chip on card", _number(device.chip_id)
    yield "index", _number(device.index)
    yield "selector", device.selector
    yield "part of", device.parent
    yield "partitioned", "yes: its parts take the work" if device.partitioned else None
    yield "UUID", device.uuid
    yield "PCI address", device.pci_address
    yield "NUMA node", _number(device.numa_node)
    yield "node", device.node
    way = (("PCI", device.layers.pci), ("node", device.layers.node), ("library", device.layers.library))
    known = [f"{name} {marks.states[state]}" for name, state in way if state is not LayerState.UNKNOWN]
    yield "way to it", "   ".join(known) or None
    yield "memory", _memory(device)
    yield "compute", device.compute_capability
    yield "driver", device.driver_version
    yield "firmware", device.firmware_version
    yield "health", device.health.value
    yield "use", _measure(device.utilization_percent, "%")
    yield "temperature", _measure(device.temperature_celsius, "C")
    limit = _measure(device.power_limit_watts, "W")
    power = _measure(device.power_watts, "W")
    yield "power", f"{power or '-'} of {limit}" if limit else power
    memory_clock = "" if device.memory_clock_mhz is None else f", memory {device.memory_clock_mhz} MHz"
    yield "clock", None if device.clock_mhz is None else f"{device.clock_mhz} MHz{memory_clock}"
    yield "slowed by", ", ".join(device.throttle_reasons) or None
    yield "driver asks", device.recovery_action
    yield "memory errors", _errors(device.memory_errors)


def _memory(device: Device) -> str | None:
    if device.memory_total_bytes is None:
        return None
    parts = [size(device.memory_total_bytes) + (f" {device.memory_kind}" if device.memory_kind else "")]
    if device.memory_free_bytes is not None:
        parts.append(f"{size(device.memory_free_bytes)} free")
    if device.memory_reserved_bytes:
        parts.append(f"{size(device.memory_reserved_bytes)} held by the driver")
    if device.unified_memory:
        parts.append("shared with the host")
    return ", ".join(parts)


def _errors(errors: MemoryErrors | None) -> str | None:
    if errors is None:
        return None
    counts = (
        ("corrected", errors.corrected),
        ("uncorrected", errors.uncorrected),
        ("corrected ever", errors.corrected_total),
        ("uncorrected ever", errors.uncorrected_total),
        ("retired pages", errors.retired_pages),
        ("remapped rows", errors.remapped_rows),
    )
    words = [f"{count} {name}" for name, count in counts if count is not None]
    if errors.repair_pending:
        words.append("a repair waits for a reset")
    if errors.repair_failed:
        words.append("no spare memory left")
    return ", ".join(words) or None


def _faults(device: Device, marks: Marks) -> Iterator[str]:
    for fault in device.faults:
        mark = {Severity.ERROR: marks.error, Severity.WARNING: marks.warning}.get(fault.severity, marks.info)
        yield printable(f"{mark} fault {fault.code}: {fault.meaning or 'no source explains it'}")
        if fault.action:
            yield printable(f"  Fix: {fault.action}")


def _number(value: int | None) -> str | None:
    return None if value is None else str(value)


def _measure(value: float | None, unit: str) -> str | None:
    return None if value is None else f"{value:.0f} {unit}"
