"""What stands between the program and an Ascend card, in plain words with a fix: findings of the Ascend probe.

Sources: vllm-ascend #2698, Ascend device-plugin #23 and #66, HAMi #1696, cann-container-image #46, the FAQ and the
return codes of hicann/driver.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from drivers.ascend_ground import MANAGER, Ground
from drivers.ascend_install import DRIVER_GROUP
from drivers.nodes import DeviceNode
from drivers.pci import PciFunction
from drivers.types import Finding, Severity

SOURCE = "ascend"

NOT_SUPPORTED = -8255
NO_FUNCTION = -99998
DEVICE_USED = -8020
INIT_FAILED = -8005

_NAMES: Mapping[int, str] = {
    -8001: "wrong parameter",
    -8002: "not permitted",
    -8003: "out of memory",
    -8004: "secure function failed",
    INIT_FAILED: "internal error",
    -8006: "timed out",
    -8007: "no such device",
    -8008: "device absent",
    -8009: "driver call failed",
    -8010: "sending to the card failed",
    -8011: "receiving from the card failed",
    -8012: "not ready",
    -8013: "not possible in a container",
    -8014: "file access failed",
    -8015: "being reset",
    -8016: "aborted",
    -8017: "being upgraded",
    DEVICE_USED: "in use",
    -8022: "partition failed",
    -8023: "not configured",
    NOT_SUPPORTED: "not supported",
    NO_FUNCTION: "not in this library",
}

_INSTALL = "Install the driver, then the firmware (for an upgrade the other way round), and reboot."


def code_name(code: int) -> str:
    """DCMI's return code with its meaning: ``-8012 not ready``."""
    return f"{code} {_NAMES[code]}" if code in _NAMES else str(code)


def _cards(functions: Sequence[PciFunction]) -> str:
    if not functions:
        return "An Ascend card has nodes under /dev"
    if len(functions) == 1:
        return f"{functions[0].label} is on the PCI bus"
    first = ", ".join(function.label for function in functions[:4]) + (", ..." if len(functions) > 4 else "")
    return f"{len(functions)} Ascend cards are on the PCI bus ({first})"


def _said(said: str | None, reason: str) -> str:
    return f"{said}: {reason}" if said else reason[0].upper() + reason[1:]


def no_card(ground: Ground, said: str | None) -> Finding:
    """The driver or its tools are there, a card is not."""
    reason = "no Ascend card is on the PCI bus."
    hint = "Check the card's seat and power; lspci -d 19e5: should list it."
    if ground.nodes.in_container:
        hint = "This is a container: start it with the Ascend runtime, or pass the card's nodes to it."
    severity = Severity.ERROR if said else Severity.INFO
    if not said:
        reason = "the Ascend driver is installed, but there is no card."
    return Finding("no_card", _said(said, reason), hint, severity, SOURCE)


def driver_missing(ground: Ground, said: str | None) -> Finding:
    """Cards, but neither a tool nor a library nor a note of an installed driver."""
    reason = "no Ascend driver is installed: there is neither npu-smi nor libdcmi.so nor /dev/davinci_manager."
    message = f"{_cards(ground.cards)}, but {reason}" if not said else _said(said, reason)
    hint = _INSTALL
    if ground.nodes.in_container:
        hint = "This is a container: start it with the Ascend runtime, or pass the nodes and the driver's folders."
    return Finding("driver_missing", message, hint, Severity.ERROR, SOURCE)


def driver_not_loaded(ground: Ground, said: str | None) -> Finding:
    """The driver is installed, its kernel modules are not loaded."""
    message = _said(said, f"{MANAGER} does not exist, the driver's kernel modules are not loaded.")
    install = ground.install
    if ground.nodes.in_container:
        hint = "This is a container: load the driver on the machine itself."
    elif install.kernel_headers is False:
        hint = f"The headers of the running kernel {install.kernel} are missing, so no module was built for it: install"
        hint += " them, install the driver again (or run dkms autoinstall) and reboot."
    else:
        hint = "Check lsmod | grep drv_, dkms status and dmesg. After a kernel update without dkms the driver has to be"
        hint += " installed again."
    if ground.group_there is False:
        hint = f"The driver needs the group {install.group}, which does not exist: create it (groupadd {install.group};"
        hint += f" useradd -g {install.group} {install.group}), install the driver again and reboot."
    return Finding("driver_not_loaded", message, hint, Severity.ERROR, SOURCE)


