"""NVIDIA cards: what the bus, the driver and NVML say of them, merged into devices, layers and findings.

NVML is asked in a child process with a time limit (``drivers.nvml``), which only measures; this side judges: it
compares what the library says with what is on the PCI bus, below /dev and in the kernel log, and says for each gap what
is missing and what to do.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from drivers.command import CommandFailed, FailureKind, minimal_environment, run
from drivers.host import Memory, read_memory
from drivers.nvidia_device import (
    card_device,
    failed_questions,
    instance_device,
    jetson_device,
    place,
    silent_device,
)
from drivers.nvidia_errors import (
    BENIGN_CALL_ERRORS,
    DRIVER_NOT_LOADED,
    GPU_IS_LOST,
    LIBRARY_NOT_FOUND,
    RESET_REQUIRED,
    VFIO,
    call_errors_finding,
    card_lost_on_bus,
    card_without_answer,
    driver_missing,
    fewer_nvlinks,
    handle_finding,
    held_findings,
    init_finding,
    instance_finding,
    jetson_without_library,
    log_unreadable,
)
from drivers.nvidia_ground import MODULE_VERSION_PATH, NvidiaGround, read_ground
from drivers.nvidia_health import card_health, health_findings, told_once, xid_findings
from drivers.nvidia_layers import cuda_version, judge_layers
from drivers.nvidia_links import active_nvlinks, device_links, fewer_links
from drivers.nvidia_monitor import NvidiaMonitor
from drivers.nvidia_reading import NvmlDevice, NvmlReading, child_argv, parse_reading
from drivers.nvidia_xid import XidEvent, XidLog, faults, latest_by_card, read_log, read_table
from drivers.support import VendorSupport
from drivers.types import Device, DeviceFault, Finding, LayerState, ProbeResult, Severity, Software, Vendor

SOURCE = "nvidia"
DEFAULT_TIMEOUT_S = 10.0
"""Without the persistence daemon the first question wakes every card, which takes seconds."""
_LOG_WAIT_S = 6.0


@dataclass(frozen=True, slots=True)
class NvidiaProbe:
    """Finds NVIDIA cards. ``root`` is where ``sys``, ``proc`` and ``dev`` lie, ``environment`` what the child gets
    (default: a minimal one with our LD_LIBRARY_PATH), ``host_memory`` what a card with unified memory shares,
    ``kernel_log`` reads the Xid errors (default: the journal below ``root``, else its /dev/kmsg)."""

    root: Path = Path("/")
    timeout_s: float = DEFAULT_TIMEOUT_S
    environment: Mapping[str, str] | None = None
    host_memory: Callable[[], Memory] | None = None
    kernel_log: Callable[[], XidLog] | None = None
    name: str = field(default=SOURCE, init=False)

    def probe(self) -> ProbeResult:
        """Ask the library and judge the answer."""
        ground = read_ground(self.root)
        # Both may take a while, and neither needs the other.
        log = _Later(self.kernel_log or (lambda: read_log(self.root))) if ground.has_sign else None
        environment = self.environment
        if environment is None:
            environment = minimal_environment(keep=("LD_LIBRARY_PATH",))
        failure: CommandFailed | None = None
        try:
            output = run(child_argv(), timeout_s=self.timeout_s, environment=environment).stdout
        except CommandFailed as error:
            failure, output = error, error.result.stdout
        return interpret(
            parse_reading(output),
            ground,
            failure=failure,
            host_memory=self.host_memory or (lambda: read_memory(self.root)),
            log=log.wait(_LOG_WAIT_S) if log is not None else XidLog(),
        )


class _Later:
    """The kernel log, read in a thread; what comes too late is not known. The thread is left behind then."""

    def __init__(self, read: Callable[[], XidLog]) -> None:
        self._log = XidLog()
        self._thread = threading.Thread(target=self._run, args=(read,), name="kernel-log", daemon=True)
        self._thread.start()

    def _run(self, read: Callable[[], XidLog]) -> None:
        self._log = read()

    def wait(self, timeout_s: float) -> XidLog:
        self._thread.join(timeout_s)
        return self._log


def interpret(
    reading: NvmlReading,
    ground: NvidiaGround,
    *,
    failure: CommandFailed | None = None,
    host_memory: Callable[[], Memory],
    log: XidLog = XidLog(),  # noqa: B008 (frozen)
) -> ProbeResult:
    """Devices, layers and findings from what the library said, what the system shows and how the child ended.

    No library and no card is no finding: that is any machine without NVIDIA.
    """
    judge = _Judge(reading, ground, failure, host_memory, log)
    judge.library()
    judge.cards()
    judge.unlisted()
    judge.jetson()
    if log.refused is not None and judge.devices:
        judge.findings.append(log_unreadable(log.refused))
    layers, findings = judge_layers(ground, reading, told_once(judge.findings))
    software = _software(reading, ground) if layers else ()
    return ProbeResult(SOURCE, tuple(judge.devices), findings, layers, software)


class _Judge:
    """Collects devices and findings, one source after the other."""

    def __init__(
        self,
        reading: NvmlReading,
        ground: NvidiaGround,
        failure: CommandFailed | None,
        host_memory: Callable[[], Memory],
        log: XidLog,
    ) -> None:
        self.devices: list[Device] = []
        self.findings: list[Finding] = []
        self._reading = reading
        self._ground = ground
        self._failure = failure
        self._host_memory = host_memory
        self._table = read_table()
        self._events = latest_by_card(log.events)
        self._places = place(reading, ground)

    @property
    def _error(self) -> int | None:
        return self._reading.start.error if self._reading.start is not None else None

    def library(self) -> None:
        """Why the library as a whole gives no answer, or breaks off."""
        start, ground = self._reading.start, self._ground
        if start is not None and start.error is not None:
            held = held_findings(ground.on_bus) if start.error in (LIBRARY_NOT_FOUND, DRIVER_NOT_LOADED) else None
            if held is not None:
                self.findings += held
            elif start.error != LIBRARY_NOT_FOUND:
                self.findings.append(init_finding(start, ground))
            elif ground.on_bus:
                self.findings.append(driver_missing(ground.on_bus, module_loaded=ground.module_loaded))
        elif self._failure is not None or not self._reading.complete:
            self.findings.append(_broken_off(self._reading, self._failure))

    def cards(self) -> None:
        """The cards that the library counts."""
        links = device_links(self._reading)
        topology = self._reading.topology
        no_topology = topology is not None and topology.error in BENIGN_CALL_ERRORS
        fewer = fewer_links([card for card in self._reading.devices if card.error is None])
        for answer in self._reading.devices:
            if answer.error is not None:
                function = self._places.silent.get(answer.index)
                events = self._events.get(function.address, ()) if function is not None else ()
                device = silent_device(
                    function, self._ground, index=answer.index, error=answer.error, faults=self._faults(events)
                )
                self._add(device, [handle_finding(answer.error, device)], events)
                continue
            device = card_device(
                answer,
                self._ground,
                driver_version=self._reading.start.driver_version if self._reading.start is not None else None,
                host_memory=self._host_memory,
                links=links.get(answer.index, ()),
            )
            if no_topology and not device.links:
                device = replace(device, unsupported=(*device.unsupported, "links"))
            events = self._events.get(device.pci_address or "", ())
            if events:
                found = self._faults(events)
                device = replace(device, faults=found, health=card_health(answer, found))
            findings = _device_findings(answer, device)
            if answer.index in fewer:
                findings.append(fewer_nvlinks(device, active_nvlinks(answer), fewer[answer.index]))
            self._add(device, findings, events)
            self._add_instances(answer, device)

    def unlisted(self) -> None:
        """Cards on the bus that the library does not list, or that it did not come to."""
        indexes = {function.address: index for index, function in self._places.silent.items()}
        first_silent = len(self._reading.devices)
        reached = self._reading.complete and self._error is None
        unplaced = any(device.pci_address is None for device in self.devices)
        for function in self._places.unlisted:
            lost = function.address in self._ground.lost and function.driver != VFIO
            if unplaced and not lost:
                # It may be a card that answered without telling where it is.
                continue
            if function.driver == VFIO:
                if reached:
                    self.findings.append(card_without_answer(function))
                continue
            index = indexes.get(function.address)
            begun = self._reading.start is not None and not self._reading.complete
            hidden = begun and (index is None or index > first_silent)
            events = self._events.get(function.address, ())
            device = silent_device(
                function,
                self._ground,
                index=index,
                faults=self._faults(events),
                library=LayerState.NOT_REACHED if hidden else LayerState.BROKEN,
            )
            findings = [card_lost_on_bus(device)] if lost else []
            if reached and not lost:
                findings.append(card_without_answer(function, device))
            self._add(device, findings, events)

    def jetson(self) -> None:
        """A Jetson that no library speaks for."""
        if self._ground.jetson is None or self.devices:
            return
        device = jetson_device(self._ground.jetson, self._ground, self._host_memory())
        self._add(device, [jetson_without_library(device)] if self._error == LIBRARY_NOT_FOUND else [], ())

    def _add(self, device: Device, findings: Sequence[Finding], events: Sequence[XidEvent]) -> None:
        self.devices.append(device)
        self.findings += findings
        if not any(finding.code == "device_lost" for finding in findings):
            self.findings += xid_findings(events, device, self._table)

    def _add_instances(self, answer: NvmlDevice, card: Device) -> None:
        for instance in answer.instances:
            device = instance_device(instance, card)
            self.devices.append(device)
            if instance.error is not None:
                self.findings.append(instance_finding(instance.error, device))
            elif device.memory_total_bytes is None:
                self.findings.append(_memory_unknown(device))

    def _faults(self, events: Sequence[XidEvent]) -> tuple[DeviceFault, ...]:
        return faults(events, self._table)


def _broken_off(reading: NvmlReading, failure: CommandFailed | None) -> Finding:
    """The child hung, crashed or could not run; says at which card."""
    count = reading.start.count if reading.start is not None else None
    where = "while it was started"
    if count is not None:
        where = f"at card {len(reading.devices)} of {count} (counted from 0)"
        if len(reading.devices) >= count:
            where = "after the last card"
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


def _device_findings(answer: NvmlDevice, device: Device) -> list[Finding]:
    for code in (GPU_IS_LOST, RESET_REQUIRED):
        if code in answer.errors.values():
            return [handle_finding(code, device)]
    findings: list[Finding] = []
    if device.memory_total_bytes is None and not device.partitioned:
        findings.append(_memory_unknown(device))
    failed = failed_questions(answer)
    if failed:
        findings.append(call_errors_finding(failed, device))
    return findings + health_findings(answer, device)


def _memory_unknown(device: Device) -> Finding:
    which = f"card {device.index}" if device.index is not None else device.key
    message = f"{device.name} ({which}) does not tell how much memory it has; no model is planned on it."
    return Finding("memory_unknown", message, "Run nvidia-smi -q -d MEMORY.", Severity.WARNING, SOURCE, device.key)


def _software(reading: NvmlReading, ground: NvidiaGround) -> tuple[Software, ...]:
    """The driver's version (that of the loaded module) and the newest CUDA that it can run."""
    found: list[Software] = []
    start = reading.start
    if ground.module_version is not None:
        found.append(Software("nvidia-driver", ground.module_version, f"/{MODULE_VERSION_PATH}"))
    elif start is not None and start.driver_version is not None:
        found.append(Software("nvidia-driver", start.driver_version, start.library_path))
    cuda = cuda_version(start.cuda_version) if start is not None else None
    if cuda is not None:
        found.append(Software("cuda-driver", cuda))
    return tuple(found)


NVIDIA = VendorSupport(Vendor.NVIDIA, "NVIDIA", NvidiaProbe, NvidiaMonitor)
