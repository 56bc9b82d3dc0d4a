"""What a vendor's module hands to the rest: how its cards are found and how they are watched.

Adding a vendor is one module that makes such a value and one line in ``drivers.vendors`` (docs/drivers.md).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from drivers.types import Monitor, Probe


@dataclass(frozen=True, slots=True)
class VendorSupport:
    """One vendor. ``name`` is its ``Device.vendor`` and ``Finding.source``, ``label`` its name in messages.

    ``probe`` and ``monitor`` make one for the file system below the given root; making one asks nothing yet.
    """

    name: str
    label: str
    probe: Callable[[Path], Probe]
    monitor: Callable[[Path], Monitor]
