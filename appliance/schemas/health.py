"""Bodies of ``/healthz`` and ``/readyz``."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

from appliance.schemas.offload import OffloadWord


class Alive(BaseModel):
    """The process answers. Says nothing about a model."""

    model_config = ConfigDict(frozen=True)

    status: Literal["ok"] = "ok"


class Readiness(BaseModel):
    """Whether chats are answered now. ``state`` is the engine's (stopped, starting, ready, draining, stopping, failed);
    ``load_fraction`` is 0..1 while a model loads, else null. ``offload`` is the verdict on where the model runs:
    VERIFIED, DEGRADED, CPU or UNKNOWN; null before there is one."""

    model_config = ConfigDict(frozen=True)

    ready: bool
    state: str
    model: str | None = None
    load_fraction: float | None = None
    restarts: int = 0
    seats: int | None = None
    context_tokens: int | None = None
    error: str | None = None
    offload: OffloadWord | None = None
