"""NVML's return codes in plain words: what is wrong, from what it usually comes, what to do.

Codes: nvmlReturn_t in NVIDIA's nvml.h.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from drivers.pci import PciFunction
from drivers.types import Device, Finding, Severity

SOURCE = "nvidia"

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
    2: "invalid argument",
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

_LOST_HINT = (
    "Read journalctl -k -g Xid (79 is typical): check power, cooling and the riser, then power the box off and on."
)
_INIT: Mapping[int, tuple[str, str, str]] = {
    LIB_RM_VERSION_MISMATCH: (
        "driver_version_mismatch",
        "NVIDIA's library and its loaded kernel module have different versions.",
        (
            "The driver package was upgraded while the old module is still loaded (often by unattended-upgrades):"
            " reboot. /proc/driver/nvidia/version shows the version of the module."
        ),
    ),
    NO_PERMISSION: (
        "no_permission",
        "This user may not talk to NVIDIA's driver.",
        "Check the owner and mode of /dev/nvidiactl and /dev/nvidia0, or run as a user of their group.",
    ),
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

_INSTALL = "Install NVIDIA's driver (with its kernel module) and reboot."


def error_name(code: int) -> str:
    """NVML's code with its meaning: ``15 (GPU is lost)``."""
    return f"{code} ({_NAMES[code]})" if code in _NAMES else str(code)


def _cards(functions: Sequence[PciFunction]) -> str:
    if len(functions) == 1:
        return f"{functions[0].label} is on the PCI bus"
    first = ", ".join(function.label for function in functions[:4]) + (", ..." if len(functions) > 4 else "")
    return f"{len(functions)} NVIDIA cards are on the PCI bus ({first})"


def _driver_hint(functions: Sequence[PciFunction]) -> str:
    """The fix that follows from the kernel driver the cards are bound to."""
    bound = {function.driver for function in functions}
    if "nouveau" in bound:
        return (
            "The driver nouveau holds the card and cannot compute. Install NVIDIA's driver (it blocks nouveau), reboot."
        )
    if "vfio-pci" in bound:
        return (
            "The card is bound to vfio-pci, that is reserved for a virtual machine. Use it there, or bind it to nvidia."
        )
    if "nvidia" in bound:
        return (
            "The kernel module is there, its library is not: install the package with libnvidia-ml.so.1."
            " In a container, start it with NVIDIA's container runtime."
        )
    return _INSTALL


def driver_missing(functions: Sequence[PciFunction]) -> Finding:
    """Cards on the bus but no NVML library."""
    message = f"{_cards(functions)}, but the driver's library libnvidia-ml.so.1 was not found."
    return Finding("driver_missing", message, _driver_hint(functions), Severity.ERROR, SOURCE)


def init_finding(code: int, functions: Sequence[PciFunction], *, bus_known: bool) -> Finding:
    """Why the library could not be initialised. Without any card on a readable bus it only informs."""
    severity = Severity.INFO if bus_known and not functions else Severity.ERROR
    if code == DRIVER_NOT_LOADED:
        message = "NVIDIA's library is installed, but its kernel module is not loaded."
        if functions:
            message = f"{_cards(functions)}, but NVIDIA's kernel module is not loaded."
        hint = (
            "Run modprobe nvidia and read dmesg. Usual causes: the module was not built for this kernel (dkms status),"
            " Secure Boot refuses it, or another driver holds the card."
        )
        if {function.driver for function in functions} & {"nouveau", "vfio-pci"}:
            hint = _driver_hint(functions)
        return Finding("driver_not_loaded", message, hint, severity, SOURCE)
    if code in _INIT:
        name, message, hint = _INIT[code]
        return Finding(name, message, hint, severity, SOURCE)
    message = f"NVIDIA's library could not be initialised: error {error_name(code)}."
    return Finding("library_init_failed", message, "Run nvidia-smi and read dmesg.", severity, SOURCE)


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


def card_without_answer(function: PciFunction) -> Finding:
    """A card on the bus that the library does not list."""
    if function.driver == "vfio-pci":
        message = f"{function.label} is reserved for a virtual machine (vfio-pci) and not used here."
        return Finding("card_passed_through", message, "To use it here, bind it to nvidia.", Severity.INFO, SOURCE)
    bound = f"bound to {function.driver}" if function.driver else "bound to no driver"
    message = f"{function.label} is on the PCI bus ({bound}), but NVIDIA's library does not list it."
    hint = "Read dmesg for NVRM lines: an unsupported card, a failed start or a container that was not given the card."
    if function.driver == "nouveau":
        hint = _driver_hint([function])
    return Finding("card_not_answering", message, hint, Severity.WARNING, SOURCE)
