"""NVIDIA on the PCI bus: which functions are cards, and what they are called when no driver answers.

Source: pci.ids 2026.08.22.
"""

from __future__ import annotations

from drivers.pci import PciIdentity, PciKind, PciVendor
from drivers.types import Vendor

_VENDOR_ID = 0x10DE
_CLASSES = frozenset({0x0300, 0x0302})
"""VGA and 3D controller. 0x0403 is the card's audio function, 0x0680 an NVSwitch."""

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


def identify(identity: PciIdentity) -> PciKind | None:
    """What the function is; ``None`` when it is no NVIDIA card."""
    if identity.vendor_id != _VENDOR_ID or identity.class_code >> 8 not in _CLASSES:
        return None
    return PciKind(NVIDIA_NAMES.get(identity.device_id))


NVIDIA_PCI = PciVendor(Vendor.NVIDIA, "NVIDIA", identify)
