"""From what was detected and what is installed to a checklist: can this box serve from its cards, and if not, why.

Pure: it reads nothing and changes nothing. For each vendor the way from the slot to the engine is judged layer by layer
(``drivers.types.Layer``); the layers up to the runtime are the probe's, the engine's is judged here. Versions that have
to go together are compared with ``drivers.requirements``.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from drivers.compute_types import ComputeResult, ComputeState
from drivers.doctor_fixes import commands_for
from drivers.doctor_types import RUNTIMES, Break, DoctorReport, EngineFacts, VendorReport, runtime_label
from drivers.pci import normalize_address
from drivers.requirements import RequirementResult, Requirements, check
from drivers.types import (
    Device,
    Finding,
    HardwareSnapshot,
    Health,
    Layer,
    LayerReport,
    LayerState,
    Severity,
    Software,
)

_JOIN = re.compile(r"\busermod -aG ([\w-]+) ")
"""How findings name the group that the service's user has to join: it is another one on some machines."""
_BLOCKED = (LayerState.BROKEN, LayerState.WAITING, LayerState.NOT_REACHED)


def diagnose(
    snapshot: HardwareSnapshot,
    installed: Sequence[Software],
    engine: EngineFacts,
    requirements: Requirements,
    *,
    labels: Mapping[str, str],
    asked: Collection[str] = (),
    user: str = "r1box",
    in_container: bool = False,
    compute: Sequence[ComputeResult] | None = None,
) -> DoctorReport:
    """Judge a machine.

    ``installed`` are engines and packages (``drivers.software``); ``labels`` the vendors' names for people; ``asked``
    limits the report to these vendors and lists them even when nothing of them is there; ``user`` runs the daemon;
    ``in_container``: nothing below the engine can be mended from here, so no commands are given for it;
    ``compute`` are self-tests that were made: a device that failed one serves nothing.
    """
    software = known_software(snapshot, installed)
    vendors = tuple(asked) if asked else seen_vendors(snapshot)
    results = check(software, requirements, vendors=vendors)
    case = _Case(snapshot, engine, software, user, in_container, tuple(compute or ()))
    reports = tuple(
        _vendor_report(
            case, vendor, labels.get(vendor, vendor), tuple(result for result in results if result.vendor == vendor)
        )
        for vendor in vendors
    )
    known = set(labels) | {device.vendor for device in snapshot.devices}
    notes = tuple(
        finding
        for finding in snapshot.findings
        if finding.source not in vendors and (not asked or finding.source not in known)
    )
    return DoctorReport(reports, engine, software, notes, None if compute is None else tuple(compute))


def seen_vendors(snapshot: HardwareSnapshot) -> tuple[str, ...]:
    """Vendors of which a card, a node or a problem was seen, in the snapshot's order."""
    order = [report.vendor for report in snapshot.layers] + [device.vendor for device in snapshot.devices]
    order += [finding.source for finding in snapshot.findings if finding.source in RUNTIMES]
    present = {device.vendor for device in snapshot.devices}
    present |= {
        report.vendor
        for report in snapshot.layers
        if report.layer in (Layer.PCI, Layer.NODES) and report.state in (LayerState.OK, LayerState.WAITING)
    }
    present |= {
        finding.source for finding in snapshot.findings if finding.severity is Severity.ERROR and finding.source
    }
    return tuple(vendor for vendor in dict.fromkeys(order) if vendor in present)


def known_software(snapshot: HardwareSnapshot, installed: Sequence[Software]) -> tuple[Software, ...]:
    """What the probes read, what is installed, and what the devices tell of themselves, each once."""
    found = [*snapshot.software, *installed]
    names = {one.name for one in snapshot.software}
    for device in snapshot.devices:
        if device.compute_capability is not None:
            found.append(Software("compute-capability", device.compute_capability))
        for name, version in (("driver", device.driver_version), ("firmware", device.firmware_version)):
            if version is not None and f"{device.vendor}-{name}" not in names:
                found.append(Software(f"{device.vendor}-{name}", version))
    return tuple(dict.fromkeys(found))


def find_devices(snapshot: HardwareSnapshot, wanted: str) -> tuple[Device, ...]:
    """The devices that ``wanted`` names: a key, a PCI address, a UUID, else a card's id (all devices on it), else an
    index. Several vendors may have the same number: then the devices of all of them."""
    wanted = wanted.strip()
    address = normalize_address(wanted)
    exact = tuple(
        device
        for device in snapshot.devices
        if wanted.lower() in {name.lower() for name in (device.key, device.uuid) if name}
        or (address is not None and device.pci_address is not None and normalize_address(device.pci_address) == address)
    )
    if exact or not (wanted.isascii() and wanted.isdigit()) or len(wanted) > len(str(1 << 31)):
        return exact
    number = int(wanted)
    by_card = tuple(device for device in snapshot.devices if device.card_id == number)
    return by_card or tuple(device for device in snapshot.devices if device.index == number)


