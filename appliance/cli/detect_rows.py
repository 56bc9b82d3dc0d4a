"""The cells of ``r1box detect``'s table: a snapshot's devices in words, and the signs that a terminal may have.

Names and faults come from drivers, tools and files of other machines: they are shown without control characters.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from appliance.cli.output import GIB
from drivers.errors import printable
from drivers.types import Device, LayerState, MemoryErrors

_NAMED_FAULTS = 3
_MOST_CHARACTERS = 2000
"""Longest text that is shown of a message: a snapshot may come from a file."""


@dataclass(frozen=True, slots=True)
class Glyphs:
    """Signs that not every terminal has."""

    full: str
    empty: str
    between: str
    part: str
    celsius: str
    cut: str
    error: str
    states: Mapping[LayerState, str]


UNICODE = Glyphs(
    full="█",
    empty="░",
    between=" · ",
    part="└ ",
    celsius="°C",
    cut="…",
    error="✗",
    states={
        LayerState.OK: "✓",
        LayerState.BROKEN: "✗",
        LayerState.WAITING: "…",
        LayerState.NOT_REACHED: "-",
        LayerState.UNKNOWN: "?",
    },
)
ASCII = Glyphs(
    full="#",
    empty="-",
    between=", ",
    part="` ",
    celsius="C",
    cut="~",
    error="x",
    states={
        LayerState.OK: "ok",
        LayerState.BROKEN: "BROKEN",
        LayerState.WAITING: "waiting",
        LayerState.NOT_REACHED: "-",
        LayerState.UNKNOWN: "?",
    },
)
EVERY_SIGN = "█░·└°…✗✓"
"""What an encoding has to have for ``UNICODE``."""


NO_ANSWER = {
    LayerState.BROKEN: "not answering",
    LayerState.NOT_REACHED: "not answering",
    LayerState.WAITING: "starting",
}
_THROTTLES = {
    "hw_thermal": "slowed down: too hot",
    "sw_thermal": "slowed down: too hot",
    "hw_power_brake": "slowed down: too little power",
    "hw_slowdown": "slowed down: heat or power",
}
_RECOVERIES = {
    "none": None,
    "gpu_reset": "needs a reset",
    "drain_and_reset": "needs a reset",
    "bus_reset": "needs a reset",
    "node_reboot": "needs a reboot",
    "system_reboot": "needs a reboot",
    "drain_p2p": "its programs have to be started anew",
}
"""NVML's words (``drivers.nvidia_health``); others are shown as they are."""


@dataclass(frozen=True, slots=True)
class Row:
    """One device's cells. ``used`` is the share of memory in use (``None``: no bar), ``details`` go with ``health``."""

    card: str
    device: str
    chip: str
    used: float | None
    memory: str
    use: str
    temperature: str
    power: str
    health: str
    details: tuple[str, ...] = ()
    dim: bool = False


def clean(text: str) -> str:
    """One line without control characters."""
    return printable(" ".join(text.split()))[:_MOST_CHARACTERS]


def device_rows(devices: Sequence[Device], glyphs: Glyphs) -> Iterator[Row]:
    """Whole devices in the snapshot's order, the parts of one right below it; power once for each card."""
    keys = {device.key for device in devices}
    told: set[str] = set()
    for device in devices:
        if device.parent in keys:
            continue
        card = device.key if device.card_id is None else f"{device.vendor}:{device.card_id}"
        power = "" if card in told else _value(_card_power(device, devices), "W")
        told.add(card)
        parts = [part for part in devices if part.parent == device.key and part is not device]
        yield _row(device, power, glyphs, parts=len(parts))
        for part in parts:
            yield _row(part, "", glyphs, is_part=True)


def _card_power(device: Device, devices: Sequence[Device]) -> float | None:
    """Power belongs to the card: that of the first of its chips which tells it."""
    if device.card_id is None:
        return device.power_watts
    chips = (one for one in devices if (one.vendor, one.card_id) == (device.vendor, device.card_id))
    return next((chip.power_watts for chip in chips if chip.power_watts is not None), None)


def _row(device: Device, power: str, glyphs: Glyphs, *, parts: int = 0, is_part: bool = False) -> Row:
    silent = NO_ANSWER.get(device.layers.library)
    used, memory = _memory(device, bar=silent is None and not device.partitioned)
    if silent is not None and device.memory_total_bytes is None and device.pci_address:
        memory = f"PCI {device.pci_address}"
    chip = clean(device.chip or device.name)
    number = str(device.index) if device.index is not None else "-"
    if device.parent is not None:
        # its place on the card: it has no number of its own, and its name begins with the card's
        name = clean(device.name)
        chip = (glyphs.part if is_part else "") + (name[name.find("MIG") :] if "MIG" in name else chip)
        number = clean(device.key.partition(":")[2])
    card = device.card_id if device.card_id is not None else device.index
    health = device.health.value if device.health.value != "ok" else "OK"
    return Row(
        card="" if is_part else "-" if card is None else str(card),
        device=number,
        chip=chip,
        used=used,
        memory=memory,
        use=_value(device.utilization_percent, "%"),
        temperature=_value(device.temperature_celsius, glyphs.celsius),
        power=power,
        health=silent or health,
        details=tuple(_details(device, parts)),
        dim=silent is not None,
    )


def _memory(device: Device, *, bar: bool) -> tuple[float | None, str]:
    """(share in use, words)."""
    total, free = device.memory_total_bytes, device.memory_free_bytes
    if not total:
        return None, "-"
    shared = " shared" if device.unified_memory else ""
    if free is None or not bar:
        return None, f"{total / GIB:.1f} GiB{shared}"
    return (total - free) / total, f"{(total - free) / GIB:.1f} / {total / GIB:.1f} GiB{shared}"


def _value(value: float | None, unit: str) -> str:
    return "-" if value is None else f"{value:.0f} {unit}"


def _details(device: Device, parts: int) -> Iterator[str]:
    """What is to be said beside the health, in words, the worst first."""
    if parts:
        yield f"split into {parts} part{'s' if parts > 1 else ''}"
    elif device.partitioned:
        yield "split, without parts"
    for fault in device.faults[:_NAMED_FAULTS]:
        meaning = clean(fault.meaning).rstrip(".") if fault.meaning else "fault"
        yield f"{meaning} ({clean(fault.code)})"
    if len(device.faults) > _NAMED_FAULTS:
        yield f"{len(device.faults) - _NAMED_FAULTS} more faults"
    if device.memory_errors is not None:
        yield from _memory_errors(device.memory_errors)
    yield from dict.fromkeys(
        _THROTTLES.get(reason, f"slowed down: {clean(reason).replace('_', ' ')}") for reason in device.throttle_reasons
    )
    if device.recovery_action is not None:
        known = _RECOVERIES.get(device.recovery_action, f"needs: {clean(device.recovery_action).replace('_', ' ')}")
        if known is not None:
            yield known


def _memory_errors(errors: MemoryErrors) -> Iterator[str]:
    if errors.repair_failed:
        yield "memory could not be repaired"
    if errors.repair_pending:
        yield "a memory repair waits for a reset"
    if errors.uncorrected:
        yield f"{errors.uncorrected:,} uncorrected memory error{'s' if errors.uncorrected > 1 else ''}"
