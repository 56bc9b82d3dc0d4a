"""NVML's return codes in plain words: what is wrong, from what it usually comes, what to do.

Codes: nvmlReturn_t in NVIDIA's nvml.h. Which code means what also depends on the ground (``drivers.nvidia_ground``):
"driver not loaded" is as well what a container without the card's nodes gets.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from drivers.nvidia_ground import UVM_NODE, NvidiaGround
from drivers.nvidia_reading import NvmlStart
from drivers.pci import PciFunction
from drivers.types import Device, Finding, Severity

SOURCE = "nvidia"

INVALID_ARGUMENT = 2
NOT_SUPPORTED = 3
NO_PERMISSION = 4
DRIVER_NOT_LOADED = 9
IRQ_ISSUE = 11
LIBRARY_NOT_FOUND = 12
FUNCTION_NOT_FOUND = 13
CORRUPTED_INFOROM = 14
GPU_IS_LOST = 15
RESET_REQUIRED = 16
OPERATING_SYSTEM = 17
LIB_RM_VERSION_MISMATCH = 18
UNKNOWN = 999

BENIGN_CALL_ERRORS = frozenset({NOT_SUPPORTED, FUNCTION_NOT_FOUND})
"""The card or the driver has no such figure; an old driver lacks the function."""

_NAMES: Mapping[int, str] = {
    1: "uninitialized",
    INVALID_ARGUMENT: "invalid argument",
    NOT_SUPPORTED: "not supported",
    NO_PERMISSION: "no permission",
    6: "not found",
    8: "insufficient external power",
    DRIVER_NOT_LOADED: "driver not loaded",
    10: "timeout",
    IRQ_ISSUE: "interrupt problem",
    FUNCTION_NOT_FOUND: "function not found",
    CORRUPTED_INFOROM: "corrupted infoROM",
    GPU_IS_LOST: "GPU is lost",
    RESET_REQUIRED: "reset required",
    OPERATING_SYSTEM: "blocked by the operating system",
    LIB_RM_VERSION_MISMATCH: "library and kernel module differ",
    20: "insufficient memory",
    UNKNOWN: "unknown error",
}

NOUVEAU = "nouveau"
VFIO = "vfio-pci"
_NOUVEAU_HINT = "nouveau cannot compute. Install NVIDIA's driver (it blocks nouveau) and reboot."
_VFIO_HINT = "Use it in its virtual machine, or bind it to nvidia to use it here."
_LOST_HINT = (
    "Read journalctl -k -g Xid (79 is typical): check power, cooling and the riser, then power the box off and on."
)
_INIT: Mapping[int, tuple[str, str, str]] = {
    IRQ_ISSUE: (
        "interrupt_problem",
        "NVIDIA's driver gets no interrupts from a card.",
        "Check the card's seat and power and the BIOS settings, and read dmesg.",
    ),
    GPU_IS_LOST: ("device_lost", "A card has fallen off the bus.", _LOST_HINT),
    RESET_REQUIRED: ("reset_required", "A card needs a reset.", "Run nvidia-smi --gpu-reset, or reboot."),
    OPERATING_SYSTEM: (
        "blocked_by_system",
        "The operating system or the container blocks access to NVIDIA's driver.",
        "Check the device rules of the cgroup or container.",
    ),
    UNKNOWN: (
        "driver_unknown_error",
        "NVIDIA's library reports an unknown error.",
        (
            "In a container this often means that its device access was lost (after systemctl daemon-reload):"
            " restart it. Else read dmesg."
        ),
    ),
}


def error_name(code: int) -> str:
    """NVML's code with its meaning: ``15 (GPU is lost)``."""
    return f"{code} ({_NAMES[code]})" if code in _NAMES else str(code)


def _cards(functions: Sequence[PciFunction]) -> str:
    if len(functions) == 1:
        return f"{functions[0].label} is on the PCI bus"
    first = ", ".join(function.label for function in functions[:4]) + (", ..." if len(functions) > 4 else "")
    return f"{len(functions)} NVIDIA cards are on the PCI bus ({first})"


