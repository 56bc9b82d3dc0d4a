"""The vendors whose cards are looked for, in the order in which their devices are listed. A new one is a line here."""

from __future__ import annotations

from drivers.ascend import ASCEND
from drivers.nvidia import NVIDIA
from drivers.support import VendorSupport

VENDORS: tuple[VendorSupport, ...] = (
    NVIDIA,
    ASCEND,
)
