"""``/healthz``: the process answers. ``/readyz``: chats are answered too. Both without a key, for load balancers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from starlette.responses import Response

from appliance.api.routes import Routes
from appliance.engine.base import EngineState, EngineStatus
from appliance.schemas.health import Alive, Readiness
from appliance.schemas.offload import Offload


class StatusSource(Protocol):
    """The part of ``ModelHost`` that is needed here."""

    def status(self, model_id: str | None = None) -> EngineStatus: ...


def health_router(manager: StatusSource, offload: Callable[[str], Offload | None]) -> Routes:
    """The two routes. ``offload`` gives the last verdict on a model."""
    router = Routes(tags=["health"])

    @router.head("/healthz", include_in_schema=False)
    @router.get("/healthz", response_model=Alive)
    async def healthz() -> Response:
        return _json(Alive().model_dump_json(), 200)

    @router.head("/readyz", include_in_schema=False)
    @router.get("/readyz", response_model=Readiness, responses={503: {"model": Readiness}})
    async def readyz() -> Response:
        status = manager.status()
        readiness = _readiness(status, None if status.model_id is None else offload(status.model_id))
        return _json(readiness.model_dump_json(), 200 if readiness.ready else 503)

    return router


def _readiness(status: EngineStatus, verdict: Offload | None) -> Readiness:
    info = status.info
    return Readiness(
        ready=status.state is EngineState.READY,
        state=status.state.value,
        model=status.model_id,
        load_fraction=status.load_fraction,
        restarts=status.restarts,
        seats=None if info is None else info.seats,
        context_tokens=None if info is None else info.context_tokens,
        error=status.error,
        offload=None if verdict is None else verdict.state,
    )


def _json(body: str, status: int) -> Response:
    return Response(body, status_code=status, media_type="application/json", headers={"Cache-Control": "no-store"})
