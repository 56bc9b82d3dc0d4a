"""The verdicts on all loaded models, kept up to date: at each load, every hour, after the machine slept, when asked."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from appliance.engine.base import Engine, EngineInfo
from appliance.health.offload.prover import OffloadProver
from appliance.health.offload.watch import watch_offload
from appliance.schemas.offload import Offload


@dataclass(frozen=True, slots=True)
class ServedEngine:
    """An engine that is ready. ``busy`` tells whether users wait for it or are answered by it now."""

    model_id: str
    engine: Engine
    info: EngineInfo
    busy: Callable[[], bool]


class OffloadService:
    """What API and metrics ask. ``served`` lists the engines that are ready at this moment."""

    def __init__(self, prover: OffloadProver, served: Callable[[], Iterable[ServedEngine]]) -> None:
        self._prover = prover
        self._served = served
        self._watching: asyncio.Task[None] | None = None

    def verdict(self, model_id: str) -> Offload | None:
        """The last one on a loaded model."""
        return self._prover.verdict(model_id)

    def verdicts(self) -> tuple[Offload, ...]:
        """Those of all loaded models."""
        return self._prover.verdicts()

    async def check_all(self) -> None:
        """Judge every model that is served now, one after the other. Takes seconds for each; users are not
        disturbed."""
        for one in list(self._served()):
            await self._prover.check(one.model_id, one.engine, one.info, one.busy)

    def start(self) -> None:
        """Begin to check by itself."""
        self._watching = asyncio.create_task(watch_offload(self.check_all), name="offload watch")

    async def aclose(self) -> None:
        """End that."""
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.wait({self._watching})
            self._watching = None
