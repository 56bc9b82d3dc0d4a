"""Whether the cards of this box would still work with a new system. Pure.

Drivers and firmware stay as they are when a slot is replaced; engines and kernel are new. What is refused is what works
now and would not work then: a box whose cards do not work anyway must not be kept from the update that mends them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from drivers.doctor import known_software
from drivers.requirements import RequirementResult, Requirements, check
from drivers.types import HardwareSnapshot, Software
from installer.update.facts import BundleFacts

HasModules = Callable[[str, str], bool]
"""Vendor and kernel release: whether this box has the vendor's modules for that kernel."""

MODULES = {"nvidia": ("nvidia.ko*",), "ascend": ("drv_*.ko*", "ascend_*.ko*")}
"""File names by which a vendor's modules are known below ``/usr/lib/modules/RELEASE``."""
_NAMES = {"nvidia": "NVIDIA", "ascend": "Ascend"}


def judge(
    facts: BundleFacts,
    rules: Requirements,
    snapshot: HardwareSnapshot,
    running: Sequence[Software],
    own_rules: Requirements,
    has_modules: HasModules,
) -> tuple[str, ...]:
    """Why the update would break this box's cards, a sentence each; none: it would not.

    ``running`` are the engines of the running system, ``own_rules`` its rules.
    """
    vendors = tuple(dict.fromkeys(device.vendor for device in snapshot.devices))
    if not vendors:
        return ()
    broken_now = {
        (one.rule, one.needs) for one in _blocking(check(known_software(snapshot, running), own_rules, vendors=vendors))
    }
    then = _blocking(check(known_software(snapshot, facts.software), rules, vendors=vendors))
    problems = [one.message for one in then if (one.rule, one.needs) not in broken_now]
    kernel = snapshot.host.kernel
    if kernel is not None and kernel != facts.kernel:
        for vendor in vendors:
            carried = vendor in facts.drivers or has_modules(vendor, facts.kernel)
            if has_modules(vendor, kernel) and not carried:
                problems.append(
                    f"The {_NAMES.get(vendor, vendor)} driver here was built for the kernel {kernel}; the update "
                    f"brings the kernel {facts.kernel}."
                )
    return tuple(dict.fromkeys(problems))


def _blocking(results: Sequence[RequirementResult]) -> tuple[RequirementResult, ...]:
    return tuple(one for one in results if one.broken and one.blocks)
