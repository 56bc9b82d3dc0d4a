"""A model host over fakes: a store of names, a machine with memory that engines take and give back, fake engines."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from appliance.engine.base import Engine, EngineInfo, ProgressCallback
from appliance.engine.manager import Backoff, EngineFactory, EngineManager
from appliance.health.offload.prover import OffloadProver
from appliance.model_host import ModelHost
from appliance.model_parts import HostParts
from appliance.model_setup import ModelSetup
from appliance.schemas.telemetry import Telemetry
from appliance.serving.admission import Admission
from appliance.serving.admission_book import AdmissionBook
from appliance.settings import Settings
from drivers.types import Device, HardwareSnapshot, Host
from models.errors import ModelNotFound, TooLarge
from models.types import InstalledModel, StoreListing
from tests.appliance.engine.test_swap import GIB, plan
from tests.drivers.telemetry_parts import START_AT_S
from tests.fakes.engine import FAKE_INFO, FakeEngine


class Engines(FakeEngine):
    """Takes memory of the machine while it runs; ``gate`` holds its start."""

    def __init__(self, box: HostBox, model_id: str) -> None:
        super().__init__(["word "] * 30, info=replace(FAKE_INFO, context_tokens=2048))
        self._box = box
        self._model_id = model_id

    async def start(self, timeout_s: float, on_progress: ProgressCallback | None = None) -> EngineInfo:
        box = self._box
        if (error := box.start_errors.pop(self._model_id, None)) is not None:
            raise error
        needs = box.sizes[self._model_id]
        assert box.used + needs <= box.total, "loaded before the memory was there"
        box.used += needs
        if on_progress is not None:
            on_progress(0.5)
        try:
            await box.gate.wait()
        except BaseException:
            box.used -= needs
            raise
        return await super().start(timeout_s, None)

    async def stop(self, timeout_s: float) -> None:
        if self.started and not self.stopped:
            self._box.owed += self._box.sizes[self._model_id]
        await super().stop(timeout_s)

    async def die(self, cause: str = "killed by signal 9") -> None:
        await super().die(cause)


class HostBox:
    """``sizes`` are GiB by model id; the card has ``total`` of them. An ended engine's memory is counted as free only
    after ``lag`` more looks at the card."""

    def __init__(self, *, total: int = 20, lag: int = 0, **settings: object) -> None:
        self.total = total
        self.used = 0
        self.owed = 0
        self.lag = lag
        self.looks = 0
        self.now_s = 0.0
        self.sizes: dict[str, int] = {}
        self.engines: dict[str, list[Engines]] = {}
        self.start_errors: dict[str, Exception] = {}
        self.held: set[str] = set()
        self.default: str | None = None
        self.gate = asyncio.Event()
        self.gate.set()
        self.admissions = AdmissionBook(lambda: Admission(seats=2, max_waiting=4))
        values = {"state_dir": Path("/nonexistent"), "models_dir": Path("/nonexistent"), "max_waiting": 2, **settings}
        self.prover = OffloadProver(_no_telemetry, allow_cpu_fallback=False, sleep=self.sleep)
        self.host = ModelHost(
            HostParts(
                store=self,  # type: ignore[arg-type]
                settings=Settings(**values),  # type: ignore[arg-type]
                detect=self.detect,
                plan=self.plan,
                factory=self.factory,
                manager=lambda: EngineManager(start_timeout_s=5, backoff=Backoff(first_s=0.01), sleep=self.sleep),
                prover=self.prover,
                admissions=self.admissions,
                now_s=lambda: self.now_s,
                sleep=self.sleep,
            )
        )

    def add(self, model_id: str, size: int) -> None:
        self.sizes[model_id] = size

    def engine(self, model_id: str) -> Engines:
        """The newest engine of a model."""
        return self.engines[model_id][-1]

    # -- what the host stands on --------------------------------------------------------------------------------------

    async def sleep(self, seconds: float) -> None:
        self.now_s += seconds
        await asyncio.sleep(0)

    async def detect(self) -> HardwareSnapshot:
        if self.owed:
            self.looks += 1
            if self.looks > self.lag:
                self.used -= self.owed
                self.owed = self.looks = 0
        free = (self.total - self.used) * GIB
        card = Device("nvidia", 0, "L4", memory_total_bytes=self.total * GIB, memory_free_bytes=free)
        return HardwareSnapshot(Host(memory_total_bytes=GIB, memory_available_bytes=GIB), (card,))

    def plan(self, model: InstalledModel, snapshot: HardwareSnapshot, settings: Settings) -> ModelSetup:
        needs, free = self.sizes[model.id] * GIB, snapshot.devices[0].memory_free_bytes or 0
        if needs > free:
            raise TooLarge(model.id, needs, free, "nvidia:0", 1, 2048)
        held = replace(plan(d0=self.sizes[model.id]), seats=2, context_tokens=2048)
        served: Any = SimpleNamespace(id=model.id, created_at=0)
        return ModelSetup(model, held, SimpleNamespace(model_id=model.id), served)  # type: ignore[arg-type]

    def factory(self, setup: ModelSetup) -> EngineFactory:
        def create() -> Engine:
            made = Engines(self, setup.installed.id)
            self.engines.setdefault(setup.installed.id, []).append(made)
            return made

        return create

    # -- the store ----------------------------------------------------------------------------------------------------

    def get(self, model_id: str) -> InstalledModel:
        if model_id not in self.sizes:
            raise ModelNotFound(model_id, [], empty=False)
        return _installed(model_id)

    def list(self) -> StoreListing:
        return StoreListing(tuple(_installed(model_id) for model_id in sorted(self.sizes)))

    @contextmanager
    def hold(self, model_id: str) -> Iterator[InstalledModel]:
        assert model_id not in self.held
        self.held.add(model_id)
        try:
            yield _installed(model_id)
        finally:
            self.held.remove(model_id)

    def default_id(self) -> str | None:
        return self.default

    def set_default(self, model_id: str) -> InstalledModel:
        self.default = model_id
        return _installed(model_id)

    # -- what is so ---------------------------------------------------------------------------------------------------

    def states(self) -> Mapping[str, str]:
        return {model_id: status.state.value for model_id, status in self.host.statuses().items()}


def _installed(model_id: str) -> InstalledModel:
    return InstalledModel(
        id=model_id, name=model_id, architecture="qwen2", quantization="Q8_0", size_bytes=1, sha256="0" * 64,
        path=Path("/nonexistent"), parameters=1, context_length_trained=2048, has_chat_template=True,
        imported_at="2026-01-01T00:00:00+00:00", source="x.gguf",
    )  # fmt: skip


def _no_telemetry() -> Telemetry:
    from datetime import UTC, datetime

    at = datetime.fromtimestamp(START_AT_S, UTC)
    return Telemetry(enabled=False, time=at, started_at=at)
