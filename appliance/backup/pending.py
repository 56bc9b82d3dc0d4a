"""What was asked for and waits until nobody works with the state: a restore, a factory reset. Done at the next start,
by whoever comes first."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import structlog

from appliance.backup.errors import StateInUse
from appliance.backup.in_use import alone
from appliance.backup.reset import Reset, ResetOrder
from appliance.backup.swap import Restored, Swap, leftovers

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Done:
    """What was finished just now."""

    restored: Restored | None = None
    reset: ResetOrder | None = None


def waits(state_dir: Path) -> bool:
    """Whether something is to be finished. Two looks at the disk."""
    return Swap(state_dir).is_pending or Reset(state_dir).is_pending


def finish_pending(state_dir: Path, remove_models: Callable[[], None]) -> Done:
    """Finish what waits and remove what was cut off; nothing while somebody works with the state. Raises OSError."""
    if not waits(state_dir) and not leftovers(state_dir):
        return Done()
    try:
        with alone(state_dir):
            Swap(state_dir).sweep()
            return Done(reset=Reset(state_dir).finish(remove_models), restored=Swap(state_dir).finish())
    except StateInUse:
        return Done()


def undo_restore(state_dir: Path) -> bool:
    """Have the state back that was there before a restore that the box has not come up with yet; whether there was one.
    Raises OSError."""
    if not Swap(state_dir).is_unsettled:
        return False
    try:
        with alone(state_dir):
            undone = Swap(state_dir).undo()
    except StateInUse:
        return False
    if undone:
        _log.error("restore_undone")
    return undone


def settle_restore(state_dir: Path) -> None:
    """The box is up: the state from before the restore goes."""
    swap = Swap(state_dir)
    if swap.is_unsettled:
        try:
            swap.settle()
        except OSError as error:
            _log.warning("old_state_kept", reason=error.strerror or str(error))
