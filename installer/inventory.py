"""The machine's disks from ``lsblk --json``, what is on them in words, and why one cannot be installed on.

Only reads. Columns: util-linux 2.38 (Debian 12); ``mountpoints`` is null or a list with nulls in it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from drivers.command import CommandFailed, minimal_environment, run
from drivers.errors import printable
from installer.errors import InstallRefused

LIVE_MEDIUM = ("/run/live/medium", "/lib/live/mount/medium")
SEED_LABELS = ("R1BOX-SEED", "CIDATA")
DATA_LABEL = "R1BOX-DATA"
_COLUMNS = (
    "NAME,PATH,TYPE,SIZE,MODEL,SERIAL,WWN,TRAN,RO,LOG-SEC,START,FSTYPE,LABEL,PARTLABEL,PARTTYPENAME,PTTYPE,MOUNTPOINTS"
)
_LSBLK_S = 30.0
_MEMBERS = {
    "linux_raid_member": "member of a Linux RAID",
    "LVM2_member": "member of an LVM volume group",
    "zfs_member": "member of a ZFS pool",
    "ddf_raid_member": "member of a firmware RAID",
    "isw_raid_member": "member of an Intel firmware RAID",
    "mpath_member": "a path of a multipath device",
    "bcache": "part of a bcache",
    "drbd": "part of a DRBD resource",
    "ceph_bluestore": "a disk of a Ceph cluster",
}
_USERS = {"lvm": "an LVM volume", "crypt": "an opened encrypted volume", "mpath": "a multipath device"}
_VIRTUAL = ("zram", "ram", "loop", "md", "dm-", "nbd", "sr", "fd")


@dataclass(frozen=True, slots=True)
class BlockDevice:
    """One row of lsblk with those below it. ``start_bytes`` is a partition's place on its disk; text that lsblk leaves
    empty is None."""

    name: str
    path: str
    type: str
    size_bytes: int
    model: str | None = None
    serial: str | None = None
    wwn: str | None = None
    transport: str | None = None
    read_only: bool = False
    sector_bytes: int = 512
    start_bytes: int | None = None
    file_system: str | None = None
    label: str | None = None
    part_label: str | None = None
    part_type: str | None = None
    table: str | None = None
    mount_points: tuple[str, ...] = ()
    children: tuple[BlockDevice, ...] = ()

    def all(self) -> Iterator[BlockDevice]:
        """This one and everything on it."""
        yield self
        for child in self.children:
            yield from child.all()

    @property
    def identity(self) -> str | None:
        """What an operator types to name it: the serial, else the wwn."""
        return self.serial or self.wwn


def read_inventory() -> tuple[BlockDevice, ...]:
    """The disks of this machine. Raises InstallRefused (``inventory_unreadable``)."""
    argv = ("lsblk", "--json", "--bytes", "--output", _COLUMNS)
    try:
        result = run(argv, timeout_s=_LSBLK_S, environment=minimal_environment())
    except CommandFailed as error:
        raise InstallRefused("inventory_unreadable", str(error), error.hint) from error
    return parse_inventory(result.stdout)


def parse_inventory(text: str) -> tuple[BlockDevice, ...]:
    """The top rows of ``lsblk --json --bytes``. Raises InstallRefused (``inventory_unreadable``)."""
    try:
        return tuple(_device(row) for row in json.loads(text)["blockdevices"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InstallRefused(
            "inventory_unreadable", "The list of disks cannot be read.", "Run lsblk --json --bytes and look at it."
        ) from error


def _device(row: dict[str, Any]) -> BlockDevice:
    sector = int(row.get("log-sec") or 512)
    start = row.get("start")
    points = row.get("mountpoints") or [row.get("mountpoint")]
    transport = _text(row, "tran")
    if transport is None and str(row["name"]).startswith("vd"):
        transport = "virtio"
    return BlockDevice(
        name=str(row["name"]),
        path=_text(row, "path") or f"/dev/{row['name']}",
        type=str(row["type"]),
        size_bytes=int(row["size"]),
        model=_text(row, "model"),
        serial=_text(row, "serial"),
        wwn=_text(row, "wwn"),
        transport=transport,
        read_only=bool(row.get("ro")),
        sector_bytes=sector,
        # The kernel counts in 512 bytes, whatever the disk's sectors are.
        start_bytes=None if start is None else int(start) * 512,
        file_system=_text(row, "fstype"),
        label=_text(row, "label"),
        part_label=_text(row, "partlabel"),
        part_type=_text(row, "parttypename"),
        table=_text(row, "pttype"),
        mount_points=tuple(str(point) for point in points if point),
        children=tuple(_device(child) for child in row.get("children") or ()),
    )


def _text(row: dict[str, Any], key: str) -> str | None:
    value = row.get(key)
    return (printable(str(value)).strip() or None) if value is not None else None


def is_virtual(device: BlockDevice) -> bool:
    """No disk of the machine's: memory, loop devices, drives for discs."""
    return device.type != "disk" or device.name.startswith(_VIRTUAL) or device.size_bytes == 0


