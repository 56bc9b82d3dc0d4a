"""What is installed for Ascend cards: the driver's folder, its modules and libraries, and the versions of its parts.

Paths: the driver's own installer writes ``/etc/ascend_install.info``; DCMI is put into two places (hicann/driver, its
package scripts); CANN moved from ``ascend-toolkit`` to ``cann`` with 8.5. All files are read below a given root.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from drivers.errors import printable
from drivers.nodes import is_there
from drivers.types import Software

DRIVER_GROUP = "HwHiAiUser"
DRIVER = "ascend-driver"
FIRMWARE = "ascend-firmware"
CANN = "cann"

_DEFAULT_FOLDER = "usr/local/Ascend"
_MODULE = re.compile(r"(?:drv_|devdrv|ascend_|asdrv_)\w*", re.ASCII)
"""Names of the driver's modules (``drv_pcie_vnic_host``, ``drv_dvpp_cmdlist``, ``ascend_xsmem``)."""
_LIBRARY_FOLDERS = ("driver/lib64/common", "driver/lib64/driver", "driver/lib64")
_DCMI_FOLDERS = ("driver/lib64/driver", "driver/lib64")
_DCMI_ELSEWHERE = "usr/local/dcmi"
_CANN_NOTES = (
    "cann*/*-linux/ascend_*_install.info",
    "cann*/ascend_*_install.info",
    "ascend-toolkit/*/*-linux/ascend_*_install.info",
    "ascend-toolkit/*/ascend_*_install.info",
    "nnae/*/ascend_*_install.info",
    "nnae/*/*-linux/ascend_*_install.info",
    "nnrt/*/ascend_*_install.info",
    "nnrt/*/*-linux/ascend_*_install.info",
)
"""Where CANN's packages (toolkit, nnae, nnrt) note their version, below an Ascend folder."""
_ACTIVE = ("cann", "latest")
"""Links that point at the version in use."""
_MAX_NOTE_CHARACTERS = 1 << 18


@dataclass(frozen=True, slots=True)
class Install:
    """``folder`` is where the driver lies; ``software`` every part found, the CANN in use before other ones.

    ``modules`` are the driver's loaded kernel modules (``None``: the kernel's list cannot be read); ``kernel`` is the
    running one's release and ``kernel_headers`` whether modules can be built for it. ``complete`` is the installer's
    own word. ``library`` is libdcmi.so, ``searched`` where it was looked for, ``closed`` those of these
    folders that this user may not look into, ``preload`` what it needs before it.
    """

    folder: Path
    software: tuple[Software, ...] = ()
    modules: tuple[str, ...] | None = None
    kernel: str | None = None
    kernel_headers: bool | None = None
    complete: bool | None = None
    group: str = DRIVER_GROUP
    library: Path | None = None
    searched: tuple[Path, ...] = ()
    closed: tuple[Path, ...] = ()
    preload: tuple[Path, ...] = ()
    library_folders: tuple[Path, ...] = ()

    def version(self, name: str) -> str | None:
        """Version of the first part of that name."""
        return next((part.version for part in self.software if part.name == name), None)


def read_install(root: Path, *, cann_home: str | None = None) -> Install:
    """Look at the installation below ``root``. ``cann_home`` is a CANN elsewhere (ASCEND_HOME_PATH). Never raises."""
    note = _note(root / "etc/ascend_install.info")
    folder = root / (_inner(note.get("Driver_Install_Path_Param")) or _DEFAULT_FOLDER)
    folders = tuple(dict.fromkeys([folder, root / _DEFAULT_FOLDER]))
    searched = (*(folder / part for part in _DCMI_FOLDERS), root / _DCMI_ELSEWHERE)
    candidates = [place / "libdcmi.so" for place in searched]
    secure = (folder / part / "libc_sec.so" for part in _LIBRARY_FOLDERS)
    status = note.get("Driver_Install_Status")
    kernel = _first_line(root / "proc/sys/kernel/osrelease")
    return Install(
        folder=folder,
        software=_software(root, folder, folders, cann_home),
        modules=loaded_modules(root),
        kernel=kernel,
        kernel_headers=None if kernel is None else is_there(root / "lib/modules" / kernel / "build"),
        complete=None if status is None else status == "complete",
        group=note.get("UserGroup") or DRIVER_GROUP,
        library=next((path for path in candidates if is_there(path)), None),
        searched=searched,
        closed=tuple(path.parent for path in candidates if _is_closed(path)),
        preload=tuple(path for path in secure if is_there(path))[:1],
        library_folders=(*(folder / part for part in _LIBRARY_FOLDERS), root / _DCMI_ELSEWHERE),
    )


