"""What ``npu-smi info -t`` is asked for, and how its answers complete the devices. Pure.

Only what is still unknown and matters is asked for: the codes of a sick chip, memory, the way between chips, power
(a 310P tells none, its board's controller does), firmware, memory errors.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from drivers.ascend_device_errors import incompatible
from drivers.ascend_faults import faults
from drivers.npu_smi_topo import parse_topo
from drivers.npu_smi_values import CardValues, ChipValues, chip_of, parse_values
from drivers.types import Device, DeviceLink, Finding, Health, LinkKind

_FULL_WORTH = "hbm"
"""Memory errors are counted where they matter: DDR cards tell zeros."""


@dataclass(frozen=True, slots=True)
class Question:
    """One start of the tool: its type, and the card (and chip) it is about (``None``: all)."""

    kind: str
    card_id: int | None = None
    chip_id: int | None = None

    @property
    def arguments(self) -> tuple[str, ...]:
        """What comes after ``npu-smi info``."""
        card = () if self.card_id is None else ("-i", str(self.card_id))
        chip = () if self.chip_id is None else ("-c", str(self.chip_id))
        return ("-t", self.kind, *card, *chip)


def questions(devices: Sequence[Device]) -> tuple[Question, ...]:
    """What to ask for, the most important first."""
    asked: dict[Question, None] = {}
    for device in devices:
        if device.health not in (Health.OK, Health.UNKNOWN) and not device.faults:
            asked[Question("health", device.card_id, device.chip_id)] = None
    _ask(asked, devices, "usages", lambda device: device.memory_total_bytes is None)
    if len(devices) > 1 and not any(device.links or "links" in device.unsupported for device in devices):
        asked[Question("topo")] = None
    told = {device.card_id for device in devices if device.power_watts is not None}
    _ask(asked, devices, "common", lambda device: device.card_id not in told)
    _ask(asked, devices, "temp", lambda device: _lacks(device, "temperature_celsius"))
    _ask(asked, devices, "board", lambda device: _lacks(device, "firmware_version"))
    _ask(asked, devices, "ecc", lambda device: device.memory_kind == _FULL_WORTH and _lacks(device, "memory_errors"))
    return tuple(asked)


def with_answer(
    devices: Sequence[Device], question: Question, text: str
) -> tuple[tuple[Device, ...], tuple[Finding, ...]]:
    """The devices with what an answer adds to them; what they know already stays."""
    if question.kind == "topo":
        return with_links(devices, parse_topo(text)), ()
    values = parse_values(text)
    findings: list[Finding] = []
    completed: list[Device] = []
    on_card = sum(device.card_id == question.card_id for device in devices)
    first = next((device.key for device in devices if device.card_id == question.card_id), None)
    for device in devices:
        about = device.card_id == question.card_id and question.chip_id in (None, device.chip_id)
        alone = question.chip_id is not None or on_card == 1
        chip = (
            chip_of(values, device.card_id, device.chip_id, alone=alone)
            if about and device.card_id is not None
            else None
        )
        if chip is not None:
            device = _completed(device, chip)
        if about and question.kind == "board" and on_card > 1:
            device = _of_the_board(device, values)
        if device.key == first and device.power_watts is None and _is_of(values, question.card_id):
            device = replace(device, power_watts=values.board_power_watts)
        completed.append(device)
    if question.kind == "board" and first is not None and any(chip.compatible is False for chip in values.chips):
        findings.append(incompatible(first))
    return tuple(completed), tuple(findings)


def with_links(devices: Sequence[Device], ways: dict[tuple[int, int], LinkKind]) -> tuple[Device, ...]:
    """The matrix names chips by the number of their node, or where that is not known by their index."""
    numbers: dict[int, Device] = {}
    for device in devices:
        number = _node_number(device)
        if number is None or number in numbers:
            return tuple(devices)
        numbers[number] = device
    order = list(LinkKind)
    linked = []
    for number, device in numbers.items():
        links = [
            DeviceLink(other.key, kind)
            for place, other in numbers.items()
            if (kind := ways.get((number, place))) is not None
        ]
        linked.append(replace(device, links=tuple(sorted(links, key=lambda link: order.index(link.kind)))))
    return tuple(linked)


def _ask(asked: dict[Question, None], devices: Sequence[Device], kind: str, wanted: Callable[[Device], bool]) -> None:
    """One question for each card of which a chip wants it."""
    for device in devices:
        if device.card_id is not None and wanted(device):
            asked[Question(kind, device.card_id)] = None


def _lacks(device: Device, field: str) -> bool:
    return getattr(device, field) is None and field not in device.unsupported


def _is_of(values: CardValues, card_id: int | None) -> bool:
    return values.card_id is None or values.card_id == card_id


def _completed(device: Device, chip: ChipValues) -> Device:
    """What the device knows already is kept; memory's kind and size belong together."""
    if device.memory_total_bytes is None and chip.memory_total_bytes is not None:
        device = replace(device, memory_kind=chip.memory_kind, memory_total_bytes=chip.memory_total_bytes)
    if not device.faults and chip.fault_codes:
        texts = dict(zip(chip.fault_codes, chip.fault_texts, strict=False))
        same = len(chip.fault_codes) == len(chip.fault_texts)
        device = replace(device, faults=faults(chip.fault_codes, texts if same else {}))
    return replace(
        device,
        health=(chip.health or Health.UNKNOWN) if device.health is Health.UNKNOWN else device.health,
        utilization_percent=_first(device.utilization_percent, chip.utilization_percent),
        temperature_celsius=_first(device.temperature_celsius, chip.temperature_celsius),
        power_watts=_first(device.power_watts, chip.power_watts),
        clock_mhz=device.clock_mhz if device.clock_mhz is not None else chip.clock_mhz,
        firmware_version=device.firmware_version or chip.firmware_version,
        memory_errors=device.memory_errors or chip.memory_errors,
    )


def _of_the_board(device: Device, values: CardValues) -> Device:
    """The board's answer has no chip's number, and one firmware for all its chips."""
    only = values.chips[0] if len(values.chips) == 1 and values.chips[0].chip_id is None else None
    if only is None or not _is_of(values, device.card_id):
        return device
    return replace(device, firmware_version=device.firmware_version or only.firmware_version)


def _first(known: float | None, new: float | None) -> float | None:
    return new if known is None else known


def _node_number(device: Device) -> int | None:
    if device.node is not None:
        digits = device.node.removeprefix("/dev/davinci")
        return int(digits) if digits.isdigit() else None
    return device.index
