"""What stands between the program and an Ascend card, in plain words with a fix: findings of the Ascend probe.

DCMI's codes alone do not tell a missing permission from a card in use (-8005 is printed for both), so the nodes under
/dev, their owner and the PCI bus are looked at before anything is said. Sources: vllm-ascend #2698, Ascend
device-plugin #23 and #66, HAMi #1696, cann-container-image #46, the FAQ of hicann/driver.
"""

from __future__ import annotations

import grp
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from drivers.pci import PciFunction
from drivers.types import Device, Finding, Health, Severity

SOURCE = "ascend"
DRIVER_GROUP = "HwHiAiUser"
MANAGER_NODE = "dev/davinci_manager"

DEVICE_USED = -8020
INIT_FAILED = -8005


@dataclass(frozen=True, slots=True)
class Nodes:
    """The driver's nodes under ``/dev`` as this process sees them. ``manager_mode`` is like ``0660``, the owner names
    are numbers when the system does not know them."""

    chips: int
    manager: bool
    manager_usable: bool
    manager_mode: str | None = None
    manager_group: str | None = None
    in_container: bool = False

    @property
    def any(self) -> bool:
        return self.manager or self.chips > 0


def read_nodes(root: Path = Path("/")) -> Nodes:
    """Look at ``root/dev/davinci*``. Opens nothing, never raises."""
    try:
        names = [entry.name for entry in (root / "dev").iterdir()]
    except OSError:
        names = []
    chips = sum(name.startswith("davinci") and name[7:].isascii() and name[7:].isdigit() for name in names)
    in_container = any((root / mark).exists() for mark in (".dockerenv", "run/.containerenv"))
    manager = root / MANAGER_NODE
    try:
        status = manager.stat()
    except OSError:
        return Nodes(chips, manager=False, manager_usable=False, in_container=in_container)
    try:
        group = grp.getgrgid(status.st_gid).gr_name
    except KeyError:
        group = str(status.st_gid)
    return Nodes(
        chips,
        manager=True,
        manager_usable=os.access(manager, os.R_OK | os.W_OK),
        manager_mode=f"{stat.S_IMODE(status.st_mode):04o}",
        manager_group=group,
        in_container=in_container,
    )


def _cards(functions: Sequence[PciFunction]) -> str:
    if not functions:
        return "An Ascend card has nodes under /dev"
    if len(functions) == 1:
        return f"{functions[0].label} is on the PCI bus"
    first = ", ".join(function.label for function in functions[:4]) + (", ..." if len(functions) > 4 else "")
    return f"{len(functions)} Ascend functions are on the PCI bus ({first})"


def tool_missing(functions: Sequence[PciFunction], nodes: Nodes) -> Finding:
    """Cards, but no ``npu-smi``: the driver is not installed, or a container was given the nodes without the tool."""
    if nodes.any:
        message = f"{_cards(functions)}, but the driver's tool npu-smi was not found."
        hint = "The driver runs, its tools are not visible. Install the driver package again"
        hint += ", or mount /usr/local/bin/npu-smi and /usr/local/Ascend/driver into the container."
        return Finding("tool_missing", message, hint, Severity.ERROR, SOURCE)
    message = (
        f"{_cards(functions)}, but no Ascend driver is installed: there is neither npu-smi nor /dev/davinci_manager."
    )
    hint = "Install the driver, then the firmware (for an upgrade the other way round), and reboot."
    if nodes.in_container:
        hint = "This is a container: start it with the Ascend runtime, or pass the nodes and the driver's folders."
    return Finding("driver_missing", message, hint, Severity.ERROR, SOURCE)