def driver_incomplete() -> Finding:
    """The installer's own note does not say that it came to its end."""
    message = "The driver's installation did not come to its end (/etc/ascend_install.info)."
    hint = "Install the driver package again to its end, then the firmware, and reboot."
    return Finding("driver_incomplete", message, hint, Severity.WARNING, SOURCE)


def node_missing(ground: Ground, missing: Sequence[str], said: str | None, *, waiting: bool) -> Finding:
    """The driver is loaded, but a node that programs open is not there."""
    names = ", ".join(missing)
    message = _said(said, f"{names} {'do' if len(missing) > 1 else 'does'} not exist.")
    if waiting:
        hint = "The machine has just been started; the driver needs up to four minutes. Look again then."
        return Finding("nodes_waiting", message, hint, Severity.WARNING, SOURCE)
    if ground.nodes.in_container:
        flags = " ".join(f"--device {name}" for name in missing)
        hint = f"This is a container: pass what is missing to it ({flags}), or use the Ascend runtime."
    elif missing == ["/dev/davinci0"] or MANAGER in missing:
        hint = "The driver's modules are loaded, but no card came up: read dmesg, check the firmware's version, reboot."
    else:
        hint = "A module of the driver is not loaded: check lsmod | grep -E 'drv_|ascend_' and dmesg, then reboot."
    return Finding("node_missing", message, hint, Severity.ERROR, SOURCE)


def no_permission(ground: Ground, refused: Sequence[DeviceNode], said: str | None, *, waiting: bool) -> Finding:
    """Nodes that this user may not open."""
    node = refused[0]
    user, group = ground.nodes.user or "this user", ground.install.group
    more = f" (and {len(refused) - 1} more)" if len(refused) > 1 else ""
    reason = f"this user may not open {node.path}{more} (group {node.group}, mode {node.mode}; it runs as {user})."
    message = _said(said, reason)
    if waiting:
        hint = f"The driver gives its nodes to {group} up to four minutes after its start. Look again then."
        return Finding("nodes_waiting", message, hint, Severity.WARNING, SOURCE)
    if ground.group_there is False:
        hint = f"The group {group} does not exist, so the driver could not give the node to it. Create it"
        hint += f" (groupadd {group}; useradd -g {group} {group}), install the driver again and reboot."
    elif node.group != group and not ground.nodes.in_container:
        hint = f"The node should belong to {group}; the driver sets that up to four minutes after the boot."
        hint += f" Check that the group exists and read dmesg, then add the user to it (usermod -aG {group} {user})."
    elif node.listed_in_group and not node.in_group:
        hint = f"{user} was added to {group} after this program had started: restart the service."
    else:
        hint = f"Add the service's user to the group (usermod -aG {node.group} {user}) and restart it."
    if ground.nodes.in_container:
        hint += " This is a container: its user needs the group's number on the machine itself (--group-add)."
    return Finding("no_permission", message, hint, Severity.ERROR, SOURCE)


def not_started(code: int, said: str, ground: Ground) -> Finding:
    """The library did not start although every link before it stands."""
    if code == DEVICE_USED:
        message = f"{said}: the cards are in use by someone else, most often by another container."
        hint = (
            "Stop the other container or give each its own cards; one card that is taken blocks all that are visible."
        )
        return Finding("device_in_use", message, hint, Severity.ERROR, SOURCE)
    if code == -8002:
        message = f"{said}: this user may not use DCMI here."
        hint = f"Run as root, or as a user of the group {DRIVER_GROUP}; in a container DCMI answers root alone."
        return Finding("no_permission", message, hint, Severity.ERROR, SOURCE)
    if code in (-8012, -8015, -8017):
        message = f"{said}: the cards are {_NAMES[code]}."
        hint = "Wait a few minutes and look again; if it stays so, read dmesg and reboot."
        return Finding("driver_not_ready", message, hint, Severity.ERROR, SOURCE)
    message = f"{said}, although {MANAGER} can be opened."
    if ground.nodes.in_container:
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