def own_medium(device: BlockDevice) -> str | None:
    """What the installation itself comes from: such a disk never counts."""
    for part in device.all():
        if any(point in LIVE_MEDIUM for point in part.mount_points):
            return "the medium this installer runs from"
        if (part.label or "").upper() in SEED_LABELS:
            return "the stick with the answer file"
        if (part.label or "").upper() == DATA_LABEL:
            return "the stick with the bundles"
    return None


def in_use(device: BlockDevice) -> str | None:
    """Why the disk cannot be wiped now; None when nothing holds it."""
    if device.read_only:
        return "it is read-only"
    for part in device.all():
        if part.mount_points:
            what = "in use as swap" if "[SWAP]" in part.mount_points else f"mounted on {part.mount_points[0]}"
            return f"{part.path} is {what}"
        if part.file_system in _MEMBERS:
            return f"{part.path} is {_MEMBERS[part.file_system]}"
        if part.type in _USERS:
            return f"it carries {_USERS[part.type]} ({part.path})"
        if part.type.startswith("raid"):
            return f"it carries a RAID array ({part.path})"
    return None


def contents(device: BlockDevice) -> tuple[str, ...]:
    """What is on the disk, a line a part, for the person who is about to lose it."""
    if not device.children:
        if device.file_system:
            return (f"{_file_system(device)} on the whole disk",)
        if device.mount_points:
            return (f"a file system on the whole disk, mounted on {device.mount_points[0]}",)
        return (f"a {device.table} partition table without partitions",) if device.table else ("nothing recognised",)
    return tuple(_part_words(child) for child in device.children)


def _part_words(part: BlockDevice) -> str:
    words = [part.name, size_words(part.size_bytes), _file_system(part)]
    if part.part_label:
        words.append(f'partition "{part.part_label}"')
    if part.mount_points:
        words.append(f"mounted on {part.mount_points[0]}")
    inner = ", ".join(f"{child.type} {child.name}" for child in part.children)
    return ", ".join(words) + (f" (carries {inner})" if inner else "")


def _file_system(part: BlockDevice) -> str:
    if part.file_system is None:
        return part.part_type or "no file system recognised"
    named = "Windows file system (ntfs)" if part.file_system == "ntfs" else part.file_system
    return named + (f' named "{part.label}"' if part.label else "")


def size_words(size_bytes: int) -> str:
    """``476.9 GiB``."""
    size = float(size_bytes)
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def disk_words(device: BlockDevice) -> str:
    """The disk in one line: path, size, model, serial."""
    words = [device.path, size_words(device.size_bytes), device.model or "unknown model"]
    words.append(f"serial {device.serial}" if device.serial else "no serial")
    if device.wwn:
        words.append(f"wwn {device.wwn}")
    if device.transport:
        words.append(device.transport)
    return ", ".join(words)