def held_findings(functions: Sequence[PciFunction]) -> list[Finding] | None:
    """Why NVIDIA's driver has no card, when other kernel drivers hold all of them; ``None`` when they do not."""
    drivers = {function.driver for function in functions}
    if functions and drivers == {VFIO}:
        # Reserved on purpose, but then nothing is left for this program.
        return [replace(card_without_answer(function), severity=Severity.WARNING) for function in functions]
    if NOUVEAU in drivers and not drivers - {NOUVEAU, VFIO}:
        held = [function for function in functions if function.driver == NOUVEAU]
        message = f"{_cards(held)}, but the driver nouveau holds {'it' if len(held) == 1 else 'them'}."
        return [Finding("nouveau_bound", message, _NOUVEAU_HINT, Severity.ERROR, SOURCE)]
    return None


def driver_missing(functions: Sequence[PciFunction], *, module_loaded: bool | None) -> Finding:
    """Cards on the bus but no NVML library."""
    message = f"{_cards(functions)}, but the driver's library libnvidia-ml.so.1 was not found."
    hint = "Install NVIDIA's driver (with its kernel module) and reboot."
    if module_loaded or any(function.driver == "nvidia" for function in functions):
        hint = (
            "The kernel module is there, its library is not: install the package with libnvidia-ml.so.1."
            " In a container, start it with NVIDIA's container runtime."
        )
    return Finding("driver_missing", message, hint, Severity.ERROR, SOURCE)


def init_finding(start: NvmlStart, ground: NvidiaGround) -> Finding:
    """Why the library could not be initialised. Where nothing speaks for a card it only informs."""
    code = start.error or 0
    severity = Severity.INFO if ground.functions is not None and not ground.has_sign else Severity.ERROR
    if code == DRIVER_NOT_LOADED:
        message = "NVIDIA's library is installed, but its kernel module is not loaded."
        if ground.on_bus:
            message = f"{_cards(ground.on_bus)}, but NVIDIA's kernel module is not loaded."
        hint = (
            "Run modprobe nvidia and read dmesg. Usual causes: the module was not built for this kernel (dkms status),"
            " Secure Boot refuses it, or another driver holds the card."
        )
        if ground.module_loaded:
            message = "NVIDIA's kernel module is loaded, but its library does not reach it."
            hint = "Read journalctl -k -g NVRM; in a container, start it with NVIDIA's container runtime (--gpus all)."
        return Finding("driver_not_loaded", message, hint, severity, SOURCE)
    if code == LIB_RM_VERSION_MISMATCH:
        return version_mismatch(library_version(start), ground.module_version, severity)
    if code == NO_PERMISSION:
        return no_permission(ground, severity)
    if code in _INIT:
        name, message, hint = _INIT[code]
        return Finding(name, message, hint, severity, SOURCE)
    message = f"NVIDIA's library could not be initialised: error {error_name(code)}."
    return Finding("library_init_failed", message, "Run nvidia-smi and read dmesg.", severity, SOURCE)


def library_version(start: NvmlStart) -> str | None:
    """The driver version that the library belongs to: from its file's name, else from what it says of itself
    (``12.550.54.15``: CUDA's major first; some releases leave the last part out)."""
    found = re.search(r"libnvidia-ml\.so\.(\d+(?:\.\d+)+)$", start.library_path or "")
    if found:
        return found.group(1)
    parts = (start.library_version or "").split(".")
    return ".".join(parts[1:]) if len(parts) > 2 else start.library_version


def version_mismatch(library: str | None, module: str | None, severity: Severity = Severity.ERROR) -> Finding:
    """Library and loaded kernel module are of different releases; says both."""
    message = "NVIDIA's library and its loaded kernel module have different versions."
    if library and module:
        message = f"NVIDIA's library is version {library}, the loaded kernel module {module}: they must be the same."
    hint = (
        "The driver package was upgraded while the old module is still loaded (often by unattended-upgrades): reboot."
    )
    if module is None:
        hint += " /proc/driver/nvidia/version shows the version of the module."
    return Finding("driver_version_mismatch", message, hint, severity, SOURCE)


