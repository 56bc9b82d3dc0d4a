"""The one writer of one model's engine state."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import structlog

from appliance.engine.base import Engine, EngineInfo, EngineState, EngineStatus
from appliance.errors import AppError, EngineStartFailed, ModelNotReady

_log = structlog.get_logger(__name__)

EngineFactory = Callable[[], Engine]
"""Makes a new engine for the same model; called again for every restart."""

EngineCheck = Callable[[Engine, EngineInfo], Awaitable[None]]
"""Looks at a started engine; an AppError that it raises refuses the engine."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """Pause before restart ``n`` in a row: ``first_s`` doubled each time, ``most_s`` at most.

    An engine that was ready for ``healthy_s`` starts the count again.
    """

    first_s: float = 0.25
    most_s: float = 30.0
    healthy_s: float = 60.0

    def pause_s(self, attempt: int) -> float:
        """Seconds before attempt 1, 2, 3..."""
        return float(min(self.most_s, self.first_s * 2 ** (attempt - 1)))


class EngineManager:
    """Starts the engine of one model, watches it, restarts it when it dies, ends it.

    STOPPED -> STARTING -> READY -> DRAINING -> STOPPING -> STOPPED;
    STARTING | READY -> FAILED -> STARTING (after a back-off)

    Only ``_set`` writes the state, and only tasks of this object call it.
    """

    def __init__(
        self,
        *,
        start_timeout_s: float,
        backoff: Backoff | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._start_timeout_s = start_timeout_s
        self._backoff = backoff or Backoff()
        self._sleep = sleep
        self._status = EngineStatus(state=EngineState.STOPPED)
        self._engine: Engine | None = None
        self._accept: EngineCheck | None = None
        self._watching: asyncio.Task[None] | None = None
        self._listeners: list[Callable[[EngineStatus], None]] = []

    # -- reading ----------------------------------------------------------------------------------------------------

    def status(self) -> EngineStatus:
        """The state now."""
        return self._status

    def ready(self) -> tuple[Engine, EngineInfo]:
        """The engine that can take requests now. Raises ModelNotReady."""
        status = self._status
        if status.state is EngineState.READY and self._engine is not None and status.info is not None:
            return self._engine, status.info
        raise ModelNotReady(reason=_why_not_ready(status, is_watched=self._watching is not None))

    def on_change(self, listener: Callable[[EngineStatus], None]) -> None:
        """Call ``listener`` with every new status."""
        self._listeners.append(listener)

    # -- requests to the writer -------------------------------------------------------------------------------------

    async def load(self, model_id: str, create: EngineFactory, accept: EngineCheck | None = None) -> EngineInfo:
        """Start an engine and keep it running. ``accept`` looks at each started engine before it takes requests.

        Raises EngineStartFailed when the first start fails, or what ``accept`` raises; then it is FAILED and nothing
        restarts it."""
        if self._watching is not None:
            raise RuntimeError("a model is loaded already")
        self._accept = accept
        info = await self._start(model_id, create, restarts=0)
        self._watching = asyncio.create_task(self._watch(model_id, create), name=f"watch engine of {model_id}")
        return info

    async def unload(self, *, drain_timeout_s: float, stop_timeout_s: float) -> None:
        """Let running requests end, then end the engine. Idempotent."""
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.wait({self._watching})
            self._watching = None
        if self._engine is not None:
            if self._status.state is EngineState.READY:
                self._set(EngineState.DRAINING)
                await self._engine.drain(drain_timeout_s)
            self._set(EngineState.STOPPING)
            await self._engine.stop(stop_timeout_s)
            self._engine = None
        self._set(EngineState.STOPPED, model_id=None, info=None)

    # -- the writer -------------------------------------------------------------------------------------------------

    async def _start(self, model_id: str, create: EngineFactory, *, restarts: int) -> EngineInfo:
        self._set(EngineState.STARTING, model_id=model_id, restarts=restarts, load_fraction=0.0)
        engine = create()

        def progress(fraction: float) -> None:
            self._set(EngineState.STARTING, load_fraction=fraction)

        try:
            info = await engine.start(self._start_timeout_s, progress)
            if self._accept is not None:
                await self._accept_or_stop(self._accept, engine, info)
        except AppError as error:
            self._set(EngineState.FAILED, error=error.message)
            raise
        self._engine = engine
        self._set(EngineState.READY, info=info)
        return info

    @staticmethod
    async def _accept_or_stop(accept: EngineCheck, engine: Engine, info: EngineInfo) -> None:
        try:
            await accept(engine, info)
        except BaseException:
            await engine.stop(timeout_s=5)
            raise

    async def _watch(self, model_id: str, create: EngineFactory) -> None:
        """Restart the engine whenever it ends by itself, until cancelled."""
        clock = asyncio.get_running_loop().time
        attempt, restarts = 0, 0
        while True:
            ready_since = clock()
            assert self._engine is not None
            cause = await self._engine.wait_lost()
            self._set(EngineState.FAILED, error=f"the engine ended by itself: {cause}")
            _log.error("engine lost", model=model_id, cause=cause)
            await self._engine.stop(timeout_s=5)
            self._engine = None
            if clock() - ready_since >= self._backoff.healthy_s:
                attempt = 0
            while self._engine is None:
                attempt += 1
                restarts += 1
                await self._sleep(self._backoff.pause_s(attempt))
                try:
                    await self._start(model_id, create, restarts=restarts)
                except EngineStartFailed as error:
                    _log.error("engine restart failed", model=model_id, cause=error.message, log=error.log_tail[-5:])

    def _set(self, state: EngineState, **changes: object) -> None:
        status = self._status
        fields: dict[str, object] = {
            "model_id": status.model_id,
            "restarts": status.restarts,
            "info": status.info if state in _STATES_WITH_ENGINE else None,
            **changes,
        }
        self._status = EngineStatus(state=state, **fields)  # type: ignore[arg-type]
        for listener in self._listeners:
            listener(self._status)


_STATES_WITH_ENGINE = (EngineState.READY, EngineState.DRAINING, EngineState.STOPPING)


def _why_not_ready(status: EngineStatus, *, is_watched: bool) -> str:
    match status.state:
        case EngineState.STARTING:
            percent = round((status.load_fraction or 0.0) * 100)
            return f"'{status.model_id}' is being loaded ({percent} %)."
        case EngineState.FAILED:
            return f"{status.error}. It is being started again." if is_watched else str(status.error)
        case EngineState.DRAINING | EngineState.STOPPING:
            return f"'{status.model_id}' is being unloaded."
        case _:
            return "none is loaded."
