"""What is wrong with one NVIDIA card, judged from its figures: health, words for throttling, findings. Pure.

Bits and numbers: NVIDIA's nvml.h. NVML has no word for health: it follows from what the card says of itself here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from drivers.nvidia_errors import GPU_IS_LOST, RESET_REQUIRED, SOURCE
from drivers.nvidia_reading import NvmlDevice
from drivers.nvidia_xid import XidEvent, XidTable
from drivers.types import Device, DeviceFault, Finding, Health, MemoryErrors, Severity

THROTTLE: Mapping[int, tuple[str, str]] = {
    0x08: ("hw_slowdown", "the card protects itself: too hot, or not enough power"),
    0x20: ("sw_thermal", "the driver cools it: it is near its highest temperature"),
    0x40: ("hw_thermal", "it is too hot"),
    0x80: ("hw_power_brake", "the power supply asks for less"),
}
"""The bits that are alarming. Idle (1), set clocks (2), the power limit (4) and the like are everyday."""

RECOVERY: Mapping[int, tuple[str, str]] = {
    0: ("none", ""),
    1: ("gpu_reset", "Stop the programs on the card and run nvidia-smi --gpu-reset -i {index}."),
    2: ("node_reboot", "Reboot the machine."),
    3: ("drain_p2p", "Stop the programs that let cards read each other's memory, then start them again."),
    4: ("drain_and_reset", "Stop all programs on the joined cards, then run nvidia-smi --gpu-reset -i {index}."),
    5: ("recover_imex_domain", "Restart the IMEX service of the machines that share memory."),
    6: ("bus_reset", "Stop the programs on the card and reset its PCI bus, or reboot."),
    7: ("system_reboot", "Reboot the machine."),
}
"""Field 230 of NVML: what the card needs to work again."""

_DRAIN_P2P = 3


def throttle_words(mask: int | None) -> tuple[str, ...]:
    """The alarming reasons for a lower clock, in NVML's words."""
    return tuple(word for bit, (word, _) in THROTTLE.items() if mask is not None and mask & bit)


def recovery_word(number: int | None) -> str | None:
    """``none``, ``gpu_reset`` and so on; a number that no source explains as ``action_9``."""
    if number is None:
        return None
    return RECOVERY[number][0] if number in RECOVERY else f"action_{number}"


def memory_errors(answer: NvmlDevice) -> MemoryErrors | None:
    """Counters and repairs; ``None`` when the card tells none of them."""
    ecc, rows = answer.ecc, answer.remapped_rows
    pending = bool(rows[2]) if rows is not None else answer.retirement_pending
    found = MemoryErrors(
        corrected=ecc.corrected if ecc else None,
        uncorrected=ecc.uncorrected if ecc else None,
        corrected_total=ecc.corrected_total if ecc else None,
        uncorrected_total=ecc.uncorrected_total if ecc else None,
        retired_pages=answer.retired_pages,
        remapped_rows=rows[0] + rows[1] if rows is not None else None,
        repair_pending=pending,
        repair_failed=bool(rows[3]) if rows is not None else None,
    )
    return None if found == MemoryErrors() else found


def card_health(answer: NvmlDevice, faults: Sequence[DeviceFault]) -> Health:
    """Critical: lost or waiting for a reset. Alarm: it says or its log says that it needs help. Warning: it slows
    itself down or a repair waits. A card that answers without any of this is OK."""
    if {GPU_IS_LOST, RESET_REQUIRED} & set(answer.errors.values()):
        return Health.CRITICAL
    memory = memory_errors(answer) or MemoryErrors()
    action = answer.recovery_action or 0
    grave = any(fault.severity is Severity.ERROR for fault in faults)
    if (action and action != _DRAIN_P2P) or memory.repair_failed or memory.uncorrected or grave:
        return Health.ALARM
    doubtful = any(fault.severity is Severity.WARNING for fault in faults)
    if throttle_words(answer.throttle_mask) or memory.repair_pending or action or doubtful:
        return Health.WARNING
    return Health.OK


def sample_health(throttle_mask: int | None, recovery_action: int | None) -> Health:
    """The part of the health that a sample sees."""
    if recovery_action and recovery_action != _DRAIN_P2P:
        return Health.ALARM
    return Health.WARNING if throttle_words(throttle_mask) or recovery_action else Health.OK