def no_permission(ground: NvidiaGround, severity: Severity = Severity.ERROR) -> Finding:
    """This user may not open the driver's nodes; names the first that is closed."""
    refused = ground.nodes.refused
    message = "This user may not talk to NVIDIA's driver."
    hint = "Check the owner and mode of /dev/nvidiactl and /dev/nvidia0, or run as a user of their group."
    if refused:
        node, user = refused[0], ground.nodes.user or "this user"
        message = f"{node.described}; this program runs as {user}, which may not open it."
        if node.in_group is False and node.group not in (None, "root") and (node.mode or "0000")[-2] in "67":
            hint = f"Run usermod -aG {node.group} {user}, then restart the service."
        if node.listed_in_group and node.in_group is False:
            hint = f"{user} is in the group {node.group} since this program was started: restart the service."
    if ground.nodes.in_container:
        hint += " In a container, pass the cards to it (--gpus all)."
    return Finding("no_permission", message, hint, severity, SOURCE)


def node_missing(ground: NvidiaGround, paths: Sequence[str]) -> Finding:
    """The module is loaded, but nodes are not there."""
    there = "is" if len(paths) == 1 else "are"
    message = f"NVIDIA's kernel module is loaded, but {', '.join(paths[:4])} {there} missing."
    hint = "Run nvidia-modprobe -c 0 -u as root, or nvidia-smi as root; nvidia-persistenced does so at each start."
    if ground.nodes.in_container:
        hint = "The container was not given the cards: start it with NVIDIA's container runtime (--gpus all)."
    return Finding("node_missing", message, hint, Severity.ERROR, SOURCE)


def uvm_missing(ground: NvidiaGround) -> Finding:
    """The node that CUDA needs and NVML does not."""
    message = f"{UVM_NODE} is missing: the cards are seen, but no program can compute on them."
    hint = "Run nvidia-modprobe -u -c 0 as root, and enable nvidia-persistenced so that it is made at each start."
    if ground.nodes.in_container:
        hint = f"Pass {UVM_NODE} to the container: NVIDIA_DRIVER_CAPABILITIES has to name compute, or start it anew."
    if ground.helper and not ground.nodes.in_container:
        message = f"{UVM_NODE} is not there yet: nvidia-modprobe makes it for the first program that computes."
        return Finding("uvm_missing", message, hint, Severity.INFO, SOURCE)
    return Finding("uvm_missing", message, hint, Severity.ERROR, SOURCE)


def cuda_library_missing(ground: NvidiaGround) -> Finding:
    """NVML works, but a program that computes finds no CUDA library."""
    message = "The driver's library libcuda.so.1 was not found: the cards are seen, but no program can compute on them."
    hint = "Install the driver's compute package (libnvidia-compute-..., nvidia-driver-cuda) of the same version."
    if ground.nodes.in_container:
        hint = "Start the container with NVIDIA_DRIVER_CAPABILITIES=compute,utility."
    return Finding("cuda_library_missing", message, hint, Severity.ERROR, SOURCE)


def card_lost_on_bus(device: Device) -> Finding:
    """The card's place on the bus answers with nothing but ones, and the library does not list it."""
    message = (
        f"{device.name} at {device.pci_address} has fallen off the bus: it answers with nothing but ones (rev ff)."
    )
    return Finding("device_lost", message, _LOST_HINT, Severity.ERROR, SOURCE, device.key)


