"""Huawei Ascend cards: the bus, the module, the nodes, then DCMI in a child process and ``npu-smi`` as second source.

The sources only measure; this side judges, in pure functions. DCMI is asked first; npu-smi where DCMI leaves something
open, or cannot be asked at all. Everything together stays within one time budget.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from drivers.ascend_dcmi import Chips, interpret_chips
from drivers.ascend_details import questions, with_answer
from drivers.ascend_device_errors import (
    answer_cut,
    card_without_answer,
    faults_while_ok,
    index_unknown,
    no_chip_listed,
    unhealthy,
)
from drivers.ascend_errors import (
    code_name,
    dcmi_broke_off,
    dcmi_missing,
    library_not_loadable,
    not_started,
    tools_missing,
)
from drivers.ascend_ground import Ground, read_ground
from drivers.ascend_install import DRIVER, FIRMWARE, library_path
from drivers.ascend_join import Joined, card_row, join
from drivers.ascend_layers import Answer, judge_layers
from drivers.ascend_monitor import AscendMonitor
from drivers.ascend_tool import NpuSmi, ToolReading, budget, find_tool, read_tool
from drivers.command import CommandFailed, FailureKind, minimal_environment, run
from drivers.dcmi_reading import DcmiReading, child_argv, parse_reading
from drivers.nodes import may_open
from drivers.support import VendorSupport
from drivers.types import Device, Finding, Health, ProbeResult, Severity, Software, Vendor

SOURCE = "ascend"
DEFAULT_TIMEOUT_S = 15.0
"""Usual answers take under 3 s, those of a 950 up to 10 s."""
NOTHING_IN_SIGHT_TIMEOUT_S = 1.5
DETAILS_S = 4.0
"""How much of that may go into single questions to npu-smi."""


@dataclass(frozen=True, slots=True)
class Dcmi:
    """What came of asking DCMI: ``None`` as reading when there is no library to ask."""

    reading: DcmiReading | None = None
    failure: CommandFailed | None = None

    @property
    def chips(self) -> Chips:
        """The devices of the reading."""
        if self.reading is None:
            return Chips()
        late = self.failure is not None and self.failure.kind is FailureKind.TIMED_OUT
        return interpret_chips(self.reading, timed_out=late)

    @property
    def complete(self) -> bool:
        return self.reading is not None and self.reading.complete and self.failure is None


@dataclass(frozen=True, slots=True)
class AscendProbe:
    """Finds Ascend devices. ``root`` is where ``sys``, ``dev``, ``proc``, ``etc`` and ``usr`` lie; ``tool`` the path of
    npu-smi (default: looked up in /usr/local/bin, /usr/local/sbin and ``search_path``, which is PATH by default);
    ``environment`` what library and tool get; ``access`` tells whether this user may open a node; ``cann_home`` a CANN
    in a place of its own (default: ASCEND_HOME_PATH, for the machine itself)."""

    root: Path = Path("/")
    timeout_s: float | None = None
    tool: Path | None = None
    search_path: str | None = None
    environment: Mapping[str, str] | None = None
    access: Callable[[Path], bool] = may_open
    cann_home: str | None = None
    name: str = field(default=SOURCE, init=False)

    def probe(self) -> ProbeResult:
        """Look, ask and judge. A machine without any sign of Ascend gives an empty result."""
        real = self.root == Path("/")
        home = self.cann_home or (os.environ.get("ASCEND_HOME_PATH") if real else None)
        ground = read_ground(self.root, access=self.access, cann_home=home)
        path = self.tool or find_tool(self.root, self.search_path)
        if not ground.any and path is None:
            return ProbeResult(SOURCE)
        left = budget(self.timeout_s if self.timeout_s is not None else patience_s(ground))
        environment = self.environment
        if environment is None:
            environment = minimal_environment(LD_LIBRARY_PATH=library_path(ground.install))
        dcmi = self._ask_dcmi(ground, environment, left)
        tool = None if path is None else NpuSmi(path, environment, left)
        told = read_tool(tool) if tool is not None and needs_tool(dcmi, ground) else None
        joined = join(ground, dcmi.chips, dcmi.complete, told)
        if tool is not None and not (told is not None and told.failure is not None):
            joined = _ask_details(joined, tool, budget(min(DETAILS_S, left())))
        if tool is not None:
            joined = replace(joined, findings=(*joined.findings, *(answer_cut(question) for question in tool.cut)))
        return interpret(ground, dcmi, told, joined, tool_there=tool is not None)

    def _ask_dcmi(self, ground: Ground, environment: Mapping[str, str], left: Callable[[], float]) -> Dcmi:
        """Run the child; it may have up to half the budget, so that npu-smi can still be asked."""
        install = ground.install
        if install.library is None:
            return Dcmi()
        argv = child_argv(libraries=[str(install.library)], preload=[str(path) for path in install.preload])
        failure: CommandFailed | None = None
        try:
            output = run(argv, timeout_s=max(0.05, round(left() / 2, 1)), environment=environment).stdout
        except CommandFailed as error:
            failure, output = error, error.result.stdout
        return Dcmi(parse_reading(output), failure)


def patience_s(ground: Ground) -> float:
    """How long a driver may take: with a card in sight as long as a slow one needs, without any hardly at all, because
    a driver left behind on such a machine must not hold up the other vendors' cards."""
    in_sight = ground.functions is None or ground.functions or ground.nodes.any
    return DEFAULT_TIMEOUT_S if in_sight else NOTHING_IN_SIGHT_TIMEOUT_S


