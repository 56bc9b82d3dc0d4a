"""Backups of one box, put together by its settings: what the jobs, the API and the command line call."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from appliance.backup.create import Created, Order, Steps, create_backup
from appliance.backup.disk import own_like
from appliance.backup.errors import BackupTargetUnusable, PassphraseMissing
from appliance.backup.folder import NIGHTLY, Listed, list_backups, named, prune
from appliance.backup.in_use import in_use
from appliance.backup.key import BackupKey, derive, forget_key, load_key, save_key
from appliance.backup.reset import BACKUPS, Reset, ResetOrder
from appliance.backup.restore import Opened, Staged, check_backup, stage_backup
from appliance.security.identity import Actor
from appliance.settings import Settings, config_file

MOST_ON_STICKS = 100


@dataclass(frozen=True, slots=True)
class Nightly:
    """What a night's backup did: the new file and those that went."""

    created: Created
    removed: tuple[str, ...]


class Backups:
    """All methods block. ``models`` names the models that the box has, for a restored box to get again."""

    def __init__(
        self,
        settings: Settings,
        *,
        version: str,
        models: Callable[[], Sequence[str]] = tuple,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._settings = settings
        self._version = version
        self._models = models
        self._now = now

    def retune(self, settings: Settings) -> None:
        """Take changed settings over."""
        self._settings = settings

    @property
    def state_dir(self) -> Path:
        """Whose backups these are."""
        return self._settings.state_dir

    @property
    def folder(self) -> Path:
        """Where the box keeps its own."""
        return self._settings.backup_dir or self.state_dir / BACKUPS

    @property
    def keep(self) -> int:
        """How many nightly ones stay."""
        return self._settings.backup_keep

    def list(self) -> tuple[Listed, ...]:
        """Those of the box's folder, the newest first. Raises OSError."""
        return list_backups(self.folder)

    def on_sticks(self, folders: Iterable[Path]) -> tuple[Listed, ...]:
        """Those that lie on sticks, at the top or in a folder of them; what cannot be read is passed over."""
        found: list[Listed] = []
        for folder in folders:
            if folder == self.folder:
                continue
            for place in (folder, *_folders_in(folder)):
                try:
                    found += list_backups(place)
                except OSError:
                    continue
        return tuple(found[:MOST_ON_STICKS])

    def free_bytes(self) -> int | None:
        """Room where backups are kept; ``None`` when the folder cannot be asked."""
        folder = self.folder
        try:
            return shutil.disk_usage(folder if folder.exists() else folder.parent).free
        except OSError:
            return None

    @property
    def has_passphrase(self) -> bool:
        """Whether backups are made without anybody typing one."""
        return load_key(self.state_dir) is not None

    def set_passphrase(self, passphrase: str) -> None:
        """From now on backups are sealed with this one. Raises BadPassphrase, OSError."""
        save_key(self.state_dir, derive(passphrase))

    def forget_passphrase(self) -> bool:
        """Make no more backups by itself; whether there was one."""
        return forget_key(self.state_dir)

    def create(
        self,
        *,
        to: Path | None = None,
        passphrase: str | None = None,
        label: str = "manual",
        steps: Steps | None = None,
    ) -> Created:
        """A backup in ``to``, a folder that is there, or in the box's own. Raises PassphraseMissing and as
        ``create_backup``."""
        key = self._key(passphrase)
        order = Order(
            state_dir=self.state_dir,
            key=key,
            at=self._now(),
            version=self._version,
            host=socket.gethostname(),
            label=label,
            config=config_file(),
            models=tuple(self._models()),
        )
        with in_use(self.state_dir):
            return create_backup(order, to or self._made_folder(), steps)

    def nightly(self, steps: Steps | None = None) -> Nightly:
        """A night's backup; then the oldest nightly ones go. Raises as ``create``: nothing goes then."""
        created = self.create(label=NIGHTLY, steps=steps)
        return Nightly(created, prune(self.folder, keep=self.keep, host=socket.gethostname()))

    def named(self, name: str) -> Path:
        """Of the box's folder. Raises BackupNotFound."""
        return named(self.folder, name)

    def remove(self, name: str) -> None:
        """Remove one of the box's folder. Raises BackupNotFound, OSError."""
        self.named(name).unlink()

    def check(self, path: Path, passphrase: str | None, steps: Steps | None = None) -> Opened:
        """Read one whole. Raises as ``check_backup``."""
        return check_backup(path, passphrase, self.state_dir, steps)

    def stage(self, path: Path, passphrase: str | None, actor: Actor, steps: Steps | None = None) -> Staged:
        """Have one take the state's place at the next start. Raises as ``stage_backup``."""
        with in_use(self.state_dir):
            return stage_backup(path, passphrase, self.state_dir, actor, steps, installed=tuple(self._models()))

    def order_reset(self, order: ResetOrder) -> None:
        """Have the box be as new at the next start. Raises OSError."""
        Reset(self.state_dir).order(order)

    def _key(self, passphrase: str | None) -> BackupKey:
        if passphrase is not None:
            return derive(passphrase)
        own = load_key(self.state_dir)
        if own is None:
            raise PassphraseMissing
        return own

    def _made_folder(self) -> Path:
        folder = self.folder
        try:
            if not folder.exists():
                folder.mkdir(mode=0o700, parents=True)
                own_like(folder, folder.parent)
        except OSError as error:
            raise BackupTargetUnusable(path=folder, reason=(error.strerror or str(error)).lower()) from error
        return folder


def _folders_in(folder: Path) -> tuple[Path, ...]:
    try:
        return tuple(one for one in sorted(folder.iterdir())[:200] if one.is_dir() and not one.is_symlink())
    except OSError:
        return ()
