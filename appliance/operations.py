"""What serves operators beside the models: jobs and alerts. Put together by the settings for one run of the daemon."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from sqlalchemy import Engine

from appliance.alerts.service import AlertService
from appliance.alerts.types import AlertConfig
from appliance.jobs.examine import examine
from appliance.jobs.rows import JobRows
from appliance.jobs.service import JobService
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
        door: UpdateDoor | None = None,
    ) -> None:
        """``detect`` blocks; ``verified`` is told what a check of a model found; ``door`` is the system's own where
        none is given."""

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
        self.jobs = JobService(rows, all_works(place), lanes, keep=settings.jobs_keep, folders=place.folders.now)

    def retune(self, settings: Settings) -> None:
        """Other hubs and limits for jobs that begin from now on, other receivers of alerts."""
        self.alerts.use(alert_config(settings))
        self.jobs.use(all_works(replace(self._place, settings=settings)))

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
