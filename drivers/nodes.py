"""Device nodes under ``/dev`` as this process sees them: there, whose, how old, and whether this user may open them.

This is the second of the layers of detection, the same for every vendor. Nothing is opened: opening a card's node can
wake or block it. A cgroup's device rules can therefore still refuse a node that looks usable here.
"""

from __future__ import annotations

import grp
import os
import pwd
import stat
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

_CONTAINER_MARKS = (".dockerenv", "run/.containerenv", "run/systemd/container", "run/secrets/kubernetes.io")
"""Docker's mark, Podman's, that of systemd-nspawn and others that follow its interface, and a pod's own account."""
_CONTAINER_GROUPS = ("docker", "kubepods", "containerd", "libpod", "lxc")
"""Words in the first process's control group inside a container (cgroup v1; v2 shows ``0::/`` alone)."""


@dataclass(frozen=True, slots=True)
class DeviceNode:
    """One node. ``path`` is as a program writes it (``/dev/davinci0``); what cannot be read is ``None``.

    ``is_device`` tells a character device from a plain file left by a wrong mount. ``usable``: this user may read and
    write it. ``mode`` is like ``0660``; ``owner`` and ``group`` are numbers where the system has no name for them.
    ``in_group``: this process belongs to that group; ``listed_in_group``: etc/group names this user there (true with
    ``in_group`` false: the program was started before that). ``age_s`` counts from when the node was made.
    """

    path: str
    exists: bool = False
    is_device: bool = False
    usable: bool = False
    owner: str | None = None
    group: str | None = None
    mode: str | None = None
    in_group: bool | None = None
    listed_in_group: bool | None = None
    age_s: float | None = None

    @property
    def described(self) -> str:
        """Words for a message: ``/dev/davinci_manager belongs to root:root (0600)``."""
        if not self.exists:
            return f"{self.path} does not exist"
        return f"{self.path} belongs to {self.owner or '?'}:{self.group or '?'} ({self.mode or '?'})"


@dataclass(frozen=True, slots=True)
class DeviceNodes:
    """The nodes of one vendor and what is needed to judge them: ``user`` is this process's user, ``uptime_s`` the
    machine's time since its start."""

    nodes: tuple[DeviceNode, ...] = ()
    in_container: bool = False
    uptime_s: float | None = None
    user: str | None = None

    @property
    def any(self) -> bool:
        """Whether one of them exists."""
        return any(node.exists for node in self.nodes)

    @property
    def missing(self) -> tuple[DeviceNode, ...]:
        return tuple(node for node in self.nodes if not node.exists)

    @property
    def refused(self) -> tuple[DeviceNode, ...]:
        """Those that exist and may not be opened by this user."""
        return tuple(node for node in self.nodes if node.exists and not node.usable)

    def get(self, path: str) -> DeviceNode:
        """The node of that path; one that was not looked at counts as not there."""
        return next((node for node in self.nodes if node.path == path), DeviceNode(path))

    def starting(self, grace_s: float) -> bool:
        """Whether a missing or closed node may still come right by itself: the machine was started less than
        ``grace_s`` ago, or the newest of the refused nodes was made less than that ago (a driver loaded later). Never
        in a container, whose nodes are as they were passed to it."""
        if self.in_container:
            return False
        ages = [node.age_s for node in self.refused if node.age_s is not None]
        return any(age < grace_s for age in [*([] if self.uptime_s is None else [self.uptime_s]), *ages])


def may_open(path: Path) -> bool:
    """Whether this user may read and write ``path``; asks the kernel, opens nothing. Always true for root."""
    return os.access(path, os.R_OK | os.W_OK)


