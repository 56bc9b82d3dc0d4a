"""NVIDIA cards through NVML, asked in a child process with a time limit.

The child (``drivers.nvml``) only measures; this side judges: it compares what the library says with what is on the
PCI bus and says for each gap what is missing and what to do. Init codes, memory rules and GB10: NVIDIA's nvml.h and
the reports nvitop #208, gpud #1170, netdata #15755.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec

from drivers.command import CommandFailed, FailureKind, minimal_environment, run
from drivers.host import Memory, read_memory
from drivers.nvidia_errors import (
    BENIGN_CALL_ERRORS,
    GPU_IS_LOST,
    LIBRARY_NOT_FOUND,
    RESET_REQUIRED,
    call_errors_finding,
    card_without_answer,
    driver_missing,
    handle_finding,
    init_finding,
)
from drivers.nvidia_ids import NVIDIA_NAMES, NVIDIA_PCI
from drivers.nvidia_monitor import NvidiaMonitor
from drivers.pci import PciFunction, list_accelerators, normalize_address
from drivers.support import VendorSupport
from drivers.types import Device, Finding, Health, ProbeResult, Severity, Vendor

SOURCE = "nvidia"
DEFAULT_TIMEOUT_S = 10.0
"""Without the persistence daemon the first question wakes every card, which takes seconds."""

_UNIFIED_NAME = re.compile(r"\b(?:GB10|Orin|Xavier|Thor)\b", re.IGNORECASE)
"""Parts whose GPU uses the host's memory. Only these: "not supported" on any other card means unknown."""
_UNIFIED_PCI_IDS = frozenset({0x2E12})


class NvmlStart(msgspec.Struct, tag="start", tag_field="kind", frozen=True):
    """What the library says of itself. ``error`` is the code of a failed init, ``cuda_version`` 1000*major+10*minor."""

    error: int | None = None
    driver_version: str | None = None
    cuda_version: int | None = None
    count: int | None = None


class NvmlDevice(msgspec.Struct, tag="device", tag_field="kind", frozen=True):
    """One card as NVML tells it; ``error`` when it gives no handle, ``errors`` the failed calls by name."""

    index: int
    error: int | None = None
    errors: dict[str, int] = {}
    name: str | None = None
    uuid: str | None = None
    pci_bus_id: str | None = None
    pci_device_id: int | None = None
    memory_total_bytes: int | None = None
    memory_free_bytes: int | None = None
    memory_reserved_bytes: int | None = None
    compute_capability: tuple[int, int] | None = None
    temperature_celsius: int | None = None
    power_milliwatts: int | None = None
    utilization_percent: int | None = None


class NvmlEnd(msgspec.Struct, tag="end", tag_field="kind", frozen=True):
    """The child asked everything it wanted to ask."""


@dataclass(frozen=True, slots=True)
class NvmlReading:
    """All lines of one child. ``complete`` is false when it stopped before the end."""

    start: NvmlStart | None = None
    devices: tuple[NvmlDevice, ...] = ()
    complete: bool = False


def parse_reading(text: str) -> NvmlReading:
    """Read the child's lines; stops at the first one that is not whole. Never raises."""
    start: NvmlStart | None = None
    devices: list[NvmlDevice] = []
    for line in text.splitlines():
        try:
            record = msgspec.json.decode(line.encode(), type=NvmlStart | NvmlDevice | NvmlEnd)
        except (msgspec.DecodeError, RecursionError):
            break
        if isinstance(record, NvmlStart):
            start = record
        elif isinstance(record, NvmlDevice):
            devices.append(record)
        else:
            return NvmlReading(start, tuple(devices), complete=True)
    return NvmlReading(start, tuple(devices), complete=start is not None and start.error is not None)


def child_argv() -> list[str]:
    """How to run the child: by path in an isolated interpreter, so that no file of the current folder is imported.

    The one place to change when the program is frozen into an executable.
    """
    return [sys.executable, "-I", str(Path(__file__).with_name("nvml.py"))]


