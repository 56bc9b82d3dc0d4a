"""What can be seen of Ascend cards without asking the driver: the bus, the nodes, what is installed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from drivers.ascend_ids import ASCEND_PCI
from drivers.ascend_install import Install, read_install
from drivers.nodes import DeviceNodes, group_exists, is_there, may_open, numbered_nodes, read_nodes
from drivers.pci import PciFunction, list_accelerators

MANAGER = "/dev/davinci_manager"
MEMORY = "/dev/devmm_svm"
MEMORY_950 = "/dev/asdrv_svm"
CHANNEL = "/dev/hisi_hdc"
CHIP = "/dev/davinci"

GRACE_S = 240.0
"""The driver's script gives the nodes their owner in a loop of 110 rounds, about 220 s, after the driver was loaded."""
_PASSED_THROUGH = "vfio-pci"


@dataclass(frozen=True, slots=True)
class Ground:
    """``functions`` are the Ascend functions on the bus (``None``: no bus can be read), those that a virtual machine
    owns among them. ``group_there``: whether the driver's group exists (``None``: not known)."""

    functions: tuple[PciFunction, ...] | None
    nodes: DeviceNodes
    install: Install
    group_there: bool | None = None

    @property
    def cards(self) -> tuple[PciFunction, ...]:
        """The functions that this machine may use."""
        return tuple(one for one in self.functions or () if one.driver != _PASSED_THROUGH)

    @property
    def passed_through(self) -> tuple[PciFunction, ...]:
        """The functions that a virtual machine owns."""
        return tuple(one for one in self.functions or () if one.driver == _PASSED_THROUGH)

    @property
    def chips(self) -> int:
        """How many chips the bus promises."""
        return sum(function.chips for function in self.cards)

    @property
    def chip_nodes(self) -> tuple[str, ...]:
        """Paths of the chips' nodes that exist."""
        return tuple(node.path for node in self.nodes.nodes if node.exists and node.path[len(CHIP) :].isdigit())

    @property
    def expected(self) -> int:
        """How many chips should answer: a container has the nodes of its own cards alone and sees the whole bus."""
        return min(self.chips, len(self.chip_nodes)) if self.nodes.in_container else self.chips

    @property
    def any(self) -> bool:
        """Whether there is any sign of a card or its driver."""
        return bool(self.functions) or self.nodes.any or self.install.library is not None


def read_ground(
    root: Path, *, access: Callable[[Path], bool] = may_open, now: float | None = None, cann_home: str | None = None
) -> Ground:
    """Look around below ``root``. Opens no node, starts nothing, never raises."""
    install = read_install(root, cann_home=cann_home)
    functions = list_accelerators(root, ASCEND_PCI)
    needed = _needed(functions or ())
    there = [path for path in (MEMORY, MEMORY_950, CHANNEL) if is_there(root / path.lstrip("/"))]
    paths = dict.fromkeys([*numbered_nodes(root, "davinci"), MANAGER, *needed, *there])
    return Ground(
        functions=functions,
        nodes=read_nodes(root, tuple(paths), access=access, now=now),
        install=install,
        group_there=group_exists(root, install.group),
    )


def _needed(functions: Sequence[PciFunction]) -> tuple[str, ...]:
    """Nodes beside the chips' and the manager's that programs open. A 950 has its memory behind another node, a
    system-on-chip has other nodes for both (MindCluster, ascend-docker-runtime process.go)."""
    if not functions:
        return ()
    if any(function.chip in ("950", None) for function in functions):
        return (CHANNEL,)
    return (MEMORY, CHANNEL)
