"""Which models are loaded: the one writer of that. Each loaded model has an ``EngineManager`` of its own.

One change at a time: a load that needs room plans which others leave (``appliance.engine.swap``), lets their answers
end, ends their workers, waits until the cards' drivers count the memory as free, and only then loads. The state of one
model is its manager's; ``installed`` when it has none.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from datetime import UTC, datetime

import structlog

from appliance.engine.base import Engine, EngineInfo, EngineState, EngineStatus
from appliance.engine.swap import Resident, beside, has_returned, make_room, without
from appliance.errors import ModelNotReady, describe
from appliance.health.offload.service import ServedEngine
from appliance.model_parts import HostParts, LoadedModel, LoadFailure, anonymous_bytes, came_at, entry_of
from appliance.model_setup import ModelSetup
from appliance.schemas.models import ModelEntries, ModelEntry
from appliance.serving.types import ServedModel
from appliance.settings import Settings
from drivers.types import HardwareSnapshot
from models.types import InstalledModel

_log = structlog.get_logger(__name__)

RETURN_TIMEOUT_S = 30.0
"""How long a driver may take to count an ended worker's memory as free; then the next load is planned with what is."""
_POLL_S = 0.1
_IDLE_TICK_S = 5.0
SWAP_DRAIN_S = 600.0
"""How long a load for one user waits for the answers that others are getting from the model that has to leave."""
FAILURE_HOLDS_S = 30.0
"""A model that could not be loaded is not tried again for requests at once: each try may take minutes and memory."""


