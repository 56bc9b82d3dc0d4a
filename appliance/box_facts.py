"""Gathers what the health checks look at: telemetry, models, verdicts, disks, the last detection."""

from __future__ import annotations

import asyncio
import shutil
from collections import deque
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from appliance.engine.base import EngineState, EngineStatus
from appliance.health.types import BoxFacts, DiskRoom
from appliance.schemas.alerts import AlertTarget
from appliance.schemas.cluster import ClusterStatus
from appliance.schemas.models import ModelEntries
from appliance.schemas.offload import Offload
from appliance.schemas.telemetry import Telemetry
from drivers.types import Finding
from models.errors import ModelDamaged
from models.model_store import ModelStore

_REMEMBERED = 32


class ModelsSource(Protocol):
    """The part of ``ModelHost`` that is needed here."""

    async def entries(self) -> ModelEntries: ...


class OffloadSource(Protocol):
    """The part of ``OffloadProver`` that is needed here."""

    def verdicts(self) -> tuple[Offload, ...]: ...

    def refused(self) -> Mapping[str, str]: ...


class FactsReader:
    """Call it for the facts of this moment. Remembers when engines died and what ``verify`` found."""

    def __init__(
        self,
        *,
        telemetry: Callable[[], Telemetry],
        models: ModelsSource,
        offload: OffloadSource,
        findings: Callable[[], tuple[Finding, ...]],
        store: ModelStore,
        state_dir: Path,
        certificate_ends_at: Callable[[], datetime | None] = lambda: None,
        cluster: Callable[[], ClusterStatus] = ClusterStatus,
        alerts: Callable[[], tuple[AlertTarget, ...]] = tuple,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """``certificate_ends_at`` reads a file."""
        self._telemetry = telemetry
        self._models = models
        self._offload = offload
        self._findings = findings
        self._store = store
        self._state_dir = state_dir
        self._certificate_ends_at = certificate_ends_at
        self._cluster = cluster
        self._alerts = alerts
        self._now = now
        self._deaths: dict[str, deque[datetime]] = {}
        self._ready: set[str] = set()
        self._damaged: dict[str, str] = {}

    def note(self, status: EngineStatus) -> None:
        """An engine's new state; one that fails after it was ready, or in a restart, has died."""
        model_id = status.model_id
        if model_id is None:
            return
        if status.state is EngineState.FAILED and (model_id in self._ready or status.restarts):
            self._deaths.setdefault(model_id, deque(maxlen=_REMEMBERED)).append(self._now())
        if status.state is EngineState.READY:
            self._ready.add(model_id)
        else:
            self._ready.discard(model_id)

    async def verify(self, model_id: str) -> str | None:
        """Read a model's files again; the problem, or ``None``. Raises ModelNotFound."""
        results = await asyncio.to_thread(self._verify, model_id)
        self.note_verified(model_id, results)
        return results

    def note_verified(self, model_id: str, problem: str | None) -> None:
        """What somebody else found when reading a model again."""
        if problem is None:
            self._damaged.pop(model_id, None)
        else:
            self._damaged[model_id] = problem

    async def __call__(self) -> BoxFacts:
        entries = await self._models.entries()
        damaged, newest, disks, ends = await asyncio.to_thread(self._read)
        return BoxFacts(
            now=self._now(),
            telemetry=self._telemetry(),
            models=entries.models,
            offload=self._offload.verdicts(),
            refused=self._offload.refused(),
            restarts={model_id: tuple(times) for model_id, times in self._deaths.items()},
            damaged={**damaged, **self._damaged},
            findings=self._findings(),
            disks=disks,
            newest_import_at=newest,
            certificate_ends_at=ends,
            cluster=self._cluster(),
            alerts=self._alerts(),
        )

    def _read(self) -> tuple[dict[str, str], datetime | None, tuple[DiskRoom, ...], datetime | None]:
        listing = self._store.list()
        dates = [datetime.fromisoformat(model.imported_at) for model in listing.models]
        disks = [self._room("state", self._state_dir)]
        if self._store.root.stat().st_dev != self._state_dir.stat().st_dev:
            disks.append(self._room("models", self._store.root))
        damaged = {one.id: one.problem for one in listing.damaged}
        gone = set(self._damaged) - {model.id for model in listing.models}
        for model_id in gone:
            del self._damaged[model_id]
        return damaged, max(dates, default=None), tuple(disks), self._certificate_ends_at()

    def _verify(self, model_id: str) -> str | None:
        try:
            self._store.verify(model_id)
        except ModelDamaged as error:
            return error.message
        return None

    @staticmethod
    def _room(name: str, folder: Path) -> DiskRoom:
        usage = shutil.disk_usage(folder)
        return DiskRoom(name, str(folder), usage.free, usage.total)
