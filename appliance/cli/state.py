"""The state folder around a run of the daemon: what waits is done first, a restore that does not start is undone."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import structlog

from appliance.errors import AppError

if TYPE_CHECKING:
    from appliance.settings import Settings


_log = structlog.get_logger(__name__)


def with_state(load: Callable[[], Settings], run: Callable[[Settings, Callable[[], None]], bool]) -> bool:
    """Run the daemon on its state folder, which nobody swaps meanwhile; whether it wants to run again.

    A restore or a reset that waits is done before, and the settings are loaded anew then. ``run`` calls what it is
    given as soon as the box is up: the state from before a restore goes. When it cannot start, that state is put back
    for another run. Raises what ``load`` and ``run`` raise, OSError.
    """
    from appliance.backup.in_use import in_use
    from appliance.backup.pending import finish_pending, settle_restore, undo_restore
    from appliance.paths import prepare_state

    settings = load()
    folder = prepare_state(settings.state_dir).state_dir
    before = settings
    done = finish_pending(folder, lambda: remove_all_models(before))
    if done.reset is not None:
        _log.warning("factory_reset_done", models_removed=done.reset.remove_models)
    if done.restored is not None:
        _log.warning("backup_restored", backup=done.restored.facts.get("backup"))
    try:
        if done.reset is not None or done.restored is not None:
            settings = load()
        with in_use(folder):
            return run(settings, lambda: settle_restore(folder))
    except AppError:
        if undo_restore(folder):
            return True
        raise


def remove_all_models(settings: Settings) -> None:
    """Everything in the model store goes, loaded or not. Raises ModelError."""
    from models.model_store import ModelStore

    store = ModelStore(settings.models_dir)
    for model in store.list().models:
        store.remove(model.id, force=True)