def instance_finding(code: int, device: Device) -> Finding:
    """Why a MIG instance gives no answer."""
    if code == NO_PERMISSION:
        message = f"MIG instance {device.chip_id} of card {device.card_id} may not be used by this user."
        hint = "Check the owner and mode of its nodes under /dev/nvidia-caps."
        return Finding("no_permission", message, hint, Severity.ERROR, SOURCE, device.key)
    message = f"MIG instance {device.chip_id} of card {device.card_id} gives no answer: error {error_name(code)}."
    return Finding("device_failed", message, "Run nvidia-smi -L and read dmesg.", Severity.ERROR, SOURCE, device.key)


def fewer_nvlinks(device: Device, active: int, most: int) -> Finding:
    """A card with fewer NVLinks up than its like in this machine."""
    message = f"Card {device.index} ({device.name}) has {active} NVLinks up, another card of its kind {most}."
    hint = "Run nvidia-smi nvlink -s; check the bridges or the board, and the service nvidia-fabricmanager."
    return Finding("nvlink_degraded", message, hint, Severity.WARNING, SOURCE, device.key)


def jetson_without_library(device: Device) -> Finding:
    """A Jetson before JetPack 6 has no NVML."""
    message = (
        f"{device.name}: this system has no NVML (it comes with JetPack 6), so load and temperature are not known."
    )
    return Finding("no_management_library", message, None, Severity.INFO, SOURCE, device.key)


def log_unreadable(refused: str) -> Finding:
    """Xid errors are unknown."""
    message = f"Whether the cards reported errors to the kernel log (Xid) is not known: {refused}."
    hint = "Add the service's user to the group systemd-journal, then restart the service."
    return Finding("kernel_log_unreadable", message, hint, Severity.INFO, SOURCE)


def handle_finding(code: int, device: Device) -> Finding:
    """Why one card gives no answer while the library works."""
    where = f"Card {device.index}" + (f" ({device.name}, {device.pci_address})" if device.pci_address else "")
    if code == GPU_IS_LOST:
        message = f"{where} has fallen off the bus: the driver has lost it."
        return Finding("device_lost", message, _LOST_HINT, Severity.ERROR, SOURCE, device.key)
    if code == RESET_REQUIRED:
        message, hint = f"{where} needs a reset.", f"Run nvidia-smi --gpu-reset -i {device.index}, or reboot."
        return Finding("reset_required", message, hint, Severity.ERROR, SOURCE, device.key)
    if code == NO_PERMISSION:
        message, hint = (
            f"{where} may not be used by this user.",
            "Check the owner and mode of its node under /dev/nvidia*.",
        )
        return Finding("no_permission", message, hint, Severity.ERROR, SOURCE, device.key)
    message = f"{where} gives no answer: error {error_name(code)}."
    return Finding("device_failed", message, "Run nvidia-smi and read dmesg.", Severity.ERROR, SOURCE, device.key)


def call_errors_finding(failed: Mapping[str, int], device: Device) -> Finding:
    """Questions that one card answered with an error; their fields stay unknown."""
    calls = ", ".join(f"{name}: {error_name(code)}" for name, code in sorted(failed.items()))
    message = f"Card {device.index} ({device.name}) could not tell everything: {calls}."
    return Finding("query_failed", message, "Run nvidia-smi -q and read dmesg.", Severity.WARNING, SOURCE, device.key)


def card_without_answer(function: PciFunction, device: Device | None = None) -> Finding:
    """A card on the bus that the library does not list."""
    if function.driver == VFIO:
        message = f"{function.label} is reserved for a virtual machine (vfio-pci) and not used here."
        return Finding("card_passed_through", message, _VFIO_HINT, Severity.INFO, SOURCE)
    bound = f"bound to {function.driver}" if function.driver else "bound to no driver"
    message = f"{function.label} is on the PCI bus ({bound}), but NVIDIA's library does not list it."
    hint = "Read dmesg for NVRM lines: an unsupported card, a failed start or a container that was not given the card."
    key = device.key if device is not None else None
    if function.driver == NOUVEAU:
        return Finding("nouveau_bound", message, _NOUVEAU_HINT, Severity.WARNING, SOURCE, key)
    return Finding("card_not_answering", message, hint, Severity.WARNING, SOURCE, key)