def library_path(install: Install) -> str:
    """Value of LD_LIBRARY_PATH for programs that load the driver's libraries: a service has none, and
    libascend_hal.so needs libc_sec.so from the driver's folder ``common``."""
    ours = os.environ.get("LD_LIBRARY_PATH")
    return ":".join(([ours] if ours else []) + [str(folder) for folder in install.library_folders])


def loaded_modules(root: Path) -> tuple[str, ...] | None:
    """The driver's modules in ``root/proc/modules``; ``None`` when that cannot be read."""
    text = _text(root / "proc/modules")
    if text is None:
        return None
    names = (line.split(" ", 1)[0] for line in text.splitlines())
    return tuple(name for name in names if _MODULE.fullmatch(name))


def _software(root: Path, folder: Path, folders: Iterable[Path], cann_home: str | None) -> tuple[Software, ...]:
    found: list[Software] = []
    for name, part in ((DRIVER, "driver"), (FIRMWARE, "firmware")):
        for place in dict.fromkeys([folder, *folders]):
            path = place / part / "version.info"
            version = _version(path)
            if version is not None:
                found.append(Software(name, version, _shown(root, path)))
                break
    return (*found, *_cann(root, folders, cann_home))


def _cann(root: Path, folders: Iterable[Path], cann_home: str | None) -> list[Software]:
    """Every installed CANN once, the one in use first: links such as ``latest`` lead to the same files again."""
    notes: list[Path] = []
    own = _inner(cann_home)
    if own is not None:
        home = root / own
        notes += [*_glob(home, "ascend_*_install.info"), *_glob(home, "*-linux/ascend_*_install.info")]
    others = [path for place in folders for pattern in _CANN_NOTES for path in _glob(place, pattern)]
    notes += [path for path in others if _in_use(path)] + [path for path in others if not _in_use(path)]
    seen: set[Path] = set()
    found: list[Software] = []
    for path in notes:
        real = _resolved(path)
        version = _version(path)
        if version is not None and real not in seen:
            seen.add(real)
            found.append(Software(CANN, version, _shown(root, path)))
    return found


def _is_closed(path: Path) -> bool:
    try:
        path.stat()
    except PermissionError:
        return True
    except (OSError, ValueError):
        return False
    return not os.access(path, os.R_OK)


def _inner(place: str | None) -> str | None:
    """An absolute path as one below the root; ``None`` for anything else."""
    inner = (place or "").strip("/")
    return inner if place is not None and place.startswith("/") and inner and printable(inner) == inner else None


def _in_use(path: Path) -> bool:
    return any(part in _ACTIVE for part in path.parts)


def _glob(folder: Path, pattern: str) -> list[Path]:
    try:
        return sorted(folder.glob(pattern))
    except (OSError, ValueError):
        return []


def _resolved(path: Path) -> Path:
    try:
        return path.resolve()
    except (OSError, RuntimeError):
        return path


def _version(path: Path) -> str | None:
    """``Version`` of driver and firmware, ``version`` of CANN; nothing that is no version."""
    values = _note(path)
    version = printable(values.get("Version") or values.get("version") or "").strip()
    return version if re.fullmatch(r"[0-9A-Za-z][0-9A-Za-z._+-]{0,63}", version) else None


def _note(path: Path) -> dict[str, str]:
    """Lines ``name=value``; the first of a name counts."""
    values: dict[str, str] = {}
    for line in (_text(path) or "").splitlines():
        name, sign, value = line.partition("=")
        if sign:
            values.setdefault(name.strip(), value.strip())
    return values


def _first_line(path: Path) -> str | None:
    lines = (_text(path) or "").splitlines()
    word = lines[0].strip() if lines else ""
    return word if word and "/" not in word and not word.startswith(".") else None


def _text(path: Path) -> str | None:
    try:
        with path.open("r", encoding="utf-8", errors="replace") as file:
            return file.read(_MAX_NOTE_CHARACTERS)
    except (OSError, ValueError):
        return None


def _shown(root: Path, path: Path) -> str:
    """The path as it is called on the machine, without the root in front."""
    try:
        return "/" + str(path.relative_to(root))
    except ValueError:
        return str(path)