def read_node(
    root: Path, path: str, *, access: Callable[[Path], bool] = may_open, now: float | None = None
) -> DeviceNode:
    """Look at the node ``path`` (``/dev/davinci0``) below ``root``; ``now`` counts from the epoch. Never raises."""
    place = root / path.lstrip("/")
    try:
        status = place.stat()
        usable = access(place)
    except OSError:
        return DeviceNode(path)
    group, members = group_of(root, status.st_gid)
    user = user_name(root)
    return DeviceNode(
        path=path,
        exists=True,
        is_device=stat.S_ISCHR(status.st_mode),
        usable=usable,
        owner=_owner(root, status.st_uid),
        group=group,
        mode=f"{stat.S_IMODE(status.st_mode):04o}",
        in_group=status.st_gid in {os.getegid(), *os.getgroups()},
        listed_in_group=user in members,
        # Not ctime: that moves when a driver's script gives the node its owner.
        age_s=max(0.0, (time.time() if now is None else now) - status.st_mtime),
    )


def read_nodes(
    root: Path, paths: Sequence[str], *, access: Callable[[Path], bool] = may_open, now: float | None = None
) -> DeviceNodes:
    """Look at several nodes at once, with what surrounds them. Never raises."""
    nodes = tuple(read_node(root, path, access=access, now=now) for path in paths)
    return DeviceNodes(nodes, in_container=in_container(root), uptime_s=uptime_s(root), user=user_name(root))


def numbered_nodes(root: Path, prefix: str) -> tuple[str, ...]:
    """Paths of the nodes ``/dev/<prefix><number>`` that exist, by number: ``/dev/davinci0``, ``/dev/davinci10``."""
    try:
        names = [entry.name for entry in (root / "dev").iterdir()]
    except OSError:
        return ()
    rests = [name.removeprefix(prefix) for name in names if name.startswith(prefix)]
    numbers = sorted(int(rest) for rest in rests if rest.isascii() and rest.isdigit() and len(rest) <= 9)
    return tuple(f"/dev/{prefix}{number}" for number in dict.fromkeys(numbers))


def is_there(path: Path) -> bool:
    """Whether the path exists and this user can see it: ``Path.exists`` raises for a folder that is closed to it."""
    try:
        path.stat()
    except (OSError, ValueError):
        return False
    return True


def in_container(root: Path) -> bool:
    """Whether the files below ``root`` bear a container's mark."""
    if any(is_there(root / mark) for mark in _CONTAINER_MARKS):
        return True
    try:
        groups = (root / "proc/1/cgroup").read_text("utf-8", "replace")
    except OSError:
        return False
    return any(word in groups for word in _CONTAINER_GROUPS)


def uptime_s(root: Path) -> float | None:
    """Seconds since the machine was started, from ``root/proc/uptime``."""
    try:
        value = float((root / "proc/uptime").read_text("ascii", "replace").split()[0])
    except (OSError, ValueError, IndexError):
        return None
    return value if 0 <= value < float("inf") else None


def group_of(root: Path, gid: int) -> tuple[str, frozenset[str]]:
    """Name and members of a group: from ``root/etc/group``, else as this system knows it, else its number."""
    for fields in _fields(root / "etc/group"):
        if len(fields) >= 3 and fields[2] == str(gid):
            return fields[0], frozenset(fields[3].split(",") if len(fields) > 3 and fields[3] else ())
    try:
        entry = grp.getgrgid(gid)
    except (KeyError, OverflowError):
        return str(gid), frozenset()
    return entry.gr_name, frozenset(entry.gr_mem)


def group_exists(root: Path, name: str) -> bool | None:
    """Whether ``root/etc/group`` has the group; ``None`` when there is no such file."""
    if not is_there(root / "etc/group"):
        return None
    return any(fields[0] == name for fields in _fields(root / "etc/group"))


def user_name(root: Path) -> str:
    """This process's user: its name, or its number where it has none."""
    return _owner(root, os.geteuid())


def _owner(root: Path, uid: int) -> str:
    for fields in _fields(root / "etc/passwd"):
        if len(fields) >= 3 and fields[2] == str(uid):
            return fields[0]
    try:
        return pwd.getpwuid(uid).pw_name
    except (KeyError, OverflowError):
        return str(uid)


def _fields(path: Path) -> list[list[str]]:
    """Lines of a file like etc/group, split at their colons; nothing when it cannot be read."""
    try:
        text = path.read_text("utf-8", "replace")
    except OSError:
        return []
    return [line.split(":") for line in text.splitlines() if ":" in line]