def health_findings(answer: NvmlDevice, device: Device) -> list[Finding]:
    """What the operator should know of a card that answers."""
    memory = device.memory_errors or MemoryErrors()
    where = f"Card {device.index} ({device.name})"
    findings: list[Finding] = []

    def add(code: str, message: str, hint: str, severity: Severity = Severity.WARNING) -> None:
        findings.append(Finding(code, f"{where} {message}", hint, severity, SOURCE, device.key))

    action = answer.recovery_action or 0
    if action:
        hint = RECOVERY[action][1].format(index=device.index) if action in RECOVERY else "Run nvidia-smi -q."
        message = f"says that it needs help: {device.recovery_action}."
        add("recovery_needed", message, hint, Severity.WARNING if action == _DRAIN_P2P else Severity.ERROR)
    if memory.repair_failed:
        message = "has bad memory and no spare rows left to replace it."
        add("memory_repair_failed", message, "The card has to be replaced: ask the seller.", Severity.ERROR)
    elif memory.repair_pending:
        message = "has bad memory that is replaced at its next reset."
        hint = f"Stop the programs on it and run nvidia-smi --gpu-reset -i {device.index}, or reboot."
        add("memory_repair_pending", message, hint)
    if memory.uncorrected:
        count = f"{memory.uncorrected} time{'s' if memory.uncorrected != 1 else ''}"
        message = f"lost data in its memory {count} since the driver was loaded."
        hint = f"Stop the programs on it and run nvidia-smi --gpu-reset -i {device.index}; if it comes again: seller."
        add("ecc_uncorrected", message, hint, Severity.ERROR)
    if device.throttle_reasons:
        said = dict(THROTTLE.values())
        reasons = "; ".join(f"{word}: {said[word]}" for word in device.throttle_reasons)
        heat = "" if device.temperature_celsius is None else f" at {device.temperature_celsius:g} °C"
        hint = "Check fans, air and dust, the power cables and the power supply; nvidia-smi -q -d PERFORMANCE."
        add("throttled", f"runs slower than it could{heat} ({reasons}).", hint)
    return findings + _remarks(answer, device, where)


def told_once(findings: Sequence[Finding]) -> list[Finding]:
    """The findings with what is set alike on several cards, and has one fix, in one of them."""
    asleep = [finding for finding in findings if finding.code == "persistence_off"]
    if len(asleep) < 2:
        return list(findings)
    message = f"{len(asleep)} cards are put to sleep whenever no program uses them (persistence mode is off)."
    one = Finding("persistence_off", message, asleep[0].hint, Severity.INFO, SOURCE)
    place = findings.index(asleep[0])
    kept = [finding for finding in findings if finding not in asleep]
    return [*kept[:place], one, *kept[place:]]


def _remarks(answer: NvmlDevice, device: Device, where: str) -> list[Finding]:
    """What is so on purpose, but good to know."""
    findings: list[Finding] = []

    def add(code: str, message: str, hint: str | None, severity: Severity = Severity.INFO) -> None:
        findings.append(Finding(code, f"{where} {message}", hint, severity, SOURCE, device.key))

    if answer.persistence == 0 and not device.unified_memory:
        message = "is put to sleep whenever no program uses it (persistence mode is off): each start takes seconds."
        add("persistence_off", message, "Enable the service nvidia-persistenced.")
    if answer.virtualization == 2:
        message = "is a part of a card, given to this virtual machine (vGPU): its memory is that of the profile."
        add("vgpu_guest", message, "Without a licence it slows down after a while: nvidia-smi -q shows License Status.")
    if answer.memory_numa_node is not None and not device.unified_memory:
        message = (
            f"offers its memory as NUMA node {answer.memory_numa_node} to the system too: what that keeps there counts"
            " as used."
        )
        add("memory_is_numa_node", message, "See numactl -H; what is free is as exact as the system's own count.")
    if device.partitioned and not answer.instances:
        message = "is set to be cut into parts (MIG), but has no part: nothing can run on it."
        hint = "Make parts with nvidia-smi mig -cgi ... -C, or turn MIG off: nvidia-smi -i N -mig 0."
        add("mig_without_instances", message, hint.replace("N", str(device.index), 1), Severity.WARNING)
    if answer.mig_mode is not None and answer.mig_pending not in (None, answer.mig_mode):
        turn = "on" if answer.mig_pending else "off"
        add("mig_change_pending", f"turns MIG {turn} at its next reset.", "Reset the card, or reboot.")
    return findings


def xid_findings(events: Sequence[XidEvent], device: Device, table: XidTable) -> list[Finding]:
    """Findings of the log's lines about one card; a program's own faults stay with the device alone."""
    findings: list[Finding] = []
    for event in reversed(events):
        known = table.get(event.code)
        severity = Severity(known.severity) if known is not None else Severity.WARNING
        if severity is Severity.INFO:
            continue
        when = f" at {event.time}" if event.time else " since the machine was started"
        place = f"Card {device.index} ({device.name})" if device.index is not None else device.name
        said = known.meaning if known is not None else f'it says "{event.text}".'
        message = f"{place} reported Xid {event.code}{when}: {said}"
        hint = table.actions[known.action] if known is not None else "Look the number up in NVIDIA's Xid catalogue."
        code = known.finding if known is not None else "xid_reported"
        findings.append(Finding(code, message, hint, severity, SOURCE, device.key))
    return findings
