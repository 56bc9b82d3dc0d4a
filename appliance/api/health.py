"""``/healthz``: the process answers. ``/readyz``: chats are answered too. Both without a key, for load balancers."""

from __future__ import annotations

from typing import Protocol

from fastapi import APIRouter
from starlette.responses import Response

from appliance.engine.base import EngineState, EngineStatus
from appliance.schemas.health import Alive, Readiness


class StatusSource(Protocol):
    """The part of ``EngineManager`` that is needed here."""

    def status(self) -> EngineStatus: ...


def health_router(manager: StatusSource) -> APIRouter:
    """The two routes."""
    router = APIRouter(tags=["health"])

    @router.head("/healthz", include_in_schema=False)
    @router.get("/healthz", response_model=Alive)
    async def healthz() -> Response:
        return _json(Alive().model_dump_json(), 200)

    @router.head("/readyz", include_in_schema=False)
    @router.get("/readyz", response_model=Readiness, responses={503: {"model": Readiness}})
    async def readyz() -> Response:
        readiness = _readiness(manager.status())
        return _json(readiness.model_dump_json(), 200 if readiness.ready else 503)

    return router


def _readiness(status: EngineStatus) -> Readiness:
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
    )


def _json(body: str, status: int) -> Response:
    return Response(body, status_code=status, media_type="application/json", headers={"Cache-Control": "no-store"})
