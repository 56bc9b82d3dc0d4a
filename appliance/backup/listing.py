"""The box's backups as its API shows them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from pydantic import ValidationError

from appliance.backup.folder import Listed
from appliance.backup.pending import waits
from appliance.backup.service import Backups
from appliance.backup.swap import last_restore
from appliance.schemas.backups import BackupItem, BackupList, LastRestore


class BackupReader:
    """What ``/api/admin/backups`` asks. ``sticks`` are the folders that jobs may use now. All methods block."""

    def __init__(self, backups: Backups, sticks: Callable[[], Sequence[Path]]) -> None:
        self._backups = backups
        self._sticks = sticks

    def read(self) -> BackupList:
        """Everything about them."""
        backups, problem = self._backups, None
        listed: tuple[Listed, ...] = ()
        try:
            listed = backups.list()
        except OSError as error:
            problem = (error.strerror or str(error)).lower()
        sticks = self._sticks()
        return BackupList(
            folder=str(backups.folder),
            free_bytes=backups.free_bytes(),
            keep=backups.keep,
            has_passphrase=backups.has_passphrase,
            waiting=waits(backups.state_dir),
            backups=tuple(_item(one) for one in listed),
            on_sticks=tuple(_item(one) for one in backups.on_sticks(sticks)),
            folders=tuple(str(one) for one in sticks),
            problem=problem,
            last_restore=_last(backups.state_dir),
        )

    def remove(self, name: str) -> None:
        """Remove one of the box's folder. Raises BackupNotFound, OSError."""
        self._backups.remove(name)

    def set_passphrase(self, passphrase: str) -> None:
        """Raises BadPassphrase, OSError."""
        self._backups.set_passphrase(passphrase)

    def forget_passphrase(self) -> bool:
        """Whether there was one."""
        return self._backups.forget_passphrase()


def _item(one: Listed) -> BackupItem:
    return BackupItem(
        name=one.path.name,
        path=str(one.path),
        size_bytes=one.size_bytes,
        created_at=one.created_at,
        version=one.version,
        host=one.host,
        label=one.label,
        problem=one.problem,
    )


def _last(state_dir: Path) -> LastRestore | None:
    found = last_restore(state_dir)
    try:
        return None if found is None else LastRestore.model_validate(found)
    except ValidationError:
        return None