def dcmi_failed(code: int, functions: Sequence[PciFunction], nodes: Nodes) -> Finding:
    """Why the driver's library did not start, from its code and from what is really there."""
    said = f"npu-smi could not start the driver's library (DCMI {code})"
    if not nodes.manager:
        return _no_manager_node(said, functions, nodes)
    if not nodes.manager_usable:
        message = f"{said}: this user may not open /dev/davinci_manager"
        message += f" (group {nodes.manager_group}, mode {nodes.manager_mode})."
        hint = f"Add the service's user to the group (usermod -aG {DRIVER_GROUP} USER) and restart it."
        if nodes.manager_group != DRIVER_GROUP:
            hint = (
                f"The node should belong to {DRIVER_GROUP}; the driver sets that up to four minutes after the boot."
                f" Wait, check that the group exists, add the service's user to it (usermod -aG {DRIVER_GROUP} USER)."
            )
        return Finding("no_permission", message, hint, Severity.ERROR, SOURCE)
    if code == DEVICE_USED:
        message = f"{said}: the cards are in use by someone else, most often by another container."
        hint = (
            "Stop the other container or give each its own cards; one card that is taken blocks all that are visible."
        )
        return Finding("device_in_use", message, hint, Severity.ERROR, SOURCE)
    message = f"{said}, although /dev/davinci_manager can be opened."
    if nodes.in_container:
        hint = (
            "In a container: pass /dev/davinci_manager, /dev/devmm_svm, /dev/hisi_hdc and the /dev/davinci nodes, mount"
            " /usr/local/Ascend/driver and /usr/local/dcmi, and check that no other container holds the card."
        )
    else:
        hint = (
            "Usual causes: only root may use DCMI here (try as root), a container holds the card, or the driver is not"
            " fully up: check lsmod | grep drv_, dmesg and the firmware version, then reboot."
        )
    return Finding("driver_not_ready", message, hint, Severity.ERROR, SOURCE)


def _no_manager_node(said: str, functions: Sequence[PciFunction], nodes: Nodes) -> Finding:
    message = f"{said}: /dev/davinci_manager does not exist."
    if nodes.in_container:
        hint = "This is a container: pass the node to it (--device /dev/davinci_manager), or use the Ascend runtime."
        return Finding("node_missing", message, hint, Severity.ERROR, SOURCE)
    if not functions:
        hint = "No Ascend card is on the PCI bus: check the card's seat and power."
        return Finding("no_card", message, hint, Severity.ERROR, SOURCE)
    hint = (
        "The driver's modules are not loaded: check lsmod | grep drv_ and dkms status. After a kernel update"
        " without dkms the driver has to be installed again."
    )
    return Finding("driver_not_loaded", message, hint, Severity.ERROR, SOURCE)


def unhealthy(device: Device) -> Finding | None:
    """A finding for a device whose driver calls it other than OK."""
    if device.health in (Health.OK, Health.UNKNOWN):
        return None
    message = f"The driver reports {device.health.value} for {device.name} ({device.key})."
    hint = f"Run npu-smi info -t health -i {device.card_id}: it prints the error codes and their meaning."
    if device.health is Health.WARNING or (device.chip or "").startswith("310B"):
        hint += " The card may still work: boards with the 310B often show an alarm for their current sensor alone."
        return Finding("device_unhealthy", message, hint, Severity.WARNING, SOURCE, device.key)
    return Finding("device_unhealthy", message, hint, Severity.ERROR, SOURCE, device.key)


def card_without_answer(function: PciFunction) -> Finding:
    """A card on the bus that ``npu-smi`` leaves out: it skips a chip whose health it cannot read."""
    if function.driver == "vfio-pci":
        message = f"{function.label} is reserved for a virtual machine (vfio-pci) and not used here."
        return Finding("card_passed_through", message, None, Severity.INFO, SOURCE)
    bound = f"bound to {function.driver}" if function.driver else "bound to no driver"
    message = f"{function.label} is on the PCI bus ({bound}), but npu-smi does not list it."
    hint = "npu-smi leaves out chips that do not answer: read dmesg, then reset the card or power the box off and on."
    return Finding("card_not_answering", message, hint, Severity.ERROR, SOURCE)
