"""What the installer knows of this machine before it plans. Gathering only reads; planning takes the value."""

from __future__ import annotations

import json
import platform
import re
from dataclasses import dataclass, replace
from pathlib import Path

from drivers.mounts import read_mounts
from installer.errors import InstallRefused
from installer.inventory import DATA_LABEL, LIVE_MEDIUM, SEED_LABELS, BlockDevice

NOTE_NAME = "r1box-installed.json"
IMAGE_NOTE = "live/r1box.json"
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class SystemImage:
    """The system that is installed: the live medium's own squashfs, told of by ``live/r1box.json`` on it."""

    version: str
    folder: Path
    squashfs: str
    size_bytes: int
    sha256: str
    kernel: str = "vmlinuz"
    initrd: str = "initrd.img"

    def file(self, name: str) -> Path:
        return self.folder / name


@dataclass(frozen=True, slots=True)
class CarriedFile:
    """A file of a signed bundle: path inside it, size, hash."""

    path: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class DriversBundle:
    """A drivers bundle whose signature was checked. ``files`` are system extension images (*.raw)."""

    folder: Path
    name: str
    vendor: str
    files: tuple[CarriedFile, ...]


@dataclass(frozen=True, slots=True)
class Facts:
    """``memory_bytes`` is None when unknown. ``stick`` is the mounted stick with the answer file; ``carried`` are those
    of its folders that hold the bundles asked for. ``installed`` names the installation that the stick noted."""

    devices: tuple[BlockDevice, ...]
    architecture: str
    uefi: bool
    memory_bytes: int | None
    kernel_arguments: tuple[str, ...] = ()
    image: SystemImage | None = None
    stick: Path | None = None
    carried: frozenset[str] = frozenset()
    drivers: DriversBundle | None = None
    installed: str | None = None

    def with_drivers(self, bundle: DriversBundle) -> Facts:
        """These facts with a bundle whose signature was checked."""
        return replace(self, drivers=bundle)

    def argument(self, name: str) -> str | None:
        """The value of a kernel argument ``name=value``; the last one counts."""
        found = [text.partition("=")[2] for text in self.kernel_arguments if text.startswith(f"{name}=")]
        return found[-1] if found else None


def gather(
    devices: tuple[BlockDevice, ...],
    *,
    bundles: tuple[str, ...] = (),
    stick: Path | None = None,
    image: SystemImage | None = None,
    root: Path = Path("/"),
) -> Facts:
    """The facts of the machine below ``root``. Raises InstallRefused when the medium's own notes are damaged."""
    stick = stick or _mounted_stick(devices)
    return Facts(
        devices=devices,
        architecture=platform.machine(),
        uefi=(root / "sys/firmware/efi").is_dir(),
        memory_bytes=_memory(root),
        kernel_arguments=tuple(_read(root / "proc/cmdline").split()),
        image=image or _image(root),
        stick=stick,
        carried=frozenset(name for name in bundles if stick is not None and (stick / name).exists()),
        installed=_installed(stick),
    )


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8", "replace")
    except OSError:
        return ""


def _memory(root: Path) -> int | None:
    found = re.search(r"^MemTotal:\s+(\d+) kB", _read(root / "proc/meminfo"), re.MULTILINE)
    return int(found[1]) * 1024 if found else None


def _mounted_stick(devices: tuple[BlockDevice, ...]) -> Path | None:
    """Where the seed stick is mounted; the data stick when it alone is."""
    for labels in (SEED_LABELS, (DATA_LABEL,)):
        for device in devices:
            for part in device.all():
                if (part.label or "").upper() in labels and part.mount_points:
                    return Path(part.mount_points[0])
    return None


def _image(root: Path) -> SystemImage | None:
    medium = next((at for point in LIVE_MEDIUM if (at := root / point.lstrip("/")).is_dir()), None)
    if medium is None:
        return None
    return read_image(medium)


def read_image(medium: Path) -> SystemImage | None:
    """The system image on a live medium; None when its note is not there. Raises InstallRefused."""
    note = medium / IMAGE_NOTE
    if not note.is_file():
        return None
    try:
        told = json.loads(note.read_text("utf-8"))
        image = SystemImage(
            version=str(told["version"]),
            folder=note.parent,
            squashfs=str(told["squashfs"]),
            size_bytes=int(told["size_bytes"]),
            sha256=str(told["sha256"]),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InstallRefused("payload_missing", f"{note} cannot be read.", "Write the medium anew.") from error
    if not _SHA256.fullmatch(image.sha256) or Path(image.squashfs).name != image.squashfs:
        raise InstallRefused("payload_missing", f"{note} is damaged.", "Write the medium anew.")
    return image


def _installed(stick: Path | None) -> str | None:
    if stick is None:
        return None
    try:
        note = json.loads((stick / NOTE_NAME).read_text("utf-8"))
        return str(note["installation"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def is_mounted(path: Path) -> bool:
    """Whether something is mounted on exactly this folder."""
    return any(mount.mount_point == str(path) for mount in read_mounts())
