"""Bodies of ``/api/admin/sticks``, ``/api/admin/about`` and ``/api/admin/serving``. Unknown is null."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

SERVING_HISTORY_S = 3600


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True)


class StickItem(_Value):
    """Something that an import can take: a job of the kind ``bundle_import`` for a bundle, else ``import``, with this
    ``path``. Of a bundle ``name`` is its manifest's, which nobody has checked yet; one that lies on several ``sticks``
    has the same ``bundle_id`` on each. A ``problem`` says why it cannot be taken."""

    path: str
    kind: Literal["bundle", "gguf", "safetensors"]
    name: str
    size_bytes: int | None = None
    quantization: str | None = None
    signed: bool | None = None
    bundle_id: str | None = None
    sticks: int = 1
    problem: str | None = None


class Stick(_Value):
    """A folder that imports may read from. ``truncated``: there is more than was looked at."""

    folder: str
    free_bytes: int | None = None
    total_bytes: int | None = None
    items: tuple[StickItem, ...] = ()
    problem: str | None = None
    truncated: bool = False


class StickList(_Value):
    """All folders that imports may read from now."""

    sticks: tuple[Stick, ...] = ()


class Component(_Value):
    """A part that the box is built from. ``licence`` is as its own metadata names it."""

    name: str
    version: str
    licence: str | None = None
    summary: str | None = None


class About(_Value):
    """What runs here. ``started_at`` is the daemon's; ``engines`` are those that run models; ``models`` have the
    licences of what is installed."""

    name: Literal["R1 Box"] = "R1 Box"
    version: str
    licence: str | None = None
    started_at: datetime
    python: str
    platform: str
    hostname: str
    engines: tuple[Component, ...] = ()
    components: tuple[Component, ...] = ()
    models: tuple[Component, ...] = ()


class ServingQuery(BaseModel):
    """Parameters of ``GET /api/admin/serving/history``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    seconds: int = Field(default=SERVING_HISTORY_S, ge=1, le=SERVING_HISTORY_S)
    points: int = Field(default=120, ge=1, le=720)


class ServingHistory(_Value):
    """An hour at most, over all models: bucket ``n`` begins ``n * step_s`` after ``start``, the last one is still
    filling; null where nothing was read. ``now_tokens_per_s`` is of the last quarter of a minute."""

    start: datetime
    step_s: float
    now_tokens_per_s: float | None = None
    tokens_per_s: tuple[float | None, ...]
    running: tuple[float | None, ...]
    waiting: tuple[float | None, ...]


class LiveRequest(_Value):
    """A request that waits or is answered now. ``position`` (1 is next) and ``wait_s`` while it waits. Thinking tokens
    are among ``generated_tokens``; ``tokens_per_s`` is the mean since the first one."""

    id: str
    model: str
    name: str
    subject: str | None = None
    state: Literal["queued", "thinking", "answering"]
    batch: bool = False
    age_s: float
    position: int | None = None
    wait_s: float | None = None
    prompt_tokens: int
    most_tokens: int
    generated_tokens: int = 0
    thinking_tokens: int = 0
    tokens_per_s: float | None = None


class LiveRequests(_Value):
    """Those that are answered, the oldest first, then the queue in its order. ``running`` and ``waiting`` count all,
    also beyond the list's limit."""

    requests: tuple[LiveRequest, ...] = ()
    running: int = 0
    waiting: int = 0
