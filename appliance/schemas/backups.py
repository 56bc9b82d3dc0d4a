"""Bodies of ``/api/admin/backups``, ``/api/admin/restart`` and ``/api/admin/factory-reset``."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from appliance.schemas.jobs import PathText

Passphrase = Annotated[str, Field(min_length=1, max_length=1024)]
FileName = Annotated[str, Field(min_length=1, max_length=255)]
RESTORE_WORD = "restore"
RESET_WORD = "factory-reset"


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True)


class _Order(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class BackupItem(_Value):
    """A backup. What it says of itself (``created_at``, RFC 3339; ``version``, ``host``, ``label``: manual or nightly)
    nobody vouches for until it is opened; ``problem`` says why it is none."""

    name: str
    path: str
    size_bytes: int
    created_at: str | None = None
    version: str | None = None
    host: str | None = None
    label: str | None = None
    problem: str | None = None


class LastRestore(_Value):
    """The restore that this state comes from. ``models`` are ids of models the box had then; ``settings_left_out``
    were not taken by this version."""

    backup: str
    created_at: str
    restored_at: str
    host: str
    version: str
    models: tuple[str, ...] = ()
    settings_left_out: tuple[str, ...] = ()


class BackupList(_Value):
    """The box's backups, the newest first, and those on sticks. ``has_passphrase``: one is set, so that backups are
    made every night; ``keep`` nightly ones stay. ``waiting``: a checked state takes effect at the next restart."""

    folder: str
    free_bytes: int | None = None
    keep: int
    has_passphrase: bool
    waiting: bool = False
    backups: tuple[BackupItem, ...] = ()
    on_sticks: tuple[BackupItem, ...] = ()
    folders: tuple[str, ...] = ()
    """Sticks and folders that a backup may be written to."""
    problem: str | None = None
    """Why the folder cannot be read."""
    last_restore: LastRestore | None = None


class BackupOrder(_Order):
    """Make one now. ``to`` is a stick's folder; without it the box's own. Without a passphrase by the one that is
    set."""

    to: PathText | None = None
    passphrase: Passphrase | None = Field(default=None, repr=False)


class RestoreOrder(_Order):
    """Go back to a backup: ``name`` of the box's folder or ``path`` on a stick. ``confirm`` is the word ``restore``.
    Without a passphrase by the one that is set on this box."""

    name: FileName | None = None
    path: PathText | None = None
    passphrase: Passphrase | None = Field(default=None, repr=False)
    confirm: str = Field(default="", max_length=64)


class PassphraseOrder(_Order):
    """The passphrase of backups from now on; ten characters or more."""

    passphrase: Passphrase = Field(repr=False)


class ResetOrderBody(_Order):
    """As new: ``confirm`` is the word ``factory-reset``. Models stay unless they are to go, backups of the box's folder
    go unless they are to stay."""

    confirm: str = Field(default="", max_length=64)
    remove_models: bool = False
    keep_backups: bool = False


class Asked(_Value):
    """The box does what was asked."""

    message: str
