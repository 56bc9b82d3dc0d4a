"""What is in a backup, by name, and what else lies in the state folder. Nothing else is written or read by restores.

In it: the database (users, keys, chats, usage, audit log), settings that were changed in the running box, the box's own
TLS authority and certificate (computers trust it; with another one they would have to be visited), trusted keys, and a
copy of the machine's settings file to look into. Not in it: models (their names are), logs, caches, sessions, and an
operator's own certificate files (``tls = files``), which lie where the operator keeps them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

DATABASE = "r1box.db"
SETTINGS = "settings.toml"
MACHINE_SETTINGS = "config.from-backup.toml"
"""The machine's settings file of the box that was backed up: for people to read, the box does not."""

_KIB, _MIB, _TIB = 1024, 1024**2, 1024**4


@dataclass(frozen=True, slots=True)
class Part:
    """A name in the state folder. With ``pattern`` it is a folder whose files match it."""

    name: str
    most_bytes: int
    pattern: str | None = None


PARTS = (
    Part(DATABASE, _TIB),
    Part(SETTINGS, _MIB),
    Part(MACHINE_SETTINGS, _MIB),
    Part("tls", 64 * _KIB, r"(authority|server)\.(crt|key)"),
    Part("trusted-keys", 64 * _KIB, r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}\.pub"),
)
MOST_FILES = 1_000

REPLACED = (*(part.name for part in PARTS), f"{DATABASE}-wal", f"{DATABASE}-shm", f"{DATABASE}-journal", "setup-token")
"""Names that a restore takes away, whether or not the backup has them: what it does not have was not there."""

LEFT = (
    "cluster", "first-run.json",
    f"{DATABASE}.lock", "admin.sock", "backup-key.json", "backups", "chats", "chats.key", "engines", "engine-cache",
    "logs", "measured-memory.json", "models", "restored.json", "safe-mode",
)  # fmt: skip
"""Names of the state folder that a restore leaves alone."""


def replaced_in(folder: Path) -> tuple[str, ...]:
    """``REPLACED``, and copies of the database that updates have left: they are of the state that goes."""
    lock, found = f"{DATABASE}.lock", [path.name for path in folder.glob(f"{DATABASE}.*")]
    return (*REPLACED, *sorted(name for name in found if name != lock))


def part_of(name: str) -> Part | None:
    """The part that a file of a backup belongs to; ``None`` for a name that no box writes, hostile ones among them."""
    head, slash, tail = name.partition("/")
    for part in PARTS:
        if part.name == head:
            fits = (part.pattern is None and not slash) or (
                part.pattern is not None and re.fullmatch(part.pattern, tail, re.ASCII) is not None
            )
            return part if fits else None
    return None


def found_in(folder: Path) -> tuple[str, ...]:
    """Names of the files of a state folder that go into a backup, without the database. Links are not followed."""
    names = []
    for part in PARTS:
        if part.name in (DATABASE, MACHINE_SETTINGS):
            continue
        path = folder / part.name
        if part.pattern is None:
            inside = [part.name] if path.is_file() and not path.is_symlink() else []
        elif path.is_dir() and not path.is_symlink():
            inside = sorted(f"{part.name}/{one.name}" for one in path.iterdir() if one.is_file())
            inside = [name for name in inside if part_of(name) is not None and not (folder / name).is_symlink()]
        else:
            inside = []
        names += inside
    return tuple(names)
