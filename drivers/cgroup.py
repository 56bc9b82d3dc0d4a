"""Memory and CPU limits that control groups (v1, v2 and both mixed) put on this process.

A limit may stand on any group above ours, so the whole way up is read and the smallest counts. Sources: the kernel's
``Documentation/admin-guide/cgroup-v2.rst`` and ``cgroup-v1/memory.rst``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from drivers.mounts import Mount, read_mounts

_NO_LIMIT_BYTES = 1 << 60
"""v1 writes "no limit" as the largest page-aligned 63-bit number; nothing real comes near this."""


@dataclass(frozen=True, slots=True)
class CgroupLimits:
    """What the groups of this process leave it: ``None`` means no limit (or none that can be read).

    ``memory_available_bytes`` is the smallest room left under any limit; page cache that the kernel would give back
    counts as room. ``cpu_cores`` is the CPU time it may use per time, in cores (1.5 = one and a half).
    """

    memory_limit_bytes: int | None = None
    memory_available_bytes: int | None = None
    cpu_cores: float | None = None


def read_limits(root: Path = Path("/")) -> CgroupLimits:
    """Read the limits below ``root`` (``root/proc/self/cgroup``, ``root/sys/fs/cgroup``). Never raises."""
    mounts = read_mounts(root)
    memory: list[tuple[int, int]] = []
    cpu: list[float] = []
    for version, controllers, path in _memberships(root):
        for mount in mounts:
            if version == 2 and mount.filesystem == "cgroup2":
                for folder in _levels(root, mount, path):
                    memory += _memory_v2(folder)
                    cpu += _cpu_v2(folder)
            elif version == 1 and mount.filesystem == "cgroup" and controllers & mount.options:
                for folder in _levels(root, mount, path):
                    if "memory" in mount.options:
                        memory += _memory_v1(folder)
                    if "cpu" in mount.options:
                        cpu += _cpu_v1(folder)
    return CgroupLimits(
        memory_limit_bytes=min((limit for limit, _ in memory), default=None),
        memory_available_bytes=min((room for _, room in memory), default=None),
        cpu_cores=min(cpu, default=None),
    )


def _memberships(root: Path) -> Iterator[tuple[int, frozenset[str], str]]:
    """(version, controllers, path) for every hierarchy this process is in."""
    for line in (_read(root / "proc/self/cgroup") or "").splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if not path.startswith("/"):
            continue
        yield (2 if number == "0" and not controllers else 1), frozenset(controllers.split(",")), path


def _levels(root: Path, mount: Mount, path: str) -> Iterator[Path]:
    """The folders from our group up to the top of the mount.

    Without a cgroup namespace a container sees the host's path while only its own part is mounted: that part is
    ``mount.root`` and is cut off. A path that lies outside the mount (``/..``) tells nothing: its top is read.
    """
    top = root / mount.mount_point.lstrip("/")
    relative = PurePosixPath(path)
    try:
        relative = relative.relative_to(mount.root)
    except ValueError:
        relative = PurePosixPath(path.lstrip("/"))
        if mount.root != "/" and not (top / relative).is_dir():
            relative = PurePosixPath()
    if ".." in relative.parts:
        relative = PurePosixPath()
    relative = PurePosixPath(*[part for part in relative.parts if part != "/"])
    yield top / relative
    for parent in relative.parents:
        if parent != relative:
            yield top / parent


def _memory_v2(folder: Path) -> list[tuple[int, int]]:
    # memory.high does not kill, it slows to a crawl: for a model that has to stay in memory that is a limit too.
    limits = [_number(folder / "memory.max"), _number(folder / "memory.high")]
    return _room([limit for limit in limits if limit is not None], folder, "memory.current", "inactive_file")


def _memory_v1(folder: Path) -> list[tuple[int, int]]:
    limit = _number(folder / "memory.limit_in_bytes")
    return _room([] if limit is None else [limit], folder, "memory.usage_in_bytes", "total_inactive_file")


def _room(limits: list[int], folder: Path, usage_name: str, cache_name: str) -> list[tuple[int, int]]:
    limits = [limit for limit in limits if limit < _NO_LIMIT_BYTES]
    if not limits:
        return []
    limit = min(limits)
    usage = _number(folder / usage_name) or 0
    cache = 0
    for line in (_read(folder / "memory.stat") or "").splitlines():
        name, _, value = line.partition(" ")
        if name == cache_name and value.strip().isascii() and value.strip().isdigit():
            cache = int(value)
    return [(limit, max(0, limit - max(0, usage - cache)))]


def _cpu_v2(folder: Path) -> list[float]:
    words = (_read(folder / "cpu.max") or "").split()
    return _cores(words[0], words[1]) if len(words) == 2 else []


def _cpu_v1(folder: Path) -> list[float]:
    quota, period = _read(folder / "cpu.cfs_quota_us"), _read(folder / "cpu.cfs_period_us")
    return _cores(quota.strip(), period.strip()) if quota and period else []


def _cores(quota: str, period: str) -> list[float]:
    """``max`` and ``-1`` mean no quota."""
    if not (quota.isascii() and quota.isdigit() and period.isascii() and period.isdigit()) or int(period) == 0:
        return []
    return [int(quota) / int(period)]


def _number(path: Path) -> int | None:
    text = (_read(path) or "").strip()
    return int(text) if text.isascii() and text.isdigit() else None


def _read(path: Path) -> str | None:
    try:
        return path.read_text("utf-8", "replace")
    except OSError:
        return None
