"""What ``r1box rescue`` prints for the console: values of a box whose daemon may be dead."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

from appliance.schemas.backups import BackupItem

DaemonWord = Literal["answers", "hangs", "down"]
FindingCode = Literal[
    "daemon_down", "daemon_hangs", "unit_failed", "database_damaged", "database_too_new", "database_missing",
    "disk_full", "settings_unusable", "state_unreadable", "restore_waits", "safe_mode", "no_default_model",
]  # fmt: skip


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True)


class RescueUnit(_Value):
    """The service as systemd has it; ``None`` is not known. ``problem`` says why systemd was not to be asked."""

    name: str
    load: str | None = None
    active: str | None = None
    sub: str | None = None
    result: str | None = None
    exit_status: str | None = None
    restarts: int | None = None
    since: str | None = None
    problem: str | None = None


class RescueDisk(_Value):
    """Room of a file system that the box writes to."""

    what: str
    path: str
    free_bytes: int
    total_bytes: int
    full: bool


class RescueFinding(_Value):
    """One thing that is wrong, the gravest first. ``acts`` of the report that help are named."""

    code: FindingCode
    severity: Literal["error", "warning", "info"]
    message: str
    hint: str
    acts: tuple[str, ...] = ()


class RescueReport(_Value):
    """Everything. ``acts`` are those that are possible here; ``why_not`` says of others why they are not."""

    daemon: DaemonWord
    unit: RescueUnit
    state_dir: str
    database: str | None
    """What is wrong with the database; null when nothing is."""
    disks: tuple[RescueDisk, ...] = ()
    findings: tuple[RescueFinding, ...] = ()
    log: tuple[str, ...] = ()
    log_from: str | None = None
    backups: tuple[BackupItem, ...] = ()
    has_passphrase: bool = False
    users: tuple[str, ...] = ()
    folders: tuple[str, ...] = ()
    safe_mode: bool = False
    acts: tuple[str, ...] = ()
    why_not: dict[str, str] = {}


class RescueDone(_Value):
    """An act that was done."""

    message: str
    details: tuple[str, ...] = ()


class BundleFile(_Value):
    """A file of a support bundle: ``about`` says what it has."""

    name: str
    size_bytes: int
    about: str


class SupportBundle(_Value):
    """A bundle that was written. ``redacted`` counts what was blotted out."""

    path: str
    size_bytes: int
    redacted: int
    files: tuple[BundleFile, ...]
