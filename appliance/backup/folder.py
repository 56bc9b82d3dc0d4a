"""The folder of the box's own backups: what is in it, and how many of the nightly ones stay."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from appliance.backup.create import SUFFIX
from appliance.backup.envelope import Envelope, read_envelope
from appliance.backup.errors import BackupNotFound
from appliance.errors import AppError

MOST_LISTED = 1_000
NIGHTLY = "nightly"


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """A file that says it is a backup. Facts are its own words until somebody opens it; ``problem`` says why it is
    none after all."""

    path: Path
    size_bytes: int
    created_at: str | None = None
    version: str | None = None
    host: str | None = None
    label: str | None = None
    problem: str | None = None


def list_backups(folder: Path) -> tuple[Listed, ...]:
    """The newest first, by their names' order within what their headers say. Raises OSError for a folder that cannot
    be read; one that is not there has none."""
    try:
        names = [path for path in folder.iterdir() if path.name.endswith(SUFFIX) and not path.name.startswith(".")]
    except FileNotFoundError:
        return ()
    found = [_listed(path) for path in sorted(names, reverse=True)[:MOST_LISTED]]
    return tuple(sorted(found, key=lambda one: (one.created_at or "", one.path.name), reverse=True))


def named(folder: Path, name: str) -> Path:
    """The backup of that name. Raises BackupNotFound, also for names that lead elsewhere."""
    if name != Path(name).name or not name.endswith(SUFFIX) or name.startswith("."):
        raise BackupNotFound(name=name[:64])
    path = folder / name
    if path.is_symlink() or not path.is_file():
        raise BackupNotFound(name=name[:64])
    return path


def prune(folder: Path, *, keep: int, host: str) -> tuple[str, ...]:
    """Remove nightly backups of this host but the newest ``keep``; their names. Those that people made stay."""
    ours = [one for one in list_backups(folder) if one.label == NIGHTLY and one.host == host]
    gone = ours[keep:]
    for one in gone:
        one.path.unlink(missing_ok=True)
    return tuple(one.path.name for one in gone)


def read_header(path: Path) -> Envelope:
    """A file's header. Raises AppError, OSError."""
    with path.open("rb") as file:
        return read_envelope(file, path=str(path))


def _listed(path: Path) -> Listed:
    try:
        size = path.stat().st_size
        facts = read_header(path).facts if path.is_file() and not path.is_symlink() else None
    except AppError as error:
        return Listed(path=path, size_bytes=size, problem=error.message)
    except OSError as error:
        return Listed(path=path, size_bytes=0, problem=(error.strerror or str(error)).lower())
    if facts is None:
        return Listed(path=path, size_bytes=0, problem="it is no file")
    return Listed(
        path=path,
        size_bytes=size,
        created_at=facts["created_at"],
        version=facts["version"],
        host=facts["host"],
        label=facts["label"],
    )
