"""Where the parts of an installation go: FHS 3.0 and the folders that systemd keeps for what an administrator adds."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

DEFAULT_PREFIX = Path("/opt/r1box")
SERVICE = "r1box.service"
TARGET = "r1box.target"
UNITS = (
    SERVICE,
    TARGET,
    "r1box-devices.service",
    "r1box-backup.service",
    "r1box-backup.timer",
    "r1box-system.service",
    "r1box-system.socket",
)
PROGRAMS = ("r1box", "r1box-console")
USER = "r1box"

_PREFIX = re.compile(r"/[A-Za-z0-9._-]+(?:/[A-Za-z0-9._-]+)+")
_HIDDEN = {"home", "root", "run", "tmp", "dev", "proc", "sys"}
"""Folders of the root that the service cannot see, or that do not last."""


@dataclass(frozen=True, slots=True)
class Layout:
    """All places. ``prefix`` is the program's folder as the installed system sees it; ``root`` stands before every
    path: ``/`` on a live machine, DESTDIR when files are staged for a package."""

    prefix: Path = DEFAULT_PREFIX
    root: Path = Path("/")

    def at(self, path: str | Path) -> Path:
        """The place of an absolute path below ``root``."""
        return self.root / str(path).lstrip("/")

    @property
    def program(self) -> Path:
        """The link to the environment in force, beside it: an update makes another one and then changes the link."""
        return self.at(self.prefix / ".venv")

    def environment(self, key: str) -> Path:
        """An environment of this name. Its scripts name this folder, so it is made in its final place."""
        return self.at(self.prefix / f"env-{key}")

    def environments(self) -> list[Path]:
        """All that are there, finished or not."""
        return sorted(self.at(self.prefix).glob("env-*"))

    @property
    def documents(self) -> Path:
        return self.at(self.prefix / "docs")

    @property
    def config(self) -> Path:
        return self.at("/etc/r1box/config.toml")

    @property
    def sysusers(self) -> Path:
        return self.at("/usr/local/lib/sysusers.d/r1box.conf")

    @property
    def tmpfiles(self) -> Path:
        return self.at("/usr/local/lib/tmpfiles.d/r1box.conf")

    @property
    def preset(self) -> Path:
        return self.at("/usr/local/lib/systemd/system-preset/80-r1box.preset")

    @property
    def machine_drop_in(self) -> Path:
        return self.at("/etc/systemd/system/r1box.service.d/10-machine.conf")

    @property
    def state(self) -> Path:
        return self.at("/var/lib/r1box")

    def unit(self, name: str) -> Path:
        """In /usr/local/lib: /etc/systemd/system is the operator's, whose files go before these."""
        return self.at(f"/usr/local/lib/systemd/system/{name}")

    def operators_unit(self, name: str) -> Path:
        return self.at(f"/etc/systemd/system/{name}")

    def link(self, program: str) -> Path:
        return self.at(f"/usr/local/bin/{program}")

    def link_target(self, program: str) -> Path:
        """As the installed system sees it."""
        return self.prefix / ".venv" / "bin" / program


def prefix_problem(prefix: Path) -> str | None:
    """Why this folder cannot be the program's; None when it can."""
    text = str(prefix)
    if not _PREFIX.fullmatch(text) or ".." in prefix.parts:
        return "must be an absolute path of at least two folders, of letters, digits and . _ - alone"
    if prefix.parts[1] in _HIDDEN or text.startswith("/var/tmp/"):  # noqa: S108  only named
        return "lies where the service cannot see it"
    if text in {"/usr/local", "/usr/bin", "/usr/lib", "/usr/sbin", "/usr/share", "/var/lib", "/etc/systemd"}:
        return "belongs to other programs too"
    return None
