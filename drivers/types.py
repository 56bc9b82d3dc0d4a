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
    """Who makes the chip."""

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


@dataclass(frozen=True, slots=True)
class Device:
    """One chip as its driver counts it.

    ``index`` is the number that selects the device for a program (CUDA ordinal in PCI order, Ascend logic id);
    ``card_id`` is the vendor's id of the plugged-in card and ``chip_id`` the chip on it (Ascend: both from DCMI; NPU
    ids are sparse numbers such as 32768, never an index). ``memory_free_bytes`` excludes what driver and firmware
    hold. Power belongs to the card: on cards with several chips it may stand on the first only.
    """

    vendor: Vendor
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

    @property
    def key(self) -> str:
        """Stable name of the device within one snapshot, for findings and plans: ``nvidia:0``, ``ascend:32768.1``.

        Drivers of the Ascend 950 name no chip on the card: then ``ascend:0`` is the card's id.
        """
        if self.card_id is not None:
            return f"{self.vendor}:{self.card_id}" + ("" if self.chip_id is None else f".{self.chip_id}")
        return f"{self.vendor}:{'?' if self.index is None else self.index}"


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
class ProbeResult:
    """What one probe found. A failing probe is a result with findings, never an exception."""

    source: str
    devices: tuple[Device, ...] = ()
    findings: tuple[Finding, ...] = ()


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
    schema: int = SNAPSHOT_SCHEMA
