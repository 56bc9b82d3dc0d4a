"""Huawei Ascend on the PCI bus: which functions are chips of which family.

Source: the open Ascend driver (hicann/driver, devdrv_pci.c); the public pci.ids has none of these.
"""

from __future__ import annotations

from drivers.pci import PciIdentity, PciKind, PciVendor
from drivers.types import Vendor

_VENDOR_IDS = frozenset({0x19E5, 0x20C6, 0x203F, 0x20E9, 0x2092})
"""Huawei, and the makers who sell the same cards under their own vendor id."""
_CHIPS: dict[int, str | None] = {
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


def identify(identity: PciIdentity) -> PciKind | None:
    """What the function is; ``None`` when it is no Ascend chip."""
    if identity.vendor_id not in _VENDOR_IDS or identity.device_id not in _CHIPS:
        return None
    chips = 2 if identity.subsystem_device == _TWO_CHIPS_SUBSYSTEM else 1
    return PciKind(_CHIPS[identity.device_id], chips)


ASCEND_PCI = PciVendor(Vendor.ASCEND, "Ascend", identify)
