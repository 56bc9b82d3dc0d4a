"""What the probes find: frozen values, units in the names, unknown is ``None``.

Words (docs/architecture.md): a *device* is a chip as its driver counts it, a *card* is what is plugged in (an
Atlas 300I Duo card has two devices), a *snapshot* is the frozen result of all probes.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

SNAPSHOT_SCHEMA = 1
"""Version of the JSON that ``HardwareSnapshot`` is written as."""


class Vendor(StrEnum):
    """Who makes the chip: the vendors that other parts know by name. ``Device.vendor`` is open (docs/drivers.md)."""

    NVIDIA = "nvidia"
    ASCEND = "ascend"


class Health(StrEnum):
    """The driver's own verdict on a device, in the words of ``npu-smi`` (OK..CRITICAL are its codes 0..3)."""

    OK = "ok"
    WARNING = "warning"
    ALARM = "alarm"
    CRITICAL = "critical"
    UNKNOWN = "unknown"


class Severity(StrEnum):
    """How much a finding matters to the operator."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Finding:
    """Something the operator should know: a missing link, a failed probe, output that could not be read.

    ``code`` is stable snake_case for programs, ``message`` says what is so, ``hint`` what to do next (``None`` when
    there is nothing to do), ``source`` the probe that says it, ``device`` the ``Device.key`` it concerns.
    """

    code: str
    message: str
    hint: str | None = None
    severity: Severity = Severity.WARNING
    source: str | None = None
    device: str | None = None


class Layer(StrEnum):
    """One step of the way from the slot to the program, in the order in which each rests on the one before."""

    PCI = "pci"
    MODULE = "module"
    NODES = "nodes"
    ACCESS = "access"
    LIBRARY = "library"
    RUNTIME = "runtime"
    ENGINE = "engine"


class LayerState(StrEnum):
    """How a layer stands: ``WAITING`` is broken within the time that a boot may take, ``NOT_REACHED`` rests on a
    broken one and was not or could not be judged, ``NOT_NEEDED`` does not exist on this kind of machine (no PCI
    function on a system-on-chip)."""

    OK = "ok"
    BROKEN = "broken"
    WAITING = "waiting"
    NOT_REACHED = "not_reached"
    NOT_NEEDED = "not_needed"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class LayerReport:
    """How one layer of one vendor stands. ``detail`` is a few plain words (``4 cards``, ``550.54.15``), ``findings``
    the codes of the findings that explain a state other than OK."""

    vendor: str
    layer: Layer
    state: LayerState
    detail: str | None = None
    findings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DeviceLayers:
    """How far the way to one device leads: its PCI function, its node under ``/dev`` (and whether this user may open
    it), the library's answer."""

    pci: LayerState = LayerState.UNKNOWN
    node: LayerState = LayerState.UNKNOWN
    library: LayerState = LayerState.UNKNOWN


class LinkKind(StrEnum):
    """How two devices reach each other, fastest first. PIX: one PCIe switch, PXB: several, PHB: through the host
    bridge, SYS: between sockets (the words of nvidia-smi and npu-smi). SIO: two dies of one Ascend package."""

    NVLINK = "nvlink"
    SIO = "sio"
    HCCS = "hccs"
    HCCS_SW = "hccs_sw"
    UB = "ub"
    PIX = "pix"
    PXB = "pxb"
    PHB = "phb"
    SYS = "sys"


@dataclass(frozen=True, slots=True)
class DeviceLink:
    """The best way from the device to ``peer`` (a ``Device.key``). ``lanes`` counts NVLinks, else ``None``."""

    peer: str
    kind: LinkKind
    lanes: int | None = None


@dataclass(frozen=True, slots=True)
class DeviceProcess:
    """A program that uses the device. ``pid`` is the host's, which inside a container is another number."""

    pid: int
    name: str | None = None
    memory_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class DeviceFault:
    """A fault that the device reports now: NVIDIA's Xid number (``xid:79``) or Ascend's code of eight hex digits.

    ``meaning`` is in plain words, ``action`` what to do; both ``None`` for a code that no source explains.
    """

    code: str
    meaning: str | None = None
    action: str | None = None
    severity: Severity = Severity.WARNING


@dataclass(frozen=True, slots=True)
class MemoryErrors:
    """Counted memory errors and the spare rows or pages that replaced them. ``corrected`` and ``uncorrected`` count
    since the driver was loaded, the ``_total`` ones over the device's life. ``retired_pages`` on NVIDIA before Ampere
    and on Ascend, ``remapped_rows`` since Ampere; ``repair_pending`` waits for a reset, ``repair_failed`` means that
    no spare was left."""

    corrected: int | None = None
    uncorrected: int | None = None
    corrected_total: int | None = None
    uncorrected_total: int | None = None
    retired_pages: int | None = None
    remapped_rows: int | None = None
    repair_pending: bool | None = None
    repair_failed: bool | None = None


