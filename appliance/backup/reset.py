"""Factory reset: the state folder as it was before the first start, models kept or not.

What is to go is written down first (``reset.json``); from then on it will go, however often the power is cut
meanwhile: ``finish`` may be begun again at any step.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from appliance.backup.disk import Disk, RealDisk
from appliance.backup.key import KEY_FILE
from appliance.backup.parts import REPLACED, replaced_in
from appliance.backup.swap import BEFORE, RESTORED, STAGED, leftovers

ORDER_FILE = "reset.json"
BACKUPS = "backups"
GOES = (
    *REPLACED, "cluster", "first-run.json",
    KEY_FILE, RESTORED, STAGED, BEFORE, "chats.key", "chats", "engines", "engine-cache", "logs",
    "measured-memory.json", "safe-mode",
)  # fmt: skip
"""Names in the state folder. Nothing else is touched: the folder may hold what is not ours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResetOrder:
    """What goes beside the state."""

    remove_models: bool = False
    keep_backups: bool = False


class Reset:
    """The reset of one state folder. ``finish`` is called by whoever holds the folder alone."""

    def __init__(self, state_dir: Path, disk: Disk | None = None) -> None:
        self._dir = state_dir
        self._disk: Disk = disk or RealDisk()

    @property
    def is_pending(self) -> bool:
        """Whether one was ordered and is not finished."""
        return (self._dir / ORDER_FILE).is_file()

    def order(self, order: ResetOrder) -> None:
        """Have it done once nobody works with the state. Raises OSError."""
        self._disk.write(self._dir / ORDER_FILE, json.dumps(asdict(order)).encode())

    def finish(self, remove_models: Callable[[], None]) -> ResetOrder | None:
        """Do what was ordered; ``None`` when nothing was. Raises OSError, and what ``remove_models`` raises."""
        if not self.is_pending:
            return None
        order = _order(json.loads((self._dir / ORDER_FILE).read_bytes()))
        for path in leftovers(self._dir):
            self._disk.remove(path)
        names = (*GOES, *replaced_in(self._dir))
        for name in names if order.keep_backups else (*names, BACKUPS):
            path = self._dir / name
            if path.exists() or path.is_symlink():
                self._disk.remove(path)
        if order.remove_models:
            remove_models()
        self._disk.remove(self._dir / ORDER_FILE)
        return order


def what_goes(state_dir: Path) -> tuple[tuple[str, int], ...]:
    """Names that a reset removes and are there, with their bytes: to be shown before anybody confirms."""
    names = (*GOES, BACKUPS)
    return tuple((name, _bytes(state_dir / name)) for name in names if (state_dir / name).exists())


def _order(values: Any) -> ResetOrder:
    return ResetOrder(remove_models=bool(values.get("remove_models")), keep_backups=bool(values.get("keep_backups")))


def _bytes(path: Path) -> int:
    if not path.is_dir():
        return path.stat().st_size
    return sum(one.stat().st_size for one in path.rglob("*") if one.is_file() and not one.is_symlink())
