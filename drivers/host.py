"""The machine around the cards: processor, memory, disks, system. What cannot be read is ``None``, never a guess."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

from drivers.cgroup import CgroupLimits, read_limits
from drivers.cpu import cpu_model, physical_cores
from drivers.mounts import Mount, read_mounts
from drivers.types import Disk, Host

_LOCAL_FILESYSTEMS = frozenset(
    {
        "bcachefs",
        "btrfs",
        "exfat",
        "ext2",
        "ext3",
        "ext4",
        "f2fs",
        "jfs",
        "ntfs",
        "ntfs3",
        "reiserfs",
        "vfat",
        "xfs",
        "zfs",
    }
)
"""File systems on a disk. Network ones are left out on purpose: asking a dead server for its size hangs for ever."""


@dataclass(frozen=True, slots=True)
class Memory:
    """What this process may use: the smaller of the machine's memory and its cgroup's limit."""

    total_bytes: int | None
    available_bytes: int | None


def read_host(root: Path = Path("/"), *, cpus: frozenset[int] | None = None) -> Host:
    """Read the host. ``root`` is where ``proc``, ``sys`` and ``etc`` lie; sizes and counts that only the kernel's
    calls tell come from psutil. ``cpus`` are the logical CPUs this process may run on (default: its affinity).
    """
    system = os.uname()
    limits = read_limits(root)
    memory = read_memory(root, limits=limits)
    usable = cpus if cpus is not None else _affinity()
    cores = physical_cores(usable, root) if usable else None
    if cores is None and (counted := psutil.cpu_count(logical=False)):
        cores = min(counted, len(usable)) if usable else counted
    return Host(
        hostname=system.nodename or None,
        architecture=system.machine or None,
        os_name=_os_name(root),
        kernel=system.release or None,
        cpu_model=cpu_model(root),
        cpu_cores=_within_quota(cores, limits.cpu_cores),
        cpu_threads=_within_quota(len(usable) if usable else psutil.cpu_count(), limits.cpu_cores),
        memory_total_bytes=memory.total_bytes,
        memory_available_bytes=memory.available_bytes,
        disks=read_disks(root),
    )


def read_memory(root: Path = Path("/"), *, limits: CgroupLimits | None = None) -> Memory:
    """Memory of the machine as psutil tells it, cut down to the cgroup's limits."""
    if limits is None:
        limits = read_limits(root)
    try:
        machine = psutil.virtual_memory()
        total, available = int(machine.total), int(machine.available)
    except (OSError, KeyError, ValueError):
        # psutil reads /proc/meminfo; without it the limits are all there is to know.
        return Memory(limits.memory_limit_bytes, limits.memory_available_bytes)
    if limits.memory_limit_bytes is not None:
        total = min(total, limits.memory_limit_bytes)
    if limits.memory_available_bytes is not None:
        available = min(available, limits.memory_available_bytes)
    return Memory(total, min(available, total))


def _size_of(mount_point: str) -> tuple[int, int]:
    usage = psutil.disk_usage(mount_point)
    return int(usage.total), int(usage.free)


def read_disks(root: Path = Path("/"), size_of: Callable[[str], tuple[int, int]] = _size_of) -> tuple[Disk, ...]:
    """Local file systems by mount point, each once: bind mounts and subvolumes of one file system count once.

    ``size_of`` gives (total, free for unprivileged users) in bytes of a mount point; a mount it cannot read is left
    out. In a container the overlay that is its ``/`` is shown as well.
    """
    chosen: dict[str, Mount] = {}
    for mount in read_mounts(root):
        if mount.filesystem not in _LOCAL_FILESYSTEMS and (mount.filesystem, mount.mount_point) != ("overlay", "/"):
            continue
        if not (root / mount.mount_point.lstrip("/")).is_dir():
            continue  # containers mount single files such as /etc/hosts
        best = chosen.get(mount.device)
        if best is None or _preference(mount) < _preference(best):
            chosen[mount.device] = mount
    disks: list[Disk] = []
    for mount in sorted(chosen.values(), key=lambda mount: mount.mount_point):
        try:
            total, free = size_of(mount.mount_point)
        except OSError:
            continue
        disks.append(Disk(mount.mount_point, mount.filesystem, total, free))
    return tuple(disks)


def _preference(mount: Mount) -> tuple[bool, int, str]:
    """The whole file system before a part of it, then the shortest path."""
    return mount.root != "/", len(mount.mount_point), mount.mount_point


def _within_quota(count: int | None, quota_cores: float | None) -> int | None:
    if count is None or quota_cores is None:
        return count
    return max(1, min(count, int(quota_cores)))


def _affinity() -> frozenset[int]:
    try:
        return frozenset(os.sched_getaffinity(0))
    except (AttributeError, OSError):
        return frozenset()


def _os_name(root: Path) -> str | None:
    """PRETTY_NAME of os-release(5), or NAME with VERSION."""
    for path in (root / "etc/os-release", root / "usr/lib/os-release"):
        try:
            text = path.read_text("utf-8", "replace")
        except OSError:
            continue
        fields: dict[str, str] = {}
        for line in text.splitlines():
            name, separator, value = line.strip().partition("=")
            if separator and not name.startswith("#"):
                fields[name] = _unquote(value)
        name = fields.get("PRETTY_NAME") or f"{fields.get('NAME', '')} {fields.get('VERSION', '')}".strip()
        if name:
            return name
    return None


def _unquote(value: str) -> str:
    try:
        return "".join(shlex.split(value))
    except ValueError:
        return value.strip("\"'")
