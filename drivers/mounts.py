"""The mount table of this process, read from ``/proc/self/mountinfo`` (format: proc_pid_mountinfo(5))."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

_OCTAL = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class Mount:
    """One line of the table. ``root`` is the part of the file system that is mounted (``/`` unless a bind mount),
    ``device`` the kernel's ``major:minor`` of the file system: equal for every mount of the same one."""

    device: str
    root: str
    mount_point: str
    filesystem: str
    options: frozenset[str]


def read_mounts(root: Path = Path("/")) -> tuple[Mount, ...]:
    """Every mount that can be reached, in mount order; empty when the table cannot be read.

    A later mount on the same point hides the earlier one, which is left out. Lines that cannot be read are skipped.
    """
    try:
        text = (root / "proc/self/mountinfo").read_text("utf-8", "replace")
    except OSError:
        return ()
    mounts: dict[str, Mount] = {}
    for line in text.splitlines():
        before, separator, after = line.partition(" - ")
        head, tail = before.split(), after.split()
        if not separator or len(head) < 6 or len(tail) < 1:
            continue
        options = frozenset(tail[2].split(",")) if len(tail) > 2 else frozenset[str]()
        mount = Mount(head[2], _unescape(head[3]), _unescape(head[4]), tail[0], options)
        mounts.pop(mount.mount_point, None)
        mounts[mount.mount_point] = mount
    return tuple(mounts.values())


def _unescape(text: str) -> str:
    return _OCTAL.sub(lambda match: chr(int(match[1], 8)), text)
