"""The settings of the running box, for operators: shown, changed, audited, and taken over by those that can."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import structlog

from appliance.schemas.settings import SettingItem, SettingList
from appliance.security.audit import AuditLog
from appliance.security.identity import Actor
from appliance.settings import SECRET, Origin, Settings
from appliance.settings_store import HIDDEN, SettingsStore, SettingState

_log = structlog.get_logger(__name__)
_MOST_SHOWN = 500


class LiveSettings:
    """The one writer of settings. ``takers`` are told the settings in force after each change, in the event loop."""

    def __init__(
        self, store: SettingsStore, audit: AuditLog, takers: Sequence[Callable[[Settings], None]] = ()
    ) -> None:
        self._store = store
        self._audit = audit
        self._takers = tuple(takers)
        self._writing = asyncio.Lock()

    async def list(self) -> SettingList:
        """All settings as they are now. Raises BadSetting when a file was broken meanwhile."""
        return setting_list(await asyncio.to_thread(self._store.states), str(self._store.file))

    async def change(self, values: Mapping[str, Any], actor: Actor) -> SettingList:
        """Change all of ``values`` or none; None takes a change back. Raises what ``SettingsStore.check`` raises."""
        async with self._writing:
            in_force = await asyncio.to_thread(change_settings, self._store, self._audit, values, actor)
            for take in self._takers:
                take(in_force)
        _log.info("settings_changed", names=", ".join(sorted(values)), by=actor.name)
        return await self.list()


def change_settings(store: SettingsStore, audit: AuditLog, values: Mapping[str, Any], actor: Actor) -> Settings:
    """Write changes with a row of the audit log for each; the settings in force then. Blocks."""
    before = {state.name: state for state in store.states()}
    changed = store.check(values)
    with audit.together() as append:
        for name in sorted(values):
            new = changed.get(name)
            new = HIDDEN if name in SECRET and new else new
            append(actor, "settings.change", name, {"from": _short(before[name].stored), "to": _short(new)})
        # The rows stay only if the file was written.
        return store.write(changed)


def setting_list(states: Sequence[SettingState], file: str) -> SettingList:
    """The settings as the API tells them."""
    items = tuple(
        SettingItem(
            name=state.name,
            value=state.value,
            stored=state.stored,
            default=state.default,
            source=state.origin.value,
            origin=state.place,
            applies=state.applies.value,
            locked=state.origin in (Origin.FLAG, Origin.ENVIRONMENT),
            pending=state.value != state.stored,
            secret=state.name in SECRET,
            kind=state.kind,
            description=state.description,
        )
        for state in states
    )
    return SettingList(items=items, restart_needed=tuple(one.name for one in items if one.pending), file=file)


def _short(value: Any) -> Any:
    return value if len(str(value)) <= _MOST_SHOWN else f"{str(value)[:_MOST_SHOWN]}…"
