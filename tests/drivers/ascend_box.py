"""A machine with Ascend cards as a folder: a fake bus, nodes, notes of what is installed, npu-smi, the fake DCMI."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from drivers.ascend import AscendProbe
from drivers.types import DeviceLayers, Finding, Layer, LayerState, ProbeResult
from tests.fakes.dcmi.build import SCENARIO_NAME, write_scenario

FIXTURES = Path(__file__).parents[1] / "fixtures/npu_smi"
DRIVER = "devdrv_device_driver"
A2_BUSES = ("c1", "c2", "81", "82", "01", "02", "41", "42")
"""Of the recorded box with eight 910B3, and of the fake library's."""
ALL_OK = DeviceLayers(LayerState.OK, LayerState.OK, LayerState.OK)

Access = Callable[[Path], bool]


def everyone(path: Path) -> bool:
    """Access that the tests do not care about: they may run as root or not."""
    return path.exists()


class Box:
    """The machine below ``root``; what it has is what was added."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "sys/bus/pci/devices").mkdir(parents=True, exist_ok=True)
        self.write("proc/uptime", "86400.00 1.00\n")

    def write(self, name: str, text: str = "", mode: int = 0o660) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(mode)
        return path

    def card(
        self,
        address: str,
        device: str = "0xd802",
        *,
        driver: str | None = DRIVER,
        subsystem: str = "0x3003",
        vendor: str = "0x19e5",
        numa_node: int = 0,
    ) -> None:
        """A function on the bus."""
        folder = f"sys/bus/pci/devices/{address}"
        values = {"vendor": vendor, "device": device, "class": "0x120000", "subsystem_device": subsystem}
        for name, text in (values | {"numa_node": str(numa_node)}).items():
            self.write(f"{folder}/{name}", text + "\n")
        if driver is not None:
            (self.root / folder / "driver").symlink_to(f"../../../../bus/pci/drivers/{driver}")

    def nodes(self, chips: int, *names: str) -> None:
        """Nodes of that many chips, the manager's and the given ones (default: those of every card but a 950)."""
        for name in [*(f"davinci{number}" for number in range(chips)), "davinci_manager"]:
            self.write(f"dev/{name}")
        for name in names or ("devmm_svm", "hisi_hdc"):
            self.write(f"dev/{name}")
        for node in (self.root / "dev").iterdir():
            os.utime(node, (1000, 1000))

    def driver(self, version: str = "25.2.0", firmware: str = "7.7.0.6.236") -> None:
        """The notes of an installed driver and firmware."""
        self.write("usr/local/Ascend/driver/version.info", f"Version={version}\nascendhal_version=7.35\n")
        self.write("usr/local/Ascend/firmware/version.info", f"Version={firmware}\nfirmware_version=1.0\n")
        self.write("proc/modules", "ext4 1 0 - Live 0x0\ndrv_pcie_host 1 0 - Live 0x0\nascend_xsmem 1 0 - Live 0x0\n")

    def cann(self, version: str = "8.5.0") -> None:
        self.write(f"usr/local/Ascend/cann-{version}/aarch64-linux/ascend_toolkit_install.info", f"version={version}\n")
        link = self.root / "usr/local/Ascend/cann"
        if not link.is_symlink():
            link.symlink_to(f"cann-{version}")

    def ready(self, chips: int) -> None:
        """Everything but the cards and who answers for them."""
        self.nodes(chips)
        self.driver()
        self.cann()

    def a2(self, count: int = 8) -> None:
        """That many 910B with everything but who answers for them."""
        for bus in A2_BUSES[:count]:
            self.card(f"0000:{bus}:00.0")
        self.ready(count)

    def tool(self, body: str) -> Path:
        """A shell script in the place of npu-smi."""
        return self.write("usr/local/bin/npu-smi", "#!/bin/sh\n" + body, 0o755)

    def library(self, built: Path, scenario: Mapping[str, object]) -> Path:
        """The fake DCMI where the driver installs it, with its scenario beside it."""
        path = self.root / "usr/local/dcmi/libdcmi.so"
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(built, path)
        write_scenario(path.with_name(SCENARIO_NAME), scenario)
        return path

    def probe(self, timeout_s: float = 60.0, access: Access = everyone) -> ProbeResult:
        return AscendProbe(self.root, timeout_s=timeout_s, search_path="", access=access).probe()


def prints(**answers: Path | str) -> str:
    """Body of a tool that prints recorded output by its argument, without the source line: ``prints(info=...)``,
    ``prints(m=...)``, ``prints(t_common_i_1=...)`` for ``info -t common -i 1``."""
    lines = ['case "$*" in']
    for words, answer in answers.items():
        first, *rest = words.split("_")
        arguments = "info" if words == "info" else "info -" + first
        for word in rest:
            arguments += f" -{word}" if word in ("i", "c") else f" {word}"
        text = f"tail -n +2 '{answer}'" if isinstance(answer, Path) else f"printf '%b' '{answer}'"
        lines.append(f'"{arguments}") {text};;')
    return "\n".join([*lines, "*) exit 9;;", "esac\n"])


def states(result: ProbeResult) -> dict[str, str]:
    """State of each layer by its name."""
    return {report.layer.value: report.state.value for report in result.layers}


def state(result: ProbeResult, layer: Layer) -> LayerState:
    return next(report.state for report in result.layers if report.layer is layer)


def codes(result: ProbeResult) -> list[str]:
    return [finding.code for finding in result.findings]


def news(result: ProbeResult) -> list[Finding]:
    """The findings without those that every tree has that lacks the library and CANN."""
    return [finding for finding in result.findings if finding.code not in ("dcmi_missing", "cann_missing")]


def only(result: ProbeResult) -> Finding:
    """The one thing that is wrong; it has a next step."""
    found = news(result)
    assert len(found) == 1, found
    assert found[0].hint
    return found[0]
