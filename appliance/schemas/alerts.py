"""Bodies of ``/api/admin/alerts``."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, ConfigDict

from appliance.schemas.issues import SeverityWord


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True)


class AlertTarget(_Value):
    """A receiver. ``target`` is its address without path and parameters; ``failures`` in a row now; ``given_up`` events
    that could not be delivered, ``dropped`` those that a full queue lost."""

    target: str
    waiting: int
    delivered: int
    given_up: int
    dropped: int
    failures: int
    last_delivered_at: datetime | None = None
    last_error: str | None = None


class AlertState(_Value):
    """Where alerts go. ``severity`` is the least one that is told; ``signed``: they have a signature."""

    targets: tuple[AlertTarget, ...] = ()
    severity: SeverityWord
    signed: bool


class AlertResult(_Value):
    """How one receiver took a test."""

    target: str
    delivered: bool
    status: int | None = None
    problem: str | None = None


class AlertTest(_Value):
    """How all of them did."""

    results: tuple[AlertResult, ...]
