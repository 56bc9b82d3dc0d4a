"""What the system around NVIDIA's cards shows without asking their library: bus, kernel module, nodes, Jetson.

Each fact comes from one place below a root folder; a fact that cannot be read is ``None`` or empty, never a guess.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from drivers.nodes import DeviceNodes, numbered_nodes, read_nodes
from drivers.nvidia_ids import NVIDIA_PCI
from drivers.pci import PciFunction, list_accelerators, normalize_address

CONTROL_NODE = "/dev/nvidiactl"
UVM_NODE = "/dev/nvidia-uvm"
JETSON_NODES = ("/dev/nvgpu", "/dev/nvhost-gpu")
MODULE_VERSION_PATH = "proc/driver/nvidia/version"
GRACE_S = 120.0
"""How long after the machine's start a missing node may still come: nvidia-persistenced and udev make them late."""

_MODULE_VERSION = re.compile(r"Kernel Module\b.*?\s(\d+\.\d+(?:\.\d+)*)\s")
_MINOR = re.compile(r"^Device Minor:\s*(\d{1,4})\s*$", re.MULTILINE)
_TEGRA: Mapping[str, tuple[str, str | None]] = {
    "nvidia,tegra210": ("Tegra X1", "5.3"),
    "nvidia,tegra186": ("Tegra X2", "6.2"),
    "nvidia,tegra194": ("Xavier", "7.2"),
    "nvidia,tegra234": ("Orin", "8.7"),
    "nvidia,tegra264": ("Thor", None),
}
"""The system-on-chip by its word in the device tree, and CUDA's number for its GPU (Thor: two numbers are in use)."""


@dataclass(frozen=True, slots=True)
class Jetson:
    """A system-on-chip whose GPU is on no PCI bus. ``model`` is the board's name, ``driver`` whether nvgpu is there."""

    chip: str
    compute_capability: str | None
    model: str | None
    driver: bool


@dataclass(frozen=True, slots=True)
class NvidiaGround:
    """``functions`` are NVIDIA's cards on the bus (``None``: the bus cannot be read), ``lost`` the addresses of those
    that answer the bus with nothing but ones (lspci: ``rev ff``), ``minors`` their numbers below /dev by address.
    ``module_loaded`` is ``None`` where the kernel's modules cannot be seen. ``nodes`` hold nothing when there is no
    /dev. ``helper``: a program may have nvidia-modprobe make a missing node. ``wsl``: Windows' way to the card."""

    functions: tuple[PciFunction, ...] | None = None
    lost: frozenset[str] = frozenset()
    minors: Mapping[str, int] = field(default_factory=dict)
    module_loaded: bool | None = None
    module_version: str | None = None
    nodes: DeviceNodes = DeviceNodes()  # noqa: RUF009 (frozen)
    helper: bool = False
    wsl: bool = False
    jetson: Jetson | None = None

    @property
    def on_bus(self) -> tuple[PciFunction, ...]:
        return self.functions or ()

    @property
    def card_nodes(self) -> tuple[str, ...]:
        """Paths of the cards' nodes that exist."""
        return tuple(node.path for node in self.nodes.nodes if node.exists and node.path[11:].isdigit())

    @property
    def has_sign(self) -> bool:
        """Whether anything but a library speaks for an NVIDIA card on this machine."""
        return bool(self.functions or self.module_loaded or self.nodes.any or self.jetson)

    def function_at(self, address: str | None) -> PciFunction | None:
        return next((function for function in self.on_bus if function.address == address), None)


def read_ground(root: Path) -> NvidiaGround:
    """Look around below ``root``. Never raises."""
    functions = list_accelerators(root, NVIDIA_PCI)
    jetson = read_jetson(root)
    return NvidiaGround(
        functions=functions,
        lost=frozenset(function.address for function in functions or () if reads_all_ones(root, function.address)),
        minors=_minors(root),
        module_loaded=_module_loaded(root),
        module_version=_module_version(root),
        nodes=_nodes(root, JETSON_NODES if jetson is not None else ()),
        helper=_helper_works(root),
        wsl=(root / "dev/dxg").exists(),
        jetson=jetson,
    )


def reads_all_ones(root: Path, address: str) -> bool:
    """Whether the function's configuration space reads as ones: nothing answers on the bus at that address."""
    try:
        with (root / "sys/bus/pci/devices" / address / "config").open("rb") as file:
            return file.read(4) == b"\xff\xff\xff\xff"
    except OSError:
        return False


def read_jetson(root: Path) -> Jetson | None:
    """The Jetson that the device tree describes, if it is one."""
    try:
        words = (root / "proc/device-tree/compatible").read_bytes().decode("ascii", "replace").split("\0")
    except OSError:
        return None
    chip, capability = next((_TEGRA[word] for word in words if word in _TEGRA), (None, None))
    if chip is None:
        if not any(word.startswith("nvidia,tegra") for word in words):
            return None
        chip = "Tegra"
    try:
        text = (root / "proc/device-tree/model").read_bytes().decode("utf-8", "replace")
        model = "".join(letter for letter in text if letter.isprintable()).strip()[:80] or None
    except OSError:
        model = None
    driver = (root / "sys/module/nvgpu").exists() or any((root / path.lstrip("/")).exists() for path in JETSON_NODES)
    return Jetson(chip, capability, model, driver)


def _module_loaded(root: Path) -> bool | None:
    if (root / MODULE_VERSION_PATH).exists() or (root / "sys/module/nvidia").exists():
        return True
    return False if (root / "sys/module").is_dir() else None


def _module_version(root: Path) -> str | None:
    """From ``.. x86_64 Kernel Module  550.54.15  Tue ..`` or ``.. Open Kernel Module for x86_64  580.95.05  ..``."""
    try:
        text = (root / MODULE_VERSION_PATH).read_text("utf-8", "replace")[:4096]
    except OSError:
        return None
    found = _MODULE_VERSION.search(text + " ")
    return found.group(1) if found else None


def _minors(root: Path) -> dict[str, int]:
    """The driver's own table: ``Device Minor: 	 3`` below each card's address."""
    minors: dict[str, int] = {}
    try:
        folders = list((root / "proc/driver/nvidia/gpus").iterdir())
    except OSError:
        return minors
    for folder in folders:
        address = normalize_address(folder.name)
        try:
            found = _MINOR.search((folder / "information").read_text("utf-8", "replace")[:4096])
        except OSError:
            continue
        if address is not None and found:
            minors[address] = int(found.group(1))
    return minors


def _nodes(root: Path, more: Sequence[str]) -> DeviceNodes:
    if not (root / "dev").is_dir():
        return DeviceNodes()
    return read_nodes(root, [CONTROL_NODE, UVM_NODE, *numbered_nodes(root, "nvidia"), *more])


def _helper_works(root: Path) -> bool:
    """Whether nvidia-modprobe is there with root's rights and this process may gain them."""
    try:
        mode = (root / "usr/bin/nvidia-modprobe").stat().st_mode
        status = (root / "proc/self/status").read_text("ascii", "replace")
    except OSError:
        return False
    return bool(mode & stat.S_ISUID) and re.search(r"^NoNewPrivs:\s*1\s*$", status, re.MULTILINE) is None
