"""Bodies of ``/api/admin/logs``."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

LevelWord = Literal["debug", "info", "warning", "error", "critical"]


class LogSelection(BaseModel):
    """Which lines are wanted. ``level`` is the least one; ``part`` a part of the box (``api``, ``serving``, ``jobs``)
    or the beginning of a logger's name; ``text`` may stand anywhere in the line, in capitals or not."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    level: LevelWord = "debug"
    part: str | None = Field(default=None, max_length=128)
    text: str | None = Field(default=None, max_length=256)
    request_id: str | None = Field(default=None, max_length=64)
    since: AwareDatetime | None = None
    until: AwareDatetime | None = None


class LogQuery(LogSelection):
    """The newest ``limit`` lines, in the order in which they came; ``before`` is the ``next`` of a page."""

    before: int | None = Field(default=None, ge=1, le=2**53)
    limit: int = Field(default=200, ge=1, le=2_000)


class LogFollow(LogSelection):
    """Begins with the ``tail`` newest lines, or with all after number ``after``."""

    tail: int = Field(default=0, ge=0, le=2_000)
    after: int | None = Field(default=None, ge=0, le=2**53)


class LogItem(BaseModel):
    """One line. ``seq`` counts since the daemon started; ``event`` is its short name or text, ``fields`` what it says
    beside that, ``request_id`` that of the request it belongs to (the header ``X-Request-Id``)."""

    model_config = ConfigDict(frozen=True)

    seq: int
    at: datetime
    level: LevelWord
    part: str
    logger: str
    event: str
    request_id: str | None = None
    fields: dict[str, Any] = Field(default_factory=dict)


class LogList(BaseModel):
    """A page. ``newest``: the number of the last line, wanted or not; ``dropped``: lines that were too old to keep."""

    model_config = ConfigDict(frozen=True)

    items: tuple[LogItem, ...]
    next: int | None = None
    newest: int
    dropped: int
