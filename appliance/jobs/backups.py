"""Backup, restore and factory reset as jobs. A restore and a reset end with a restart of the daemon, which does them
before it opens anything (``appliance.backup.pending``)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from appliance.backup.errors import BackupTargetUnusable, PassphraseMissing
from appliance.backup.reset import ResetOrder
from appliance.backup.service import Backups
from appliance.jobs.control import Control
from appliance.jobs.errors import JobCancelled
from appliance.jobs.folders import AllowedFolders
from appliance.jobs.service import Work
from appliance.jobs.threads import in_thread
from appliance.schemas.jobs import BackupWish, FactoryResetWish, RestoreWish
from appliance.security.identity import Actor

RESTART_AFTER_S = 1.0
"""So that whoever follows the job sees its end."""


@dataclass(frozen=True, slots=True)
class BackupPlace:
    """What these works work with. ``restart`` asks the daemon to end and begin anew; called in the event loop."""

    backups: Backups
    folders: Callable[[], AllowedFolders]
    restart: Callable[[], None]
    lane: str


@dataclass(frozen=True, slots=True)
class BackingUp:
    """Makes a backup."""

    place: BackupPlace
    can_cancel: bool = True

    @property
    def lane(self) -> str:
        return self.place.lane

    def check(self, wish: BackupWish) -> None:
        """Raises PassphraseMissing, PathNotAllowed, PathNotThere, BackupTargetUnusable."""
        if wish.passphrase is None and not self.place.backups.has_passphrase:
            raise PassphraseMissing
        self._target(wish)

    async def run(self, wish: BackupWish, control: Control, actor: Actor) -> dict[str, Any]:
        del actor
        return await in_thread("job backup", _uncancelled, control, lambda: self._make(wish, control))

    def _make(self, wish: BackupWish, control: Control) -> dict[str, Any]:
        made = self.place.backups.create(to=self._target(wish), passphrase=wish.passphrase, steps=control)
        return {"name": made.path.name, "path": str(made.path), "size_bytes": made.size_bytes}

    def _target(self, wish: BackupWish) -> Path | None:
        if wish.to is None:
            return None
        folder = self.place.folders().resolve(wish.to)
        if not folder.is_dir():
            raise BackupTargetUnusable(path=folder, reason="it is no folder")
        return folder


@dataclass(frozen=True, slots=True)
class Restoring:
    """Checks a backup, leaves it to be put in place, and asks for the restart."""

    place: BackupPlace
    can_cancel: bool = True

    @property
    def lane(self) -> str:
        return self.place.lane

    def check(self, wish: RestoreWish) -> None:
        """Raises BackupNotFound, PathNotAllowed, PathNotThere."""
        self._source(wish)

    async def run(self, wish: RestoreWish, control: Control, actor: Actor) -> dict[str, Any]:
        result = await in_thread("job restore", _uncancelled, control, lambda: self._stage(wish, control, actor))
        asyncio.get_running_loop().call_later(RESTART_AFTER_S, self.place.restart)
        return result

    def _stage(self, wish: RestoreWish, control: Control, actor: Actor) -> dict[str, Any]:
        staged = self.place.backups.stage(self._source(wish), wish.passphrase, actor, control)
        return {**staged.facts, "restarts": True}

    def _source(self, wish: RestoreWish) -> Path:
        if wish.path is not None:
            return self.place.folders().resolve(wish.path)
        return self.place.backups.named(wish.name or "")


@dataclass(frozen=True, slots=True)
class Resetting:
    """Writes down that all is to go, and asks for the restart."""

    place: BackupPlace
    can_cancel: bool = False

    @property
    def lane(self) -> str:
        return self.place.lane

    def check(self, wish: FactoryResetWish) -> None:
        """Nothing can be wrong with it."""

    async def run(self, wish: FactoryResetWish, control: Control, actor: Actor) -> dict[str, Any]:
        del actor
        control.check()
        order = ResetOrder(remove_models=wish.remove_models, keep_backups=wish.keep_backups)
        await in_thread("job factory_reset", self.place.backups.order_reset, order)
        asyncio.get_running_loop().call_later(RESTART_AFTER_S, self.place.restart)
        return {"restarts": True}


def backup_works(place: BackupPlace) -> Mapping[str, Work]:
    """The three kinds by their names."""
    return {"backup": BackingUp(place), "restore": Restoring(place), "factory_reset": Resetting(place)}


def _uncancelled(control: Control, call: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    control.check()
    try:
        return call()
    except Exception as error:
        if control.is_cancelled:
            raise JobCancelled from error
        raise