@dataclass(frozen=True, slots=True)
class Device:
    """One chip as its driver counts it, or a part of one that its driver hands out as a device (NVIDIA MIG).

    ``index`` is the number that selects the device for a program (CUDA ordinal in PCI order, Ascend logic id);
    ``card_id`` is the vendor's id of the plugged-in card and ``chip_id`` the chip on it (Ascend: both from DCMI; NPU
    ids are sparse numbers such as 32768, never an index; a MIG instance: the card's index and the instance's).
    ``selector`` is the word for the vendor's visible-devices variable where it is not the index (a MIG instance's
    UUID); ``parent`` the ``key`` of the device that this is a part of; a device with instances is ``partitioned`` and
    takes no work itself. ``memory_free_bytes`` excludes what driver and firmware hold (``memory_reserved_bytes``).
    Power belongs to the card: on cards with several chips it may stand on the first only. ``throttle_reasons`` are
    the alarming ones alone, in NVML's words (``hw_thermal``). ``unsupported`` names the fields that this device or
    its driver does not have, as apart from those that failed or were not asked.
    """

    vendor: str
    index: int | None
    name: str
    chip: str | None = None
    card_id: int | None = None
    chip_id: int | None = None
    uuid: str | None = None
    pci_address: str | None = None
    numa_node: int | None = None
    memory_kind: str | None = None
    memory_total_bytes: int | None = None
    memory_free_bytes: int | None = None
    unified_memory: bool = False
    compute_capability: str | None = None
    health: Health = Health.UNKNOWN
    utilization_percent: float | None = None
    temperature_celsius: float | None = None
    power_watts: float | None = None
    driver_version: str | None = None
    selector: str | None = None
    parent: str | None = None
    partitioned: bool = False
    node: str | None = None
    layers: DeviceLayers = DeviceLayers()
    firmware_version: str | None = None
    memory_reserved_bytes: int | None = None
    power_limit_watts: float | None = None
    clock_mhz: int | None = None
    memory_clock_mhz: int | None = None
    throttle_reasons: tuple[str, ...] = ()
    recovery_action: str | None = None
    faults: tuple[DeviceFault, ...] = ()
    memory_errors: MemoryErrors | None = None
    links: tuple[DeviceLink, ...] = ()
    processes: tuple[DeviceProcess, ...] = ()
    unsupported: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """Stable name of the device within one snapshot, for findings and plans: ``nvidia:0``, ``ascend:32768.1``.

        Drivers of the Ascend 950 name no chip on the card: then ``ascend:0`` is the card's id. A device that only the
        PCI bus knows is named by its address: ``nvidia:0000:01:00.0``.
        """
        if self.card_id is not None:
            return f"{self.vendor}:{self.card_id}" + ("" if self.chip_id is None else f".{self.chip_id}")
        if self.index is not None:
            return f"{self.vendor}:{self.index}"
        return f"{self.vendor}:{self.pci_address or '?'}"


@dataclass(frozen=True, slots=True)
class Disk:
    """A mounted file system that can hold models or state."""

    mount_point: str
    filesystem: str
    total_bytes: int
    free_bytes: int


@dataclass(frozen=True, slots=True)
class Host:
    """The machine around the cards.

    ``memory_total_bytes`` and ``memory_available_bytes`` are what this process may use: the smaller of the machine's
    and its cgroup's limit. ``cpu_cores`` counts physical cores this process may run on, ``cpu_threads`` logical ones.
    """

    hostname: str | None = None
    architecture: str | None = None
    os_name: str | None = None
    kernel: str | None = None
    cpu_model: str | None = None
    cpu_cores: int | None = None
    cpu_threads: int | None = None
    memory_total_bytes: int | None = None
    memory_available_bytes: int | None = None
    disks: tuple[Disk, ...] = ()


@dataclass(frozen=True, slots=True)
class Software:
    """An installed part of a vendor's stack: ``name`` is one of ``drivers.requirements``' words (``nvidia-driver``,
    ``cuda-driver``, ``ascend-driver``, ``ascend-firmware``, ``cann``), ``path`` where it was read."""

    name: str
    version: str
    path: str | None = None


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """What one probe found. A failing probe is a result with findings, never an exception."""

    source: str
    devices: tuple[Device, ...] = ()
    findings: tuple[Finding, ...] = ()
    layers: tuple[LayerReport, ...] = ()
    software: tuple[Software, ...] = ()


class Probe(Protocol):
    """Finds the devices of one vendor. Has no side effects and never raises for what it finds."""

    @property
    def name(self) -> str:
        """Short word for findings: ``Finding.source``."""

    def probe(self) -> ProbeResult: ...


@dataclass(frozen=True, slots=True)
class HardwareSnapshot:
    """Frozen result of all probes at one moment."""

    host: Host
    devices: tuple[Device, ...] = ()
    findings: tuple[Finding, ...] = ()
    layers: tuple[LayerReport, ...] = ()
    software: tuple[Software, ...] = ()
    schema: int = SNAPSHOT_SCHEMA


@dataclass(frozen=True, slots=True)
class DeviceSample:
    """What changes on a device, at one moment. ``key`` is its ``Device.key``; ``problem`` says in plain words why a
    device gave no answer this time (then everything else is unknown)."""

    key: str
    problem: str | None = None
    health: Health = Health.UNKNOWN
    utilization_percent: float | None = None
    memory_used_bytes: int | None = None
    memory_total_bytes: int | None = None
    temperature_celsius: float | None = None
    power_watts: float | None = None
    clock_mhz: int | None = None
    throttle_reasons: tuple[str, ...] = ()


class Monitor(Protocol):
    """Samples all devices of one vendor again and again, cheaply: it keeps its child process between samples.

    Not safe for several threads at once.
    """

    @property
    def name(self) -> str:
        """Short word for messages: the probe's name."""

    @property
    def interval_s(self) -> float:
        """How often it may be asked: 1 s for a library, longer for a tool that has to be started each time."""

    def sample(self) -> tuple[DeviceSample, ...]:
        """One sample of each device; blocks for a few seconds at most. Raises ``drivers.errors.MonitorFailed``; the
        next call then begins with a fresh child."""

    def close(self) -> None:
        """End the child. Idempotent."""