@dataclass(frozen=True, slots=True)
class NvidiaProbe:
    """Finds NVIDIA cards. ``root`` is where ``sys`` and ``proc`` lie, ``environment`` what the child gets (default: a
    minimal one with our LD_LIBRARY_PATH), ``host_memory`` what a card with unified memory shares."""

    root: Path = Path("/")
    timeout_s: float = DEFAULT_TIMEOUT_S
    environment: Mapping[str, str] | None = None
    host_memory: Callable[[], Memory] | None = None
    name: str = field(default=SOURCE, init=False)

    def probe(self) -> ProbeResult:
        """Ask the library and judge the answer."""
        functions = list_accelerators(self.root, NVIDIA_PCI)
        environment = self.environment
        if environment is None:
            environment = minimal_environment(keep=("LD_LIBRARY_PATH",))
        failure: CommandFailed | None = None
        try:
            output = run(child_argv(), timeout_s=self.timeout_s, environment=environment).stdout
        except CommandFailed as error:
            failure, output = error, error.result.stdout
        host_memory = self.host_memory or (lambda: read_memory(self.root))
        return interpret(parse_reading(output), functions, failure=failure, host_memory=host_memory)


def interpret(
    reading: NvmlReading,
    functions: tuple[PciFunction, ...] | None,
    *,
    failure: CommandFailed | None = None,
    host_memory: Callable[[], Memory],
) -> ProbeResult:
    """Devices and findings from what the library said, what is on the PCI bus and how the child ended.

    ``functions`` are NVIDIA's accelerators on the bus, ``None`` when the bus cannot be read. No library and no card
    is no finding: that is any machine without NVIDIA.
    """
    on_bus = functions or ()
    findings: list[Finding] = []
    start = reading.start
    if start is not None and start.error is not None:
        if start.error != LIBRARY_NOT_FOUND:
            findings.append(init_finding(start.error, on_bus, bus_known=functions is not None))
        elif on_bus:
            findings.append(driver_missing(on_bus))
        return ProbeResult(SOURCE, (), tuple(findings))
    if failure is not None or not reading.complete:
        findings.append(_broken_off(reading, failure))
    lost_addresses = _addresses_of_lost(reading, on_bus)
    devices: list[Device] = []
    for answer in reading.devices:
        if answer.error is not None:
            device = _silent_device(answer, lost_addresses.get(answer.index), on_bus)
            findings.append(handle_finding(answer.error, device))
        else:
            device = _device(answer, start, host_memory)
            findings += _device_findings(answer, device)
        devices.append(_with_numa_node(device, on_bus))
    if reading.complete and all(device.pci_address for device in devices):
        answered = {device.pci_address for device in devices}
        findings += [card_without_answer(function) for function in on_bus if function.address not in answered]
    return ProbeResult(SOURCE, tuple(devices), tuple(findings))


def _broken_off(reading: NvmlReading, failure: CommandFailed | None) -> Finding:
    """The child hung, crashed or could not run; says at which card."""
    count = reading.start.count if reading.start is not None else None
    where = "while it was started" if count is None else f"at card {len(reading.devices)} of {count} (counted from 0)"
    hint = "Run nvidia-smi by hand and read the kernel log (journalctl -k -g NVRM)."
    if failure is None or failure.kind in (FailureKind.NOT_FOUND, FailureKind.NOT_EXECUTABLE, FailureKind.EXIT_CODE):
        reason = failure.message if failure is not None else "The answer of the NVML child process was cut off."
        return Finding("probe_failed", f"NVIDIA's library could not be asked: {reason}", hint, Severity.ERROR, SOURCE)
    if failure.kind is FailureKind.TIMED_OUT:
        message = f"NVIDIA's library gave no answer within {failure.result.duration_s:.1f} s, {where}."
        hint = "A card that hangs blocks every question. " + hint + " Often only a reboot helps."
        return Finding("probe_timed_out", message, hint, Severity.ERROR, SOURCE)
    message = f"NVIDIA's library crashed {where}: {failure.message}"
    return Finding("probe_crashed", message, hint, Severity.ERROR, SOURCE)


def _addresses_of_lost(reading: NvmlReading, on_bus: tuple[PciFunction, ...]) -> dict[int, str]:
    """PCI addresses of cards without a handle, by index: NVML counts in bus order, so when as many functions are left
    over as cards are silent they belong together in that order. In any other case nothing is said."""
    answered = {normalize_address(device.pci_bus_id) for device in reading.devices if device.pci_bus_id}
    silent = [device.index for device in reading.devices if device.error is not None]
    left = sorted(function.address for function in on_bus if function.address not in answered)
    return dict(zip(sorted(silent), left, strict=True)) if len(silent) == len(left) else {}


