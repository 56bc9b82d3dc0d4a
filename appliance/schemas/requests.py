"""What is said about a request that is running."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict


class RunningRequest(BaseModel):
    """``state`` is what the request was at when it was asked for its answer: an ``answering`` one was left alone."""

    model_config = ConfigDict(frozen=True)

    id: str
    object: Literal["r1box.request"] = "r1box.request"
    state: Literal["queued", "thinking", "answering"]
