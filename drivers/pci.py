"""Accelerator functions on the PCI bus, read from ``/sys/bus/pci/devices`` without any driver or tool.

This is the first of the three layers of detection: it tells "no card" from "a card whose driver does not answer".
Virtual functions (their parent is counted), audio functions, network cards and switches are never counted.
Ids: pci.ids 2026.08.22 for NVIDIA; the open Ascend driver (hicann/driver, devdrv_pci.c) for Ascend.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from drivers.types import Vendor

_NVIDIA_VENDOR = 0x10DE
_NVIDIA_CLASSES = frozenset({0x0300, 0x0302})
"""VGA and 3D controller. 0x0403 is the card's audio function, 0x0680 an NVSwitch."""

_ASCEND_VENDORS = frozenset({0x19E5, 0x20C6, 0x203F, 0x20E9, 0x2092})
"""Huawei, and the makers who sell the same cards under their own vendor id."""
_ASCEND_CHIPS: dict[int, str | None] = {
    0xD100: "310",
    0xD105: "310B",
    0xD500: "310P",
    0xD501: "310P",
    0xD801: "910A",
    0xD802: "910B",
    0xD803: "910C",
    0xD804: "910B",
    0xD805: "910B",  # a virtual function: alone on the bus of a virtual machine it is the card
    0xD806: "950",
    0xD807: None,
    0xD808: None,
}
"""Only these ids: vendor 19e5 also makes network cards, SSDs, the board's VGA and the Kunpeng's zip engines (which
are class 0x1200 "processing accelerator" as well, so the class proves nothing)."""
_TWO_CHIPS_SUBSYSTEM = 0x0110
"""Ascend subsystem device id of one PCI function that stands for two chips."""

NVIDIA_NAMES: dict[int, str] = {
    0x1EB8: "T4",
    0x20B0: "A100 SXM",
    0x20B2: "A100 SXM",
    0x20B5: "A100 PCIe",
    0x20F1: "A100 PCIe",
    0x20F3: "A800",
    0x20F5: "A800",
    0x2204: "GeForce RTX 3090",
    0x2235: "A40",
    0x2236: "A10",
    0x2322: "H800",
    0x2329: "H20",
    0x232C: "H20",
    0x2330: "H100",
    0x2331: "H100",
    0x2335: "H200",
    0x233B: "H200",
    0x2342: "GH200",
    0x25B6: "A2 or A16",
    0x2684: "GeForce RTX 4090",
    0x2685: "GeForce RTX 4090 D",
    0x26B1: "RTX 6000 Ada",
    0x26B3: "RTX 5880 Ada",
    0x26B9: "L40S",
    0x26BA: "L20",
    0x27B8: "L4",
    0x2B85: "GeForce RTX 5090",
    0x2B87: "GeForce RTX 5090 D",
    0x2BB1: "RTX PRO 6000",
    0x2BB4: "RTX PRO 6000",
    0x2BB5: "RTX PRO 6000",
    0x2E12: "GB10",
}
"""What a card is when its driver gives no answer."""

_ADDRESS = re.compile(r"(?:([0-9a-f]{1,8}):)?([0-9a-f]{1,2}):([0-9a-f]{1,2})\.([0-7])", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class PciFunction:
    """An accelerator on the bus. ``driver`` is the bound kernel driver (``None``: none), ``chips`` how many devices
    the function stands for, ``chip`` the family by its id (``None``: an id without a public name)."""

    address: str
    vendor: Vendor
    vendor_id: int
    device_id: int
    chip: str | None
    driver: str | None
    numa_node: int | None
    chips: int = 1

    @property
    def label(self) -> str:
        """Words for a message: ``NVIDIA L20 at 0000:01:00.0``."""
        maker = "NVIDIA" if self.vendor is Vendor.NVIDIA else "Ascend"
        kind = self.chip or f"card {self.vendor_id:04x}:{self.device_id:04x}"
        return f"{maker} {kind} at {self.address}"


def normalize_address(text: str) -> str | None:
    """``domain:bus:device.function`` in sysfs form, ``None`` when it is no PCI address.

    NVML writes eight digits of domain and capitals (``0000000F:01:00.0``), sysfs ``000f:01:00.0``.
    """
    match = _ADDRESS.fullmatch(text.strip())
    if match is None:
        return None
    domain, bus, device, function = (int(part or "0", 16) for part in match.groups())
    return f"{domain:04x}:{bus:02x}:{device:02x}.{function}"


def list_accelerators(root: Path = Path("/")) -> tuple[PciFunction, ...] | None:
    """Accelerator functions below ``root/sys/bus/pci/devices`` by address; ``None`` when there is no such folder.

    A function that goes while it is read is left out. Never raises.
    """
    folder = root / "sys/bus/pci/devices"
    try:
        entries = sorted(folder.iterdir())
    except OSError:
        return None
    functions = [function for entry in entries if (function := _read_function(entry)) is not None]
    return tuple(sorted(functions, key=lambda function: function.address))


def _read_function(entry: Path) -> PciFunction | None:
    address = normalize_address(entry.name)
    vendor_id, device_id = _hex(entry / "vendor"), _hex(entry / "device")
    if address is None or vendor_id is None or device_id is None or (entry / "physfn").exists():
        return None
    chips = 1
    if vendor_id == _NVIDIA_VENDOR and (_hex(entry / "class") or 0) >> 8 in _NVIDIA_CLASSES:
        vendor, chip = Vendor.NVIDIA, NVIDIA_NAMES.get(device_id)
    elif vendor_id in _ASCEND_VENDORS and device_id in _ASCEND_CHIPS:
        vendor, chip = Vendor.ASCEND, _ASCEND_CHIPS[device_id]
        chips = 2 if _hex(entry / "subsystem_device") == _TWO_CHIPS_SUBSYSTEM else 1
    else:
        return None
    return PciFunction(
        address=address,
        vendor=vendor,
        vendor_id=vendor_id,
        device_id=device_id,
        chip=chip,
        driver=_driver(entry),
        numa_node=_numa_node(entry),
        chips=chips,
    )


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
