"""Contents of the files that are installed: the project's own, told where the program is, and what a machine adds."""

from __future__ import annotations

from installer.system.facts import Facts
from installer.system.layout import DEFAULT_PREFIX, Layout

BACKOFF_SYSTEMD = 254
"""The first systemd with RestartSteps= and RestartMaxDelaySec=."""

LISTED_NODES = 16
"""How many of Ascend's numbered nodes the unit itself names."""


def unit_text(shipped: str, layout: Layout) -> str:
    """The unit with the folder of this installation in place of the usual one."""
    return shipped.replace(f"{DEFAULT_PREFIX}/", f"{layout.prefix}/")


def machine_drop_in(facts: Facts) -> str:
    """What the unit cannot know: groups (a name that is not there would keep the service from starting), device nodes
    with high numbers, and growing pauses between restarts where systemd can count them."""
    lines = [
        "# Written by make install for this machine, and again by the next one. Changes of your own go beside it:",
        "# systemctl edit r1box",
        "[Service]",
    ]
    if facts.groups:
        lines += [
            "# The groups that own the cards' nodes, and the one that may read the kernel's log (NVIDIA's Xids).",
            f"SupplementaryGroups={' '.join(facts.groups)}",
        ]
    lines += [
        f"DeviceAllow=/dev/{name} rw" for name in facts.nodes if int(name.removeprefix("davinci")) >= LISTED_NODES
    ]
    if facts.systemd is not None and facts.systemd >= BACKOFF_SYSTEMD:
        lines += [
            "# From 2 s to 2 min, without giving up.",
            "RestartSec=2",
            "RestartSteps=6",
            "RestartMaxDelaySec=2min",
        ]
    return "\n".join(lines) + "\n"