class ModelHost:
    """Loads, unloads and swaps models; tells chat, API and metrics which are there. For one event loop."""

    def __init__(self, parts: HostParts) -> None:
        self._parts = parts
        self._default_id: str | None = None
        self._pins: set[str] = set()
        self._loaded: dict[str, LoadedModel] = {}
        self._served: dict[str, ServedModel] = {}
        self._failures: dict[str, LoadFailure] = {}
        self._loads: dict[str, asyncio.Task[EngineInfo]] = {}
        self._waiting: dict[str, int] = {}
        self._booting: str | None = None
        self._changing = asyncio.Lock()
        self._listeners: list[Callable[[EngineStatus], None]] = []
        self._idle_watch: asyncio.Task[None] | None = None

    # -- reading ----------------------------------------------------------------------------------------------------

    @property
    def served(self) -> Mapping[str, ServedModel]:
        """What chat knows of each loaded model, by id; changes with every load."""
        return self._served

    @property
    def default_id(self) -> str | None:
        """The model that ``/readyz`` speaks of."""
        return self._default_id

    def status(self, model_id: str | None = None) -> EngineStatus:
        """The state of one model; without an id that of the default, or of the only one that is loaded."""
        wanted = model_id or self._default_id or next(iter(self._loaded), None)
        if wanted is None:
            return EngineStatus(state=EngineState.STOPPED)
        if (loaded := self._loaded.get(wanted)) is not None:
            return loaded.manager.status()
        if wanted in self._loads:
            return EngineStatus(state=EngineState.STARTING, model_id=wanted, load_fraction=0.0)
        if (failure := self._failures.get(wanted)) is not None:
            message = describe(failure.error).message
            return EngineStatus(state=EngineState.FAILED, model_id=wanted, error=message)
        return EngineStatus(state=EngineState.STOPPED)

    def ready(self, model_id: str | None = None) -> tuple[Engine, EngineInfo]:
        """The engine of a model that can take requests now. Raises ModelNotReady."""
        wanted = model_id or self._default_id or next(iter(self._loaded), None)
        if wanted is not None and (loaded := self._loaded.get(wanted)) is not None:
            return loaded.manager.ready()
        if wanted is None:
            raise ModelNotReady(reason="none is loaded.")
        status = self.status(wanted)
        if status.state is EngineState.STARTING:
            raise ModelNotReady(reason=f"'{wanted}' is being loaded.")
        raise ModelNotReady(reason=status.error or f"'{wanted}' is not loaded.")

    def engines(self) -> Iterable[ServedEngine]:
        """All engines that are ready."""
        for model_id, loaded in list(self._loaded.items()):
            with suppress(ModelNotReady):
                engine, info = loaded.manager.ready()
                yield ServedEngine(model_id, engine, info, self._is_busy(model_id))

    def statuses(self) -> Mapping[str, EngineStatus]:
        """The state of every model that is loaded, being loaded, or failed to load."""
        return {model_id: self.status(model_id) for model_id in {**self._loaded, **self._loads, **self._failures}}

    async def entries(self) -> ModelEntries:
        """All models of the store, for operators."""
        return ModelEntries(
            models=tuple(self._entry(model) for model in await self._in_store()),
            load_on_request=self._parts.settings.load_on_request,
        )

    async def installed(self) -> Mapping[str, int]:
        """Ids of the models that a request may name, with when they came (seconds since 1970): those that are loaded,
        and where requests may load them all that an engine here can run. The default comes first."""
        if self._parts.settings.load_on_request == "off":
            found = {model.id: model.created_at for model in self._served.values()}
        else:
            found = {model.id: came_at(model) for model in await self._in_store() if self._parts.serves(model)}
        return dict(sorted(found.items(), key=lambda item: (item[0] != self._default_id, item[0])))

    async def _in_store(self) -> Sequence[InstalledModel]:
        """The store's models. The first one that comes to a running box is its default from then on."""
        default = self._default_id or await asyncio.to_thread(self._parts.store.default_id)
        self._default_id = self._default_id or default
        return (await asyncio.to_thread(self._parts.store.list)).models

    def on_device(self, key: str) -> str | None:
        """The loaded model that lies on a device."""
        return next((model_id for model_id, one in self._loaded.items() if key in one.setup.plan.devices), None)

    def on_change(self, listener: Callable[[EngineStatus], None]) -> None:
        """Call ``listener`` with every new status of every model."""
        self._listeners.append(listener)

    # -- requests of clients ----------------------------------------------------------------------------------------

    async def must_load(self, model_id: str) -> bool:
        """Whether a request for this model would wait for a load."""
        return self._may_load(model_id) and await asyncio.to_thread(self._is_installed, model_id)

    def _may_load(self, model_id: str) -> bool:
        if self._parts.settings.load_on_request == "off" or model_id == self._booting:
            return False
        return model_id in self._loads or model_id not in self._served

    def progress(self, model_id: str) -> float | None:
        """How much of a load under way is done, 0..1; ``None`` without one."""
        return self.status(model_id).load_fraction if model_id in self._loads else None

    async def bring_up(self, model_id: str) -> None:
        """Return when the model can be asked; loads it if the policy lets requests do that. A model that the store does
        not have is left to the caller.

        Raises ModelNotReady (also when as many wait for its load as may wait for a seat), TooLarge and what else keeps
        it from being loaded.
        """
        if (loaded := self._loaded.get(model_id)) is not None:
            loaded.used_s, loaded.used_at = self._parts.now_s(), datetime.now(UTC)
        if model_id in self._served or not await asyncio.to_thread(self._is_installed, model_id):
            return
        if not self._may_load(model_id):
            self.ready(model_id)
            return
        failure = self._failures.get(model_id)
        if failure is not None and self._parts.now_s() - failure.at_s < FAILURE_HOLDS_S and model_id not in self._loads:
            raise failure.error
        waiting = self._waiting.get(model_id, 0)
        if waiting > self._parts.settings.max_waiting:
            reason = f"'{model_id}' is being loaded, and {waiting} requests wait for that already."
            raise ModelNotReady(reason=reason)
        self._waiting[model_id] = waiting + 1
        try:
            await self.load(model_id, swap=self._parts.settings.load_on_request == "swap")
        finally:
            self._waiting[model_id] -= 1

    # -- requests of operators --------------------------------------------------------------------------------------

    async def boot(self, model_id: str) -> EngineInfo:
        """Load the model that the box starts with. Requests for it are told 503 meanwhile, not kept waiting: behind a
        load balancer another box answers them. Raises what ``load`` raises."""
        self._default_id = self._booting = model_id
        try:
            return await self.load(model_id, swap=False)
        finally:
            self._booting = None

    async def load(self, model_id: str, *, swap: bool = True, pin: bool = False) -> EngineInfo:
        """Load a model, or wait for the load that is under way. Who stops waiting does not end the load.

        Raises ModelNotFound, TooLarge and others of ``models.errors``, EngineStartFailed, OffloadRefused.
        """
        if pin:
            self._pins.add(model_id)
        task = self._loads.get(model_id)
        if task is None:
            task = self._loads[model_id] = asyncio.create_task(self._load(model_id, swap), name=f"load {model_id}")
            task.add_done_callback(lambda done: self._load_ended(model_id, done))
        return await asyncio.shield(task)

    async def unload(self, model_id: str, *, drain_timeout_s: float) -> None:
        """Let its answers end, then end the model. Idempotent. A load of it that is under way is ended too."""
        if (task := self._loads.get(model_id)) is not None:
            task.cancel()
            await asyncio.wait({task})
        async with self._changing:
            self._pins.discard(model_id)
            self._failures.pop(model_id, None)
            await self._end(model_id, drain_timeout_s=drain_timeout_s)

    async def activate(self, model_id: str) -> EngineInfo:
        """Make a model the default and load it; the default before it may leave for it. Raises what ``load`` raises;
        then the default is as it was."""
        installed = await asyncio.to_thread(self._parts.store.get, model_id)
        before, self._default_id = self._default_id, installed.id
        try:
            info = await self.load(installed.id)
            await asyncio.to_thread(self._parts.store.set_default, installed.id)
        except BaseException:
            self._default_id = before
            raise
        return info

    async def emptied(self, snapshot: HardwareSnapshot) -> HardwareSnapshot:
        """The machine as it would be without any model loaded."""
        return without(snapshot, await asyncio.to_thread(self._residents))

    def start(self) -> None:
        """Begin to unload models that nobody asks for, where that is set."""
        if self._parts.settings.idle_unload_s is not None:
            self._idle_watch = asyncio.create_task(self._unload_idle(), name="idle models")

    def retune(self, settings: Settings) -> None:
        """Other settings, for what is loaded or asked for from now on."""
        self._parts = replace(self._parts, settings=settings)
        if self._idle_watch is None or self._idle_watch.done():
            self.start()

    async def aclose(self) -> None:
        """End all loads and models."""
        if self._idle_watch is not None:
            self._idle_watch.cancel()
            await asyncio.wait({self._idle_watch})
        for task in list(self._loads.values()):
            task.cancel()
        if self._loads:
            await asyncio.wait(set(self._loads.values()))
        async with self._changing:
            await asyncio.gather(*(self._end(model_id, drain_timeout_s=0) for model_id in list(self._loaded)))

    # -- the writer -------------------------------------------------------------------------------------------------

    async def _load(self, model_id: str, swap: bool) -> EngineInfo:
        parts = self._parts
        async with self._changing:
            if (there := self._loaded.get(model_id)) is not None:
                return there.manager.ready()[1]
            self._failures.pop(model_id, None)
            installed = await asyncio.to_thread(parts.store.get, model_id)
            with ExitStack() as held:
                # While it is served nobody can remove it, from the command line neither.
                await asyncio.to_thread(held.enter_context, parts.store.hold(installed.id))
                setup, snapshot = await self._room_for(installed, swap=swap)
                for note in setup.plan.notes:
                    _log.warning("placement", model=model_id, note=note)
                manager = parts.manager()
                for listener in self._listeners:
                    manager.on_change(listener)
                now = LoadedModel(setup, manager, held.pop_all(), parts.now_s(), datetime.now(UTC))
            self._loaded[model_id] = now
            parts.on_loading(setup)
            unified = frozenset(device.key for device in snapshot.devices if device.unified_memory)
            parts.prover.expect(model_id, setup.plan, has_cards=bool(snapshot.devices), unified=unified)
            parts.admissions.of(model_id).resize(setup.plan.seats)

            async def accept(engine: Engine, info: EngineInfo) -> None:
                await parts.prover.accept(model_id, engine, info)

            try:
                info = await manager.load(model_id, parts.factory(setup), accept)
            except BaseException:
                await asyncio.shield(self._end(model_id, drain_timeout_s=0))
                raise
            self._served[model_id] = setup.served
        if parts.on_loaded is not None:
            await parts.on_loaded(setup, info, snapshot)
        return info

    def _load_ended(self, model_id: str, task: asyncio.Task[EngineInfo]) -> None:
        self._loads.pop(model_id, None)
        if task.cancelled():
            return
        error = task.exception()
        if isinstance(error, Exception):
            self._failures[model_id] = LoadFailure(error, self._parts.now_s())
            described = describe(error)
            _log.error("load_failed", model=model_id, code=described.code, reason=described.message)

    async def _room_for(self, installed: InstalledModel, *, swap: bool) -> tuple[ModelSetup, HardwareSnapshot]:
        """How the model runs beside the others, after those that must have left, and the machine as it then was."""
        parts = self._parts

        def plan(snapshot: HardwareSnapshot) -> ModelSetup:
            return parts.plan(installed, snapshot, self._settings_for(installed.id))

        snapshot = await parts.detect()
        residents = await asyncio.to_thread(self._residents)
        setup, leaving = await asyncio.to_thread(lambda: make_room(plan, snapshot, residents, swap=swap))
        if not leaving:
            return setup, snapshot
        for other in leaving:
            _log.info("swap", leaves=other, comes=installed.id)
            old = self._loaded[other].setup.plan
            before = await parts.detect()
            await self._end(other, drain_timeout_s=SWAP_DRAIN_S)
            left_s = RETURN_TIMEOUT_S
            snapshot = await parts.detect()
            while not has_returned(before, snapshot, old) and left_s > 0:
                await parts.sleep(_POLL_S)
                left_s -= _POLL_S
                snapshot = await parts.detect()
            if left_s <= 0:
                _log.warning("memory_not_returned", model=other, waited_s=RETURN_TIMEOUT_S)
        residents = await asyncio.to_thread(self._residents)
        return await asyncio.to_thread(plan, beside(snapshot, residents)), snapshot

    async def _end(self, model_id: str, *, drain_timeout_s: float) -> None:
        """End one model; who waits in its queue is answered first, as long as the time lasts."""
        loaded = self._loaded.get(model_id)
        if loaded is None:
            return
        self._served.pop(model_id, None)
        left_s = drain_timeout_s
        while left_s > 0 and not self._parts.admissions.is_idle(model_id):
            await self._parts.sleep(_POLL_S)
            left_s -= _POLL_S
        await loaded.manager.unload(
            drain_timeout_s=min(drain_timeout_s, 1.0), stop_timeout_s=self._parts.stop_timeout_s
        )
        self._loaded.pop(model_id, None)
        self._parts.prover.forget(model_id)
        self._parts.admissions.drop(model_id)
        await asyncio.to_thread(loaded.held.close)

    async def _unload_idle(self) -> None:
        while (idle_s := self._parts.settings.idle_unload_s) is not None:
            await self._parts.sleep(min(_IDLE_TICK_S, idle_s))
            for model_id, loaded in list(self._loaded.items()):
                now_s = self._parts.now_s()
                if not self._parts.admissions.is_idle(model_id):
                    loaded.used_s = now_s
                elif not self._is_pinned(model_id) and now_s - loaded.used_s >= idle_s and model_id not in self._loads:
                    _log.info("idle_unload", model=model_id, idle_s=round(now_s - loaded.used_s))
                    await self.unload(model_id, drain_timeout_s=1.0)

    # -- small parts ------------------------------------------------------------------------------------------------

    def _residents(self) -> list[Resident]:
        """The loaded models as the planner sees them. Blocks."""
        return [
            Resident(
                model_id,
                loaded.setup.plan,
                anonymous_bytes(loaded.manager),
                pinned=self._is_pinned(model_id),
                busy=not self._parts.admissions.is_idle(model_id),
                used_s=loaded.used_s,
            )
            for model_id, loaded in self._loaded.items()
        ]

    def _settings_for(self, model_id: str) -> Settings:
        """Seats and context of the settings are the default model's; another one takes what fits it."""
        if model_id == self._default_id:
            return self._parts.settings
        return self._parts.settings.model_copy(update={"seats": None, "context_tokens": None})

    def _is_busy(self, model_id: str) -> Callable[[], bool]:
        return lambda: not self._parts.admissions.is_idle(model_id)

    def _is_pinned(self, model_id: str) -> bool:
        return model_id == self._default_id or model_id in self._pins

    def _is_installed(self, model_id: str) -> bool:
        return any(model.id == model_id for model in self._parts.store.list().models)

    def _entry(self, model: InstalledModel) -> ModelEntry:
        queue = self._parts.admissions.all().get(model.id)
        return entry_of(
            model,
            self.status(model.id),
            self._loaded.get(model.id),
            self._parts.prover.verdict(model.id),
            None if queue is None else queue.stats(),
            is_default=model.id == self._default_id,
            is_pinned=self._is_pinned(model.id),
        )
