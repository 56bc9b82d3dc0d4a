"""Bodies of ``/api/admin/models``: what is installed, what is loaded, and how it does."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from appliance.schemas.offload import OffloadWord

ModelStateWord = Literal["installed", "starting", "ready", "draining", "stopping", "failed"]


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True)


class ModelEntry(_Value):
    """One model of the store. ``state`` is ``installed`` when it is not loaded. ``default`` is served when a client
    names none, and is loaded at the start; ``pinned`` models never leave to make room. Of a loaded one: ``seats`` of
    ``context_tokens`` each on ``devices`` (none: the processor), ``planned_bytes`` in all; ``running`` and ``waiting``
    requests; ``used_at`` is when it was last asked for. ``error`` says why it is not served. ``engine`` runs it,
    in the version ``engine_build``, for the reason ``why_engine``.

    ``imported_at``, ``format``, ``architecture``, ``parameters`` (their number), ``trained_context_tokens`` and
    ``sha256`` are its file's; ``thinks`` is true when it is known to be an R1."""

    id: str
    name: str
    quantization: str
    size_bytes: int
    state: ModelStateWord = "installed"
    default: bool = False
    pinned: bool = False
    load_fraction: float | None = None
    error: str | None = None
    restarts: int = 0
    seats: int | None = None
    context_tokens: int | None = None
    devices: tuple[str, ...] = ()
    planned_bytes: int | None = None
    offload: OffloadWord | None = None
    running: int = 0
    waiting: int = 0
    used_at: datetime | None = None
    imported_at: datetime | None = None
    format: str | None = None
    architecture: str | None = None
    parameters: int | None = None
    trained_context_tokens: int | None = None
    sha256: str | None = None
    thinks: bool | None = None
    engine: str | None = None
    engine_build: str | None = None
    why_engine: str | None = None


class ModelEntries(_Value):
    """All models by id. ``load_on_request`` is the policy in force."""

    models: tuple[ModelEntry, ...] = ()
    load_on_request: Literal["off", "fit", "swap"] = "swap"


class LoadRequest(_Value):
    """How to load a model. ``swap`` lets others that are not pinned leave to make room; ``pin`` keeps this one from
    leaving for others until the daemon ends."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    swap: bool = True
    pin: bool = False


class UnloadRequest(_Value):
    """How long answers that are being written may go on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    drain_timeout_s: float = Field(default=60.0, ge=0, le=3600)