def needs_tool(dcmi: Dcmi, ground: Ground) -> bool:
    """Whether DCMI leaves something open: it failed, a chip is silent, memory or number is unknown, or the bus has more
    chips than it tells."""
    chips = dcmi.chips
    if not dcmi.complete or not chips.devices or chips.silent or len(chips.devices) < ground.expected:
        return True
    return any(
        device.index is None or device.memory_total_bytes is None or device.health is Health.UNKNOWN
        for device in chips.devices
    )


def _ask_details(joined: Joined, tool: NpuSmi, left: Callable[[], float]) -> Joined:
    """Ask npu-smi for what is still unknown, the most important first, as long as there is time."""
    devices, findings = joined.devices, list(joined.findings)
    asked = set()
    while left() > 0 and (question := next((one for one in questions(devices) if one not in asked), None)):
        asked.add(question)
        text = tool.ask(*question.arguments)
        if text is not None:
            devices, more = with_answer(devices, question, text)
            findings += more
    return replace(joined, devices=devices, findings=tuple(findings))


def interpret(ground: Ground, dcmi: Dcmi, tool: ToolReading | None, joined: Joined, *, tool_there: bool) -> ProbeResult:
    """What all of it means: devices, layers, software, and a finding for each missing link."""
    answer = library_answer(ground, dcmi, tool, answered=bool(joined.devices), tool_there=tool_there)
    rows = () if joined.devices or joined.silent else tuple(card_row(function) for function in ground.cards)
    if not joined.devices:
        # Chips are listed and none answers: that is what is wrong with the library.
        answer = replace(answer, findings=(*answer.findings, *joined.findings))
        if not answer.findings:
            answer = replace(answer, findings=_nothing_listed(ground, rows))
    layers, findings = judge_layers(ground, answer)
    devices = tuple(_settled(device) for device in (*joined.devices, *joined.silent, *rows))
    found = [*findings, *joined.findings]
    for device in joined.devices:
        found += [one for one in (unhealthy(device), faults_while_ok(device)) if one is not None]
    if any(device.index is None for device in joined.devices):
        found.append(index_unknown())
    software = tuple(_installed(ground, joined.devices))
    return ProbeResult(SOURCE, devices, _once(found), layers, software)


def _nothing_listed(ground: Ground, rows: Sequence[Device]) -> tuple[Finding, ...]:
    """The driver says that there is no card: each that is on the bus is a finding of its own."""
    if not rows:
        return (no_chip_listed(),)
    return tuple(card_without_answer(function, row) for function, row in zip(ground.cards, rows, strict=True))