def usable(device: Device) -> bool:
    """Whether the device can take work as far as is known: it answers, may be opened and is not beyond use."""
    if device.partitioned or device.health is Health.CRITICAL:
        return False
    if device.layers.node in _BLOCKED or device.layers.library in _BLOCKED:
        return False
    return device.layers.library is LayerState.OK or device.memory_total_bytes is not None


@dataclass(frozen=True, slots=True)
class _Case:
    """What all vendors are judged by."""

    snapshot: HardwareSnapshot
    engine: EngineFacts
    software: tuple[Software, ...]
    user: str
    in_container: bool
    compute: tuple[ComputeResult, ...]

    def fails(self, device: Device) -> bool:
        """Whether a self-test of the device failed, or one that ended before it came to any device."""
        return any(
            result.state is ComputeState.FAILED
            and (result.device == device.key or (result.device is None and result.name is None))
            for result in self.compute
        )


def _vendor_report(case: _Case, vendor: str, label: str, requirements: tuple[RequirementResult, ...]) -> VendorReport:
    devices = tuple(device for device in case.snapshot.devices if device.vendor == vendor)
    findings = tuple(finding for finding in case.snapshot.findings if finding.source == vendor)
    layers = _layers(case.snapshot, vendor, devices, findings, case.software)
    engine_layer, engine_break = _engine_layer(vendor, label, case.engine, layers, case.user)
    layers = (*layers, engine_layer)
    user = None if case.in_container else case.user
    breaks = _breaks(vendor, label, layers, findings, devices, user)
    if engine_break is not None:
        breaks = tuple(sorted((*breaks, engine_break), key=_place))
    working = sum(usable(device) and not case.fails(device) for device in devices)
    serves = (
        working > 0
        and not any(report.state in _BLOCKED for report in layers)
        and not any(result.blocks and result.broken for result in requirements)
    )
    told = {(one.code, one.message) for one in breaks}
    notes = tuple(one for one in findings if one.severity is Severity.INFO and (one.code, one.message) not in told)
    return VendorReport(vendor, label, len(devices), working, layers, breaks, notes, requirements, serves)


def _place(one: Break) -> int:
    order = list(Layer)
    return len(order) if one.layer is None else order.index(one.layer)


def _layers(
    snapshot: HardwareSnapshot,
    vendor: str,
    devices: Sequence[Device],
    findings: Sequence[Finding],
    software: Sequence[Software],
) -> tuple[LayerReport, ...]:
    """The layers below the engine: as the probe reports them, else as far as devices and findings show them."""
    reported = {report.layer: report for report in snapshot.layers if report.vendor == vendor}
    if not reported:
        reported = _shown_by(vendor, devices, findings)
    layers = []
    for layer in Layer:
        if layer is Layer.ENGINE:
            continue
        report = reported.get(layer, LayerReport(vendor, layer, LayerState.UNKNOWN))
        if layer is Layer.RUNTIME:
            report = _with_runtime(report, software)
        layers.append(report)
    return tuple(layers)


def _shown_by(vendor: str, devices: Sequence[Device], findings: Sequence[Finding]) -> dict[Layer, LayerReport]:
    """Layers of a probe that reports none: a device that answers proves all that its answer rests on."""
    if any(usable(device) for device in devices):
        proven = (Layer.PCI, Layer.MODULE, Layer.NODES, Layer.ACCESS, Layer.LIBRARY)
        reports = {layer: LayerReport(vendor, layer, LayerState.OK) for layer in proven}
        if not any(device.pci_address for device in devices):
            reports[Layer.PCI] = LayerReport(vendor, Layer.PCI, LayerState.UNKNOWN)
        return reports
    codes = tuple(finding.code for finding in findings if finding.severity is Severity.ERROR)
    if devices or codes:
        return {Layer.LIBRARY: LayerReport(vendor, Layer.LIBRARY, LayerState.BROKEN, findings=codes)}
    return {
        layer: LayerReport(vendor, layer, LayerState.BROKEN if layer is Layer.PCI else LayerState.NOT_REACHED)
        for layer in Layer
    } | {Layer.PCI: LayerReport(vendor, Layer.PCI, LayerState.BROKEN, "no card")}


def _with_runtime(report: LayerReport, software: Sequence[Software]) -> LayerReport:
    """The runtime's version as its detail, and that as a proof of it where the probe says nothing."""
    name = RUNTIMES.get(report.vendor, ("", ""))[1]
    version = next((one.version for one in software if one.name == name), None)
    if version is None:
        return report
    state = LayerState.OK if report.state is LayerState.UNKNOWN else report.state
    return replace(report, state=state, detail=report.detail or version)


