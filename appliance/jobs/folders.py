"""Which files jobs may touch for whoever asks over the network: what is plugged in, and what a setting names.

A caller's path is resolved, links included, before it is compared, and the resolved path is the one that is used. What
is outside is refused alike whether it exists or not, so that nobody feels their way through the box's disk.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from appliance.jobs.errors import PathNotAllowed, PathNotThere
from drivers.mounts import Mount, read_mounts

MEDIA = (Path("/media"), Path("/run/media"), Path("/mnt"))
"""Where desktops, udisks and people mount sticks (FHS 3.0, 3.11 and 3.12; udisks2)."""

_NO_DISKS = frozenset({"proc", "sysfs", "devtmpfs", "devpts", "overlay", "cgroup2", "mqueue", "debugfs", "tracefs"})


class AllowedFolders:
    """``named`` are the setting's. Call its methods in a thread: they touch the disk."""

    def __init__(self, named: Sequence[Path], mounts: Callable[[], Sequence[Mount]] = read_mounts) -> None:
        self._named = tuple(named)
        self._mounts = mounts

    def now(self) -> tuple[Path, ...]:
        """The folders that are allowed at this moment, resolved."""
        media = [
            Path(mount.mount_point)
            for mount in self._mounts()
            if mount.filesystem not in _NO_DISKS and any(Path(mount.mount_point).is_relative_to(one) for one in MEDIA)
        ]
        return tuple(dict.fromkeys(Path(os.path.realpath(one)) for one in (*self._named, *media)))

    def resolve(self, text: str) -> Path:
        """The real path that ``text`` names, which is there. Raises PathNotAllowed, PathNotThere."""
        allowed = self.now()
        named = Path(text)
        try:
            if not named.is_absolute() or "\0" in text:
                raise OSError
            real = Path(os.path.realpath(named))
        except OSError:
            real = None
        if real is None or not any(real.is_relative_to(one) for one in allowed):
            shown = ", ".join(str(one) for one in allowed) or "there are none now"
            raise PathNotAllowed(path=_printable(text), allowed=shown)
        if not os.access(real, os.R_OK):
            raise PathNotThere(path=_printable(text))
        return real


def medium_of(folder: Path, mounts: Callable[[], Sequence[Mount]] = read_mounts) -> tuple[str | None, int]:
    """The file system under ``folder``, and the bytes that a bundle there may take: what is free and what an
    interrupted attempt has written."""
    from models.bundle.writing import StickWriter
    from models.store_files import disk_bytes

    existing = folder.absolute()
    while not existing.exists():
        existing = existing.parent
    real = existing.resolve()
    found = [one for one in mounts() if real.is_relative_to(one.mount_point)]
    mount = max(found, key=lambda one: len(one.mount_point), default=None)
    stats = os.statvfs(existing)
    written = disk_bytes([folder, StickWriter.partial_of(folder)])
    return (mount.filesystem if mount else None), stats.f_bavail * stats.f_frsize + written


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text[:256])
