"""Accelerator functions on the PCI bus, read from ``/sys/bus/pci/devices`` without any driver or tool.

This is the first of the three layers of detection: it tells "no card" from "a card whose driver does not answer".
Virtual functions (their parent is counted), audio functions, network cards and switches are never counted. Which ids
are a vendor's cards, that vendor's module tells (``drivers.nvidia_ids``, ``drivers.ascend_ids``).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

_ADDRESS = re.compile(r"(?:([0-9a-f]{1,8}):)?([0-9a-f]{1,2}):([0-9a-f]{1,2})\.([0-7])", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class PciIdentity:
    """The ids of one function; ``class_code`` has three bytes (0x030200), unreadable values are 0."""

    vendor_id: int
    device_id: int
    class_code: int
    subsystem_device: int


@dataclass(frozen=True, slots=True)
class PciKind:
    """What a function is: the chip's family by its id (``None``: an id without a public name) and how many devices
    the function stands for."""

    chip: str | None
    chips: int = 1


@dataclass(frozen=True, slots=True)
class PciVendor:
    """A vendor's cards on the bus: its ``Device.vendor``, its name in messages, and how its functions are told."""

    name: str
    label: str
    identify: Callable[[PciIdentity], PciKind | None]


@dataclass(frozen=True, slots=True)
class PciFunction:
    """An accelerator on the bus. ``driver`` is the bound kernel driver (``None``: none), ``chips`` how many devices
    the function stands for, ``chip`` the family by its id (``None``: an id without a public name)."""

    address: str
    vendor: str
    vendor_id: int
    device_id: int
    chip: str | None
    driver: str | None
    numa_node: int | None
    chips: int = 1
    maker: str = ""

    @property
    def label(self) -> str:
        """Words for a message: ``NVIDIA L20 at 0000:01:00.0``."""
        kind = self.chip or f"card {self.vendor_id:04x}:{self.device_id:04x}"
        return f"{self.maker or self.vendor} {kind} at {self.address}"


def normalize_address(text: str) -> str | None:
    """``domain:bus:device.function`` in sysfs form, ``None`` when it is no PCI address.

    NVML writes eight digits of domain and capitals (``0000000F:01:00.0``), sysfs ``000f:01:00.0``.
    """
    match = _ADDRESS.fullmatch(text.strip())
    if match is None:
        return None
    domain, bus, device, function = (int(part or "0", 16) for part in match.groups())
    return f"{domain:04x}:{bus:02x}:{device:02x}.{function}"


def list_accelerators(root: Path, *vendors: PciVendor) -> tuple[PciFunction, ...] | None:
    """The vendors' accelerator functions below ``root/sys/bus/pci/devices`` by address; ``None`` when there is no such
    folder. A function that goes while it is read is left out. Never raises.
    """
    folder = root / "sys/bus/pci/devices"
    try:
        entries = sorted(folder.iterdir())
    except OSError:
        return None
    functions = [function for entry in entries if (function := _read_function(entry, vendors)) is not None]
    return tuple(sorted(functions, key=lambda function: function.address))


def _read_function(entry: Path, vendors: tuple[PciVendor, ...]) -> PciFunction | None:
    address = normalize_address(entry.name)
    vendor_id, device_id = _hex(entry / "vendor"), _hex(entry / "device")
    if address is None or vendor_id is None or device_id is None or (entry / "physfn").exists():
        return None
    identity = PciIdentity(
        vendor_id, device_id, _hex(entry / "class") or 0, subsystem_device=_hex(entry / "subsystem_device") or 0
    )
    for vendor in vendors:
        kind = vendor.identify(identity)
        if kind is not None:
            return PciFunction(
                address=address,
                vendor=vendor.name,
                vendor_id=vendor_id,
                device_id=device_id,
                chip=kind.chip,
                driver=_driver(entry),
                numa_node=_numa_node(entry),
                chips=kind.chips,
                maker=vendor.label,
            )
    return None


def _driver(entry: Path) -> str | None:
    try:
        return (entry / "driver").readlink().name
    except OSError:
        return None


def _numa_node(entry: Path) -> int | None:
    """``-1`` in sysfs means that the firmware does not say."""
    try:
        node = int((entry / "numa_node").read_text("ascii", "replace"))
    except (OSError, ValueError):
        return None
    return node if node >= 0 else None


def _hex(path: Path) -> int | None:
    try:
        return int(path.read_text("ascii", "replace").strip(), 16)
    except (OSError, ValueError):
        return None
