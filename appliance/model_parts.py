"""What the model host keeps of each model, what it stands on, and how operators are told of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime

import psutil

from appliance.engine.base import EngineInfo, EngineState, EngineStatus
from appliance.engine.manager import EngineFactory, EngineManager
from appliance.errors import ModelNotReady
from appliance.health.offload.prover import OffloadProver
from appliance.model_setup import ModelSetup
from appliance.schemas.models import ModelEntry
from appliance.schemas.offload import Offload
from appliance.serving.admission import AdmissionStats
from appliance.serving.admission_book import AdmissionBook
from appliance.settings import Settings
from drivers.types import HardwareSnapshot
from models.model_store import ModelStore
from models.store_types import ModelFormat
from models.types import InstalledModel

Plan = Callable[[InstalledModel, HardwareSnapshot, Settings], ModelSetup]


@dataclass
class LoadedModel:
    """A model with its engine's keeper. ``held`` keeps its files from being removed. Written by ``ModelHost`` alone."""

    setup: ModelSetup
    manager: EngineManager
    held: ExitStack
    used_s: float
    used_at: datetime


@dataclass(frozen=True, slots=True)
class LoadFailure:
    """Why a load failed, and when."""

    error: Exception
    at_s: float


@dataclass(frozen=True, kw_only=True)
class HostParts:
    """What the host stands on. ``detect`` looks at the hardware anew; ``plan`` decides how a model runs and blocks;
    ``factory`` makes the engines of a set-up; ``manager`` makes the keeper of one model's engine; ``stop_timeout_s`` is
    what a worker may take to end by itself; ``serves`` says of which models there is an engine here."""

    store: ModelStore
    settings: Settings
    detect: Callable[[], Awaitable[HardwareSnapshot]]
    plan: Plan
    factory: Callable[[ModelSetup], EngineFactory]
    manager: Callable[[], EngineManager]
    prover: OffloadProver
    admissions: AdmissionBook
    stop_timeout_s: float = 5.0
    serves: Callable[[InstalledModel], bool] = field(default=lambda model: model.format is ModelFormat.GGUF)
    on_loading: Callable[[ModelSetup], None] = field(default=lambda setup: None)
    on_loaded: Callable[[ModelSetup, EngineInfo, HardwareSnapshot], Awaitable[None]] | None = None
    now_s: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep


def entry_of(
    model: InstalledModel,
    status: EngineStatus,
    loaded: LoadedModel | None,
    verdict: Offload | None,
    queue: AdmissionStats | None,
    *,
    is_default: bool,
    is_pinned: bool,
) -> ModelEntry:
    """One model of the store as operators see it."""
    entry = ModelEntry(
        id=model.id,
        name=model.name,
        quantization=model.quantization,
        size_bytes=model.size_bytes,
        state="installed" if status.state is EngineState.STOPPED else status.state.value,
        default=is_default,
        pinned=is_pinned,
        load_fraction=status.load_fraction,
        error=status.error,
        restarts=status.restarts,
        offload=None if verdict is None else verdict.state,
        imported_at=datetime.fromisoformat(model.imported_at),
        format=model.format.value,
        architecture=model.architecture,
        parameters=model.parameters,
        trained_context_tokens=model.context_length_trained,
        sha256=model.sha256,
        thinks=True if model.profile is not None else None,
    )
    if loaded is None:
        return entry
    plan = loaded.setup.plan
    return entry.model_copy(
        update={
            "seats": plan.seats,
            "context_tokens": plan.context_tokens,
            "devices": plan.devices,
            "planned_bytes": sum(line.total_bytes - line.reserve_bytes for line in plan.memory),
            "running": 0 if queue is None else queue.running,
            "waiting": 0 if queue is None else queue.waiting,
            "used_at": loaded.used_at,
            "engine": plan.engine.value,
            "engine_build": None if status.info is None else status.info.build,
            "why_engine": loaded.setup.why_engine or None,
        }
    )


def came_at(model: InstalledModel) -> int:
    """When a model came into the store, in seconds since 1970."""
    return int(datetime.fromisoformat(model.imported_at).timestamp())


def anonymous_bytes(manager: EngineManager) -> int | None:
    """Memory of a worker that is its own, not pages of a file; ``None`` when it is not running."""
    try:
        engine, _ = manager.ready()
        pid = engine.stats().pid
        if pid is None:
            return None
        process = psutil.Process(pid)
        # A server has its model in children of its own.
        memories = [one.memory_info() for one in (process, *process.children(recursive=True))]
    except (ModelNotReady, psutil.Error):
        return None
    return sum(int(memory.rss - memory.shared) for memory in memories)
