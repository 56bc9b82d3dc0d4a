"""Whether whoever runs a command sits at the box itself: its screen or its serial line, as root."""

from __future__ import annotations

import os
from pathlib import Path

_LOCAL_MAJORS = {4, 5, 204, 229}
"""Linux' devices.txt: virtual consoles and serial lines (4), /dev/console (5), serial lines of ARM boards (204) and
hypervisors' consoles (229). A terminal of ssh is a pseudo-terminal, 136 to 143."""


def on_the_box(stat: Path = Path("/proc/self/stat"), uid: int | None = None) -> str | None:
    """Why not, or ``None``: whoever this is may set an administrator's password here."""
    if (os.geteuid() if uid is None else uid) != 0:
        return "only root may do this"
    number = controlling_terminal(stat)
    if number is None:
        return "only at the box's own screen or serial line; over ssh root has: r1box users reset NAME"
    major = (number >> 8) & 0xFFF
    if major not in _LOCAL_MAJORS:
        return "only at the box's own screen or serial line; over ssh root has: r1box users reset NAME"
    return None


def controlling_terminal(stat: Path) -> int | None:
    """The device number (proc_pid_stat(5), field 7); ``None`` without a terminal."""
    try:
        # The name of the program is in brackets and may have anything in it.
        fields = stat.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        number = int(fields[4])
    except (OSError, ValueError, IndexError):
        return None
    return number or None
