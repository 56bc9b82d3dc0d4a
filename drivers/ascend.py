"""Huawei Ascend cards through the driver's tool ``npu-smi``, compared with the PCI bus and the nodes under /dev."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from drivers.ascend_errors import (
    card_without_answer,
    dcmi_failed,
    read_nodes,
    tool_missing,
    unhealthy,
)
from drivers.ascend_ids import ASCEND_PCI
from drivers.ascend_monitor import AscendMonitor
from drivers.command import CommandFailed, FailureKind, minimal_environment, run
from drivers.npu_smi import NpuInfo, parse_info, parse_map
from drivers.pci import PciFunction, list_accelerators
from drivers.support import VendorSupport
from drivers.types import Device, Finding, ProbeResult, Severity, Vendor

SOURCE = "ascend"
DEFAULT_TIMEOUT_S = 10.0
"""Usual answers take under 3 s, those of a 950 up to 10 s."""
TOOL_FOLDERS = ("usr/local/bin", "usr/local/sbin")
_DRIVER_FOLDER = "usr/local/Ascend"
_LIBRARY_FOLDERS = ("driver/lib64/common", "driver/lib64/driver", "driver/lib64")


@dataclass(frozen=True, slots=True)
class AscendProbe:
    """Finds Ascend devices. ``root`` is where ``sys``, ``dev``, ``etc`` and ``usr`` lie; ``tool`` the path of npu-smi
    (default: looked up in /usr/local/bin, /usr/local/sbin and ``search_path``, which is PATH by default)."""

    root: Path = Path("/")
    timeout_s: float = DEFAULT_TIMEOUT_S
    tool: Path | None = None
    search_path: str | None = None
    environment: Mapping[str, str] | None = None
    name: str = field(default=SOURCE, init=False)

    def probe(self) -> ProbeResult:
        """Ask the tool and judge the answer. A machine without any sign of Ascend gives an empty result."""
        functions = list_accelerators(self.root, ASCEND_PCI) or ()
        nodes = read_nodes(self.root)
        tool = self.tool or find_tool(self.root, self.search_path)
        if tool is None:
            seen = bool(functions) or nodes.any
            return ProbeResult(SOURCE, (), (tool_missing(functions, nodes),) if seen else ())
        info, failure = self._ask(tool)
        findings = list(info.findings)
        if not info.devices:
            if info.error_code is not None:
                findings = [dcmi_failed(info.error_code, functions, nodes)]
            elif failure is not None:
                findings.append(_tool_failed(failure))
            else:
                findings += _no_devices(functions, bool(findings))
            return ProbeResult(SOURCE, (), tuple(findings))
        if failure is not None:
            findings.append(_tool_failed(failure))
        devices = tuple(_with_numa_node(device, functions) for device in self._with_index(tool, info.devices))
        findings += [finding for device in devices if (finding := unhealthy(device)) is not None]
        findings += _unlisted(devices, functions) + _unnumbered(devices)
        return ProbeResult(SOURCE, devices, tuple(findings))

    def _ask(self, tool: Path) -> tuple[NpuInfo, CommandFailed | None]:
        """``npu-smi info`` read as far as it goes; a failing tool may still have printed its table."""
        failure: CommandFailed | None = None
        try:
            result = run([str(tool), "info"], timeout_s=self.timeout_s, environment=self._environment())
        except CommandFailed as error:
            failure, result = error, error.result
        text = f"{result.stdout}\n{result.stderr}"
        if failure is not None and not text.strip():
            return NpuInfo(), failure
        info = parse_info(text)
        if failure is not None:
            # The failure says it better than "no table".
            info = replace(info, findings=tuple(f for f in info.findings if f.code != "output_not_understood"))
        return info, failure

    def _with_index(self, tool: Path, devices: Sequence[Device]) -> tuple[Device, ...]:
        """Fill the indexes that the table does not tell (910A, 910B, 950) from ``npu-smi info -m``; when that fails
        too they stay unknown."""
        if all(device.index is not None for device in devices):
            return tuple(devices)
        try:
            answer = run([str(tool), "info", "-m"], timeout_s=self.timeout_s, environment=self._environment())
        except CommandFailed:
            return tuple(devices)
        numbers = parse_map(answer.stdout)
        return tuple(
            replace(device, index=numbers.get((device.card_id, device.chip_id or 0)))
            if device.index is None and device.card_id is not None
            else device
            for device in devices
        )

    def _environment(self) -> Mapping[str, str]:
        if self.environment is not None:
            return self.environment
        # A service has no LD_LIBRARY_PATH, and libascend_hal.so needs libc_sec.so from the driver's "common" folder.
        folders = [str(self.root / _driver_folder(self.root) / part) for part in _LIBRARY_FOLDERS]
        folders.append(str(self.root / "usr/local/dcmi"))
        ours = os.environ.get("LD_LIBRARY_PATH")
        return minimal_environment(LD_LIBRARY_PATH=":".join(([ours] if ours else []) + folders))


def find_tool(root: Path = Path("/"), search_path: str | None = None) -> Path | None:
    """Path of an executable ``npu-smi``: where the driver installs it, then PATH; ``None`` when there is none.

    Relative entries of PATH are skipped: a tool is not taken from the current folder.
    """
    path = os.environ.get("PATH", "") if search_path is None else search_path
    folders = [root / folder for folder in TOOL_FOLDERS]
    folders += [Path(entry) for entry in path.split(":") if entry.startswith("/")]
    for folder in folders:
        tool = folder / "npu-smi"
        if tool.is_file() and os.access(tool, os.X_OK):
            return tool
    return None


def _driver_folder(root: Path) -> str:
    """Where the driver is installed, from its own note, without the leading slash."""
    try:
        text = (root / "etc/ascend_install.info").read_text("utf-8", "replace")
    except OSError:
        return _DRIVER_FOLDER
    for line in text.splitlines():
        name, _, value = line.partition("=")
        if name.strip() == "Driver_Install_Path_Param" and value.strip().startswith("/"):
            return value.strip().strip("/")
    return _DRIVER_FOLDER


def _tool_failed(failure: CommandFailed) -> Finding:
    codes = {FailureKind.TIMED_OUT: "probe_timed_out", FailureKind.SIGNALLED: "probe_crashed"}
    code = codes.get(failure.kind, "probe_failed")
    return Finding(code, failure.message, failure.hint, Severity.ERROR, SOURCE)


def _no_devices(functions: Sequence[PciFunction], explained: bool) -> list[Finding]:
    if functions:
        return [card_without_answer(function) for function in functions]
    if explained:
        return []
    message = "The Ascend driver is installed, but it finds no card."
    return [Finding("no_card", message, "Check the card's seat and power; see lspci -d 19e5:.", Severity.INFO, SOURCE)]


def _unlisted(devices: Sequence[Device], functions: Sequence[PciFunction]) -> list[Finding]:
    """Functions on the bus that no device names. Says nothing when a device has no address (310B, 950 on UB)."""
    addresses = {device.pci_address for device in devices}
    if None in addresses:
        return []
    findings = [card_without_answer(function) for function in functions if function.address not in addresses]
    for function in functions:
        seen = sum(device.pci_address == function.address for device in devices)
        if 0 < seen < function.chips:
            message = f"{function.label} carries {function.chips} chips, but npu-smi lists {seen}."
            hint = "Read dmesg, then reset the card or power the box off and on."
            findings.append(Finding("card_not_answering", message, hint, Severity.ERROR, SOURCE))
    return findings


def _unnumbered(devices: Sequence[Device]) -> list[Finding]:
    if all(device.index is not None for device in devices):
        return []
    message = "npu-smi does not tell the numbers by which programs select its devices."
    hint = "Run npu-smi info -m by hand: it should list a Chip Logic ID for every chip."
    return [Finding("index_unknown", message, hint, Severity.WARNING, SOURCE)]


def _with_numa_node(device: Device, functions: Sequence[PciFunction]) -> Device:
    for function in functions:
        if function.address == device.pci_address:
            return replace(device, numa_node=function.numa_node)
    return device


ASCEND = VendorSupport(Vendor.ASCEND, "Ascend", AscendProbe, AscendMonitor)