def tools_missing(ground: Ground) -> Finding:
    """Nodes, but neither a library nor a tool to ask: a half installation or a container without the folders."""
    message = f"{_cards(ground.cards)}, but the driver's tool npu-smi and its library libdcmi.so were not found."
    hint = "The driver runs, its tools are not visible. Install the driver package again"
    hint += ", or mount /usr/local/bin/npu-smi, /usr/local/dcmi and /usr/local/Ascend/driver into the container."
    hint = _closed(ground) or hint
    return Finding("tool_missing", message, hint, Severity.ERROR, SOURCE)


def _closed(ground: Ground) -> str | None:
    """The fix where the library may well be there, in a folder that is closed to this user."""
    if not ground.install.closed:
        return None
    user, group = ground.nodes.user or "USER", ground.install.group
    hint = f"This user ({user}) may not look into {ground.install.closed[0]}: add it to the group {group}"
    return f"{hint} (usermod -aG {group} {user}) and restart the service."


def dcmi_missing(ground: Ground) -> Finding:
    """npu-smi answers, but the library itself is not there."""
    places = ", ".join(str(place) for place in ground.install.searched)
    message = f"The driver's library libdcmi.so was not found (looked in {places}); npu-smi is asked instead."
    hint = "Everything works, but the cards are watched less often. Install the driver package again"
    hint += ", or mount /usr/local/dcmi into the container."
    hint = _closed(ground) or hint
    return Finding("dcmi_missing", message, hint, Severity.INFO, SOURCE)


def dcmi_broke_off() -> Finding:
    """The child ended well and did not print everything."""
    message = "The program that asks DCMI ended before it had told everything."
    return Finding("probe_failed", message, "Look again; if it stays so, run r1box doctor.", Severity.WARNING, SOURCE)


def library_not_loadable(missing: str, ground: Ground, *, answered: bool) -> Finding:
    """The loader's word on libdcmi.so or a library that it needs."""
    name = missing.split(":", 1)[0].strip().rpartition("/")[2]
    folder = ground.install.folder
    severity = Severity.WARNING if answered else Severity.ERROR
    message = f"The driver's library libdcmi.so cannot be loaded: {' '.join(missing.split())[:200]}."
    closed = _closed(ground) if "ermission denied" in missing else None
    if closed is not None:
        hint = closed
    elif name.startswith("libc_sec.so"):
        hint = f"libc_sec.so belongs to the driver ({folder}/driver/lib64/common): install the driver again, or mount"
        hint += " that folder into the container."
    elif name.startswith("libascend_hal.so"):
        hint = f"libascend_hal.so belongs to the driver ({folder}/driver/lib64/driver): install the driver again, or"
        hint += " mount that folder into the container."
    elif "wrong ELF class" in missing or "invalid ELF header" in missing:
        hint = "The file is for another machine or damaged: install the driver package for this machine again."
    elif "undefined symbol" in missing:
        hint = "Libraries of two driver versions are mixed: uninstall the driver, install it again and reboot."
    else:
        hint = f"Install the driver again, or mount {folder}/driver and /usr/local/dcmi into the container."
    return Finding("library_not_loadable", message, hint, severity, SOURCE)


def cann_missing(ground: Ground) -> Finding:
    """The cards answer, but there is nothing to compute with."""
    message = "The cards answer, but no CANN was found: programs compute on them through it."
    hint = "Install the CANN toolkit that fits the driver (r1box doctor names known pairs), or set ASCEND_HOME_PATH."
    if ground.nodes.in_container:
        hint = "Use an image that has CANN, or mount /usr/local/Ascend/cann (older: ascend-toolkit) into the container."
    return Finding("cann_missing", message, hint, Severity.WARNING, SOURCE)


def passed_through(function: PciFunction) -> Finding:
    """A card that a virtual machine owns."""
    message = f"{function.label} is reserved for a virtual machine (vfio-pci) and not used here."
    hint = "To use it here, take it from the virtual machine and bind it to the Ascend driver."
    return Finding("card_passed_through", message, hint, Severity.INFO, SOURCE)