def _silent_device(answer: NvmlDevice, address: str | None, on_bus: tuple[PciFunction, ...]) -> Device:
    chip = next((function.chip for function in on_bus if function.address == address), None)
    critical = answer.error in (GPU_IS_LOST, RESET_REQUIRED)
    return Device(
        vendor=Vendor.NVIDIA,
        index=answer.index,
        name=f"NVIDIA {chip}" if chip else "NVIDIA card",
        chip=chip,
        pci_address=address,
        health=Health.CRITICAL if critical else Health.UNKNOWN,
    )


def _device(answer: NvmlDevice, start: NvmlStart | None, host_memory: Callable[[], Memory]) -> Device:
    fallback = NVIDIA_NAMES.get(answer.pci_device_id) if answer.pci_device_id is not None else None
    name = answer.name or (f"NVIDIA {fallback}" if fallback else "NVIDIA card")
    unified = answer.pci_device_id in _UNIFIED_PCI_IDS or _UNIFIED_NAME.search(name) is not None
    total, free = answer.memory_total_bytes or None, answer.memory_free_bytes
    if unified:
        # NVML answers "not supported" here, or zero, or figures that reporters found wrong; the host's are right.
        memory = host_memory()
        total, free = memory.total_bytes, memory.available_bytes
    if total is None:
        free = None
    lost = {GPU_IS_LOST, RESET_REQUIRED} & set(answer.errors.values())
    capability = answer.compute_capability
    return Device(
        vendor=Vendor.NVIDIA,
        index=answer.index,
        name=name,
        chip=_short_name(name) or fallback,
        uuid=answer.uuid,
        pci_address=normalize_address(answer.pci_bus_id) if answer.pci_bus_id else None,
        memory_total_bytes=total,
        memory_free_bytes=free,
        unified_memory=unified,
        compute_capability=f"{capability[0]}.{capability[1]}" if capability is not None else None,
        # NVML has no word for health: a card that answers every question without loss counts as well.
        health=Health.CRITICAL if lost else Health.OK,
        utilization_percent=answer.utilization_percent,
        temperature_celsius=answer.temperature_celsius,
        power_watts=answer.power_milliwatts / 1000 if answer.power_milliwatts is not None else None,
        driver_version=start.driver_version if start is not None else None,
    )


def _device_findings(answer: NvmlDevice, device: Device) -> list[Finding]:
    for code in (GPU_IS_LOST, RESET_REQUIRED):
        if code in answer.errors.values():
            return [handle_finding(code, device)]
    findings: list[Finding] = []
    if device.memory_total_bytes is None:
        message = (
            f"{device.name} (card {device.index}) does not tell how much memory it has; no model is planned on it."
        )
        hint = "Run nvidia-smi -q -d MEMORY. With MIG on, the instances have to be asked instead of the card."
        findings.append(Finding("memory_unknown", message, hint, Severity.WARNING, SOURCE, device.key))
    # A call that the driver or the card does not have is "unsupported", not an error; v1 stands in for v2 memory.
    failed = {
        name: code for name, code in answer.errors.items() if code not in BENIGN_CALL_ERRORS and name != "memory_v2"
    }
    if failed:
        findings.append(call_errors_finding(failed, device))
    return findings


def _short_name(name: str) -> str:
    """``NVIDIA L20`` -> ``L20``, ``Tesla T4`` -> ``T4``, ``Orin (nvgpu)`` -> ``Orin``."""
    return name.removeprefix("NVIDIA ").removeprefix("Tesla ").removesuffix("(nvgpu)").strip()


def _with_numa_node(device: Device, on_bus: tuple[PciFunction, ...]) -> Device:
    for function in on_bus:
        if function.address == device.pci_address:
            return replace(device, numa_node=function.numa_node)
    return device


NVIDIA = VendorSupport(Vendor.NVIDIA, "NVIDIA", NvidiaProbe, NvidiaMonitor)