def _engine_layer(
    vendor: str, label: str, engine: EngineFacts, layers: Sequence[LayerReport], user: str
) -> tuple[LayerReport, Break | None]:
    """Whether the engine's build can use the vendor's cards. A build that cannot is broken whatever lies below it,
    as long as there is a card."""
    if layers[0].state is LayerState.BROKEN:
        return LayerReport(vendor, Layer.ENGINE, LayerState.NOT_REACHED, engine.version), None
    if engine.vendors is None:
        return LayerReport(vendor, Layer.ENGINE, LayerState.UNKNOWN, "not known"), None
    commands = commands_for(vendor, Layer.ENGINE, "", user=user)
    fix = "Build it for these cards (docs/installing.md, section Cards), then restart the service."
    if engine.version is None:
        code, message = "engine_missing", f"{engine.name} is not installed for this program."
    elif vendor not in engine.vendors:
        code = "engine_without_backend"
        backend = "backend for them" if vendor not in RUNTIMES else f"{runtime_label(vendor)} backend"
        message = f"The installed {engine.name} ({engine.version}) has no {backend}: it cannot use {label} cards."
    elif any(report.state in _BLOCKED for report in layers):
        return LayerReport(vendor, Layer.ENGINE, LayerState.NOT_REACHED, engine.version), None
    else:
        return LayerReport(vendor, Layer.ENGINE, LayerState.OK, f"{engine.name} {engine.version}"), None
    report = LayerReport(vendor, Layer.ENGINE, LayerState.BROKEN, findings=(code,))
    return report, Break(vendor, Layer.ENGINE, code, message, fix, commands)


def _breaks(
    vendor: str,
    label: str,
    layers: Sequence[LayerReport],
    findings: Sequence[Finding],
    devices: Sequence[Device],
    user: str | None,
) -> tuple[Break, ...]:
    """Every problem found, at the first layer that names its code; a broken layer without one speaks for itself unless
    it lies behind another broken one. ``user`` is ``None`` where commands make no sense."""
    left = list(findings)
    cards = {device.key: device.card_id for device in devices}
    placed: list[Break] = []
    blocked = False
    for report in layers:
        broken = report.state in (LayerState.BROKEN, LayerState.WAITING)
        mine = [one for one in left if one.code in report.findings and (broken or one.severity is not Severity.INFO)]
        left = [finding for finding in left if finding not in mine]
        placed += [_break(vendor, report, finding, cards, user) for finding in mine]
        explained = report.layer is Layer.ENGINE or any(one.code in report.findings for one in placed)
        if broken and not explained and not blocked:
            placed.append(_unexplained(vendor, label, report, user))
        blocked = blocked or broken
    rest = [finding for finding in left if finding.severity is not Severity.INFO]
    return (*placed, *(_break(vendor, None, finding, cards, user) for finding in rest))


def _break(
    vendor: str, report: LayerReport | None, finding: Finding, cards: Mapping[str, int | None], user: str | None
) -> Break:
    layer, state = (None, None) if report is None else (report.layer, report.state)
    # What only needs time, or is as somebody wants it, has nothing to type.
    quiet = user is None or state is LayerState.WAITING or finding.severity is Severity.INFO
    group = _JOIN.search(finding.hint or "")
    card = cards.get(finding.device) if finding.device is not None else None
    commands = commands_for(
        vendor, layer, finding.code, user=user or "", group=None if group is None else group[1], card=card
    )
    # The probe cannot know what is needed to serve; a broken layer keeps the box from it.
    grave = state is LayerState.BROKEN and finding.severity is Severity.WARNING
    return Break(
        vendor=vendor,
        layer=layer,
        code=finding.code,
        message=finding.message,
        fix=finding.hint,
        commands=() if quiet else commands,
        severity=Severity.ERROR if grave else finding.severity,
        device=finding.device,
    )


def _unexplained(vendor: str, label: str, report: LayerReport, user: str | None) -> Break:
    what = report.detail or "broken"
    name = runtime_label(vendor) if report.layer is Layer.RUNTIME else report.layer.value
    fix: str | None = None
    if report.layer is Layer.PCI and report.detail in (None, "no card"):
        message = f"No {label} card is on the PCI bus."
        fix = "Check the card's seat and power, and with it the BIOS settings of its slot."
    elif report.layer is Layer.PCI:
        message = f"No {label} card can be used on the PCI bus: {what}."
    elif report.layer is Layer.RUNTIME:
        message, fix = f"{name} is not usable for {label} cards: {what}.", f"Install {name}, then restart the service."
    else:
        message = f"The step '{name}' on the way to the {label} cards is not usable: {what}."
    waiting = report.state is LayerState.WAITING
    commands = () if user is None or waiting else commands_for(vendor, report.layer, "", user=user)
    severity = Severity.WARNING if waiting else Severity.ERROR
    return Break(vendor, report.layer, f"{report.layer.value}_broken", message, fix, commands, severity)
