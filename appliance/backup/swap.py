"""Puts a checked state in the place of the old one, whatever happens meanwhile.

    .restore-XXXX/            being read and checked; worth nothing after a power cut
    restore-staged/           whole, checked, migrated: from this rename on the restore will be done (finish)
    before-restore/           the old state, until the box has come up with the new one (settle), or it goes back (undo)

Each folder has ``plan.json`` and the files in ``files/``. ``finish`` only renames, and asks of each name where it is
now, so it may be cut at any step and begun again: before the rename to ``restore-staged`` there is the old state,
after it the new. Everything here is called by whoever holds the state folder alone (``in_use.alone``).
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from appliance.backup.disk import Disk, RealDisk
from appliance.backup.parts import replaced_in

STAGED, BEFORE, RESTORED = "restore-staged", "before-restore", "restored.json"
PLAN, FILES = "plan.json", "files"
SCRATCH = ".restore-"
TRASH = ".trash-"
COPYING = ".backup-"


@dataclass(frozen=True, slots=True)
class Restored:
    """A restore that was done. ``facts``: of which backup, when."""

    facts: dict[str, Any]


class Swap:
    """The swaps of one state folder."""

    def __init__(self, state_dir: Path, disk: Disk | None = None) -> None:
        self._dir = state_dir
        self._disk: Disk = disk or RealDisk()

    @property
    def is_pending(self) -> bool:
        """Whether a checked state waits to be put in place."""
        return (self._dir / STAGED).is_dir()

    @property
    def is_unsettled(self) -> bool:
        """Whether the old state is still kept beside the restored one."""
        return (self._dir / BEFORE).is_dir()

    def commit(self, scratch: Path, facts: dict[str, Any]) -> None:
        """Make ``scratch`` (with its ``files``) the state that will be put in place, instead of one that waits."""
        # Both: a swap that was cut off and must be finished first, or there would be half of each.
        assert not (self.is_pending and self.is_unsettled)
        names = sorted(path.name for path in (scratch / FILES).iterdir())
        self._disk.write(scratch / PLAN, json.dumps({"names": names, "facts": facts}).encode())
        for old in (STAGED, BEFORE):
            self._drop(old)
        self._disk.rename(scratch, self._dir / STAGED)

    def withdraw(self) -> bool:
        """Take a state that waits away; whether there was one."""
        waited = self.is_pending and not self.is_unsettled
        if waited:
            self._drop(STAGED)
        return waited

    def finish(self) -> Restored | None:
        """Put what waits in place; None when nothing does. Raises OSError."""
        self.sweep()
        staged = self._dir / STAGED
        if not staged.is_dir():
            return None
        plan = json.loads((staged / PLAN).read_bytes())
        names = [str(name) for name in plan["names"]]
        old = self._dir / BEFORE
        self._disk.make_folder(old)
        self._disk.make_folder(old / FILES)
        # First everything old goes aside: a -wal of the old database beside the new one would damage it.
        for name in dict.fromkeys((*replaced_in(self._dir), *names)):
            is_new_in_place = name in names and not _there(staged / FILES / name)
            if _there(self._dir / name) and not is_new_in_place:
                self._disk.rename(self._dir / name, old / FILES / name)
        for name in names:
            if _there(staged / FILES / name):
                self._disk.rename(staged / FILES / name, self._dir / name)
        self._disk.write(old / PLAN, json.dumps({"facts": plan["facts"]}).encode())
        self._disk.write(self._dir / RESTORED, json.dumps(plan["facts"]).encode())
        self._drop(STAGED)
        return Restored(plan["facts"])

    def settle(self) -> None:
        """The box has come up with the restored state: the old one goes."""
        if not self.is_pending:
            self._drop(BEFORE)

    def undo(self) -> bool:
        """Have the old state back, when it is still there; whether it was. The restored one goes."""
        old = self._dir / BEFORE
        if not old.is_dir() or self.is_pending:
            return False
        names = sorted(path.name for path in (old / FILES).iterdir())
        self._disk.write(old / PLAN, json.dumps({"names": names, "facts": {"undone": True}}).encode())
        self._disk.rename(old, self._dir / STAGED)
        self.finish()
        self._drop(BEFORE)
        self._disk.remove(self._dir / RESTORED)
        return True

    def _drop(self, name: str) -> None:
        """Remove a folder in one step for whoever looks: it has another name before its files go."""
        path = self._dir / name
        if path.is_dir():
            trash = self._dir / f"{TRASH}{secrets.token_hex(4)}"
            self._disk.rename(path, trash)
            self._disk.remove(trash)

    def sweep(self) -> None:
        """Remove what a power cut left half copied, half read or half removed."""
        for path in leftovers(self._dir):
            self._disk.remove(path)


def leftovers(state_dir: Path) -> Iterable[Path]:
    """Folders of work that was cut off."""
    return sorted(path for mark in (SCRATCH, TRASH, COPYING) for path in state_dir.glob(f"{mark}*"))


def last_restore(state_dir: Path) -> dict[str, Any] | None:
    """What the last restore was; ``None`` when there was none, or nobody may read it."""
    try:
        found = json.loads((state_dir / RESTORED).read_bytes())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _there(path: Path) -> bool:
    return path.exists() or path.is_symlink()
