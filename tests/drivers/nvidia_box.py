"""The system around NVIDIA cards as files of a fake root: the driver's folder below /proc, nodes, a Jetson."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from drivers.types import Finding, Layer, LayerState, ProbeResult

MODULE_TEXT = (
    "NVRM version: NVIDIA UNIX x86_64 Kernel Module  {}  Tue Mar  5 22:23:56 UTC 2024\n"
    "GCC version:  gcc version 12.3.0 (Ubuntu 12.3.0-1ubuntu1~22.04)\n"
)
OPEN_MODULE_TEXT = (
    "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  {}  Release Build  (dvs-builder@U22)  Sep 10 2025\n"
)


def write(root: Path, name: str, text: str = "", mode: int = 0o666) -> Path:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)
    return path


def load_module(root: Path, version: str = "550.54.15", *, open_module: bool = False) -> None:
    """The kernel module is loaded."""
    text = OPEN_MODULE_TEXT if open_module else MODULE_TEXT
    write(root, "proc/driver/nvidia/version", text.format(version))


def make_nodes(root: Path, cards: int, *, control: bool = True, uvm: bool = True) -> None:
    """The driver's nodes; the machine was started long ago."""
    write(root, "proc/uptime", "90000.00 1000.00\n")
    (root / "dev").mkdir(exist_ok=True)
    names = [f"nvidia{number}" for number in range(cards)]
    names += ["nvidiactl"] * control + ["nvidia-uvm"] * uvm
    for name in names:
        write(root, f"dev/{name}")


def number_cards(root: Path, minors: Mapping[str, int]) -> None:
    """The driver's own table of the cards' numbers below /dev, by PCI address."""
    for address, minor in minors.items():
        text = f"Model: \t\t NVIDIA L20\nIRQ:   \t\t 168\nDevice Minor: \t {minor}\nGPU Excluded:\t No\n"
        write(root, f"proc/driver/nvidia/gpus/{address}/information", text)


def make_jetson(root: Path, *, chip: str = "nvidia,tegra234", model: str = "NVIDIA Jetson AGX Orin Kit") -> None:
    """A Jetson's device tree and its GPU driver."""
    write(root, "proc/device-tree/compatible", f"nvidia,p3737-0000+p3701-0000\0{chip}\0")
    write(root, "proc/device-tree/model", f"{model}\0")
    write(root, "sys/module/nvgpu/refcnt", "1\n")
    write(root, "dev/nvhost-gpu")


def codes(result: ProbeResult) -> list[str]:
    return [finding.code for finding in result.findings]


def finding(result: ProbeResult, code: str) -> Finding:
    """The one finding with that code."""
    (found,) = [one for one in result.findings if one.code == code]
    return found


def states(result: ProbeResult) -> dict[Layer, LayerState]:
    return {report.layer: report.state for report in result.layers}


def details(result: ProbeResult) -> dict[Layer, str | None]:
    return {report.layer: report.detail for report in result.layers}


def reasons(result: ProbeResult, layer: Layer) -> tuple[str, ...]:
    (report,) = [one for one in result.layers if one.layer is layer]
    return report.findings
