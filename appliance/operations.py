"""What serves operators beside the models: jobs, backups, alerts. Put together by the settings for one run of the
daemon."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from sqlalchemy import Engine

from appliance.alerts.service import AlertService
from appliance.alerts.types import AlertConfig
from appliance.backup.listing import BackupReader
from appliance.backup.service import Backups
from appliance.jobs.backups import BackupPlace, backup_works
from appliance.jobs.examine import examine
from appliance.jobs.rows import JobRows
from appliance.jobs.service import JobService, Work
from appliance.jobs.updates import UpdateDoor
from appliance.jobs.works import QUICK_LANE, STORE_LANE, UPDATE_LANE, Models, WorkPlace, all_works
from appliance.security.audit import AuditLog
from appliance.settings import Settings
from drivers.types import HardwareSnapshot
from models.model_store import ModelStore

QUICK_AT_ONCE = 2


class Operations:
    """``start`` before the first request, ``aclose`` after the last one."""

    def __init__(
        self,
        settings: Settings,
        database: Engine,
        audit: AuditLog,
        *,
        store: ModelStore,
        models: Models,
        detect: Callable[[], HardwareSnapshot],
        verified: Callable[[str, str | None], None],
        version: str,
        restart: Callable[[], None],
        door: UpdateDoor | None = None,
    ) -> None:
        """``detect`` blocks; ``verified`` is told what a check of a model found; ``door`` is the system's own where
        none is given. ``restart`` asks for a restart of the daemon, in the event loop."""

        def doctor() -> dict[str, Any]:
            return examine(detect(), settings.backends_dir)

        self.door = door or UpdateDoor()
        place = WorkPlace(
            store, settings, audit, models, detect=detect, examine=doctor, verified=verified, door=self.door
        )
        self._place = place
        lanes = {STORE_LANE: settings.jobs_at_once, QUICK_LANE: QUICK_AT_ONCE, UPDATE_LANE: 1}
        self.folders = place.folders
        self.alerts = AlertService(alert_config(settings))
        rows = JobRows(database, audit)
        self._backups = Backups(settings, version=version, models=lambda: [one.id for one in store.list().models])
        self.backups = BackupReader(self._backups, self._folders_now)
        self._backup_works = backup_works(BackupPlace(self._backups, lambda: self._place.folders, restart, QUICK_LANE))
        self.jobs = JobService(rows, self._works(place), lanes, keep=settings.jobs_keep, folders=place.folders.now)

    def retune(self, settings: Settings) -> None:
        """Other hubs and limits for jobs that begin from now on, other receivers of alerts."""
        self.alerts.use(alert_config(settings))
        self._backups.retune(settings)
        self.jobs.use(self._works(replace(self._place, settings=settings)))

    def _works(self, place: WorkPlace) -> Mapping[str, Work]:
        return {**all_works(place), **self._backup_works}

    def _folders_now(self) -> tuple[Path, ...]:
        return self._place.folders.now()

    async def start(self) -> None:
        """Begin the background work."""
        await self.jobs.start()
        await self.alerts.start()

    async def aclose(self) -> None:
        """End it."""
        await self.alerts.aclose()
        await self.jobs.aclose()


def alert_config(settings: Settings) -> AlertConfig:
    """The settings' part in alerts."""
    return AlertConfig(
        urls=settings.alert_urls,
        secret=settings.alert_secret,
        severity=settings.alert_severity,
        loopback=settings.alert_loopback,
        ca_bundle=settings.alert_ca_bundle,
    )