def library_answer(ground: Ground, dcmi: Dcmi, tool: ToolReading | None, *, answered: bool, tool_there: bool) -> Answer:
    """What came of asking the library, in its own way or through the tool."""
    start = None if dcmi.reading is None else dcmi.reading.start
    findings: list[Finding] = []
    code: int | None = None
    if dcmi.reading is None:
        findings += [dcmi_missing(ground)] if answered else []
    elif start is not None and start.missing is not None:
        findings.append(library_not_loadable(start.missing, ground, answered=answered))
    elif start is not None and start.error is not None:
        code = start.error
    elif dcmi.failure is not None:
        findings.append(_failed(dcmi.failure, ground, "The driver's library DCMI", answered=answered))
    elif not dcmi.reading.complete:
        findings.append(dcmi_broke_off())
    if tool is not None:
        code = tool.info.error_code if code is None else code
        if tool.info.error_code is None or tool.info.devices:
            findings += tool.info.findings
        if tool.failure is not None and tool.info.error_code is None:
            findings.append(_failed(tool.failure, ground, None, answered=answered))
    said = None
    if code is not None and not answered:
        said = f"The driver's library does not start (DCMI {code_name(code)})"
        findings = [*(one for one in findings if one.severity is not Severity.INFO), not_started(code, said, ground)]
    elif code is not None:
        late = f"The driver's library did not start at first (DCMI {code_name(code)})"
        findings.append(replace(not_started(code, late, ground), severity=Severity.WARNING))
    if not answered and not tool_there and dcmi.reading is None:
        findings.append(tools_missing(ground))
    return Answer(
        answered=answered,
        detail=_detail(dcmi, tool) if answered else f"DCMI {code_name(code)}" if code is not None else None,
        said=said,
        installed=tool_there or dcmi.reading is not None,
        findings=tuple(findings),
    )


def _detail(dcmi: Dcmi, tool: ToolReading | None) -> str:
    start = None if dcmi.reading is None else dcmi.reading.start
    if dcmi.chips.devices and start is not None:
        return f"DCMI {start.driver_version or ''}".strip()
    return f"npu-smi {(tool.info.driver_version if tool is not None else None) or ''}".strip()


def _failed(failure: CommandFailed, ground: Ground, what: str | None, *, answered: bool) -> Finding:
    """How the child or the tool failed; a library that it lacks is told by its name."""
    codes = {FailureKind.TIMED_OUT: "probe_timed_out", FailureKind.SIGNALLED: "probe_crashed"}
    severity = Severity.WARNING if answered else Severity.ERROR
    _, shared, missing = failure.result.stderr.partition("error while loading shared libraries: ")
    if shared and failure.kind is FailureKind.EXIT_CODE:
        found = library_not_loadable(missing.splitlines()[0] if missing else "", ground, answered=answered)
        return replace(found, message=failure.message)
    message = failure.message if what is None else failure.message.replace(failure.result.argv[0], what)
    return Finding(codes.get(failure.kind, "probe_failed"), message, failure.hint, severity, SOURCE)


def _settled(device: Device) -> Device:
    """What one source has no figure for and another one told is not unsupported."""
    unknown = (None, (), Health.UNKNOWN)
    return replace(device, unsupported=tuple(one for one in device.unsupported if getattr(device, one) in unknown))


def _installed(ground: Ground, devices: Sequence[Device]) -> list[Software]:
    """The parts whose notes were found; driver and firmware as the cards tell them where there is no note."""
    software = list(ground.install.software)
    for name, versions in (
        (FIRMWARE, [device.firmware_version for device in devices]),
        (DRIVER, [device.driver_version for device in devices]),
    ):
        told = next((version for version in versions if version), None)
        if told is not None and ground.install.version(name) is None:
            software.insert(0, Software(name, told))
    return software


def _once(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """Each finding once: the same link may be told by two sources."""
    kept: dict[tuple[str, str | None, str | None], Finding] = {}
    for finding in findings:
        same = finding.message if finding.code != "driver_incomplete" else None
        kept.setdefault((finding.code, finding.device, same), finding)
    return tuple(kept.values())


ASCEND = VendorSupport(Vendor.ASCEND, "Ascend", AscendProbe, AscendMonitor)
