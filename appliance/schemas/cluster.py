"""Body of ``/api/admin/cluster``: the boxes that work as one, and the model they serve together."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict

ClusterRole = Literal["none", "leader", "member"]
BoxStateWord = Literal["here", "away", "unknown"]
RunWord = Literal["off", "gathering", "forming", "running", "ended"]


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True)


class ClusterBox(_Value):
    """A box of the cluster. ``here``: heard within the last seconds; ``away``: not any more; ``unknown``: not since
    this daemon started. ``rank`` is its part in the run, ``part`` what it says of it (idle, up, failed); ``model``
    whether it has the cluster's model (there, missing, differs, none_wanted). What is not known is null."""

    name: str
    role: Literal["leader", "member"]
    state: BoxStateWord
    is_this: bool = False
    address: str | None = None
    joined_at: datetime | None = None
    silent_s: float | None = None
    devices: tuple[str, ...] | None = None
    rank: int | None = None
    part: str | None = None
    model: str | None = None
    version: str | None = None


class ClusterStatus(_Value):
    """``role`` none: this box is on its own. ``model`` is what all boxes serve together, ``run`` how far that is and
    ``cause`` why it is not running; ``plan`` says in one line how it is divided. ``invitations`` that nobody used yet;
    ``problem``: why this box takes no part in its cluster now."""

    role: ClusterRole = "none"
    id: str | None = None
    name: str | None = None
    leader: str | None = None
    address: str | None = None
    port: int | None = None
    boxes: tuple[ClusterBox, ...] = ()
    model: str | None = None
    plan: str | None = None
    run: RunWord = "off"
    cause: str | None = None
    invitations: int = 0
    problem: str | None = None
