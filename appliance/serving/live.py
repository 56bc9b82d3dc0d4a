"""The requests that wait or are answered now, for operators: what they are at, and how to end one."""

from __future__ import annotations

import time
from collections.abc import Iterable
from weakref import WeakSet

from appliance.engine.request import Priority
from appliance.schemas.operators import LiveRequest, LiveRequests
from appliance.serving.errors import NoSuchRequest
from appliance.serving.stream import ChatStream
from appliance.serving.types import RequestState


class LiveStreams:
    """Knows every stream from its admission until it is gone; holds none of them."""

    def __init__(self) -> None:
        self._streams: WeakSet[ChatStream] = WeakSet()

    def add(self, stream: ChatStream) -> None:
        """A stream that has just entered."""
        self._streams.add(stream)

    def listed(self, limit: int) -> LiveRequests:
        """The first ``limit`` of them: those that run, the oldest first, then the queue."""
        now_s = time.monotonic()
        running, waiting = list[ChatStream](), list[ChatStream]()
        for stream in self._streams:
            state = stream.state
            if state is not None:
                (waiting if state is RequestState.QUEUED else running).append(stream)
        running.sort(key=lambda one: one.opened_s)
        waiting.sort(key=lambda one: (one.position, one.opened_s))
        shown: Iterable[ChatStream] = (*running, *waiting)[:limit]
        return LiveRequests(
            requests=tuple(_told(stream, now_s) for stream in shown), running=len(running), waiting=len(waiting)
        )

    async def cancel(self, request_id: str) -> None:
        """End one for its client, who is told that an operator did. Raises NoSuchRequest."""
        for stream in self._streams:
            if stream.request_id == request_id and stream.state is not None:
                await stream.cancel()
                return
        raise NoSuchRequest(request_id=request_id)


def _told(stream: ChatStream, now_s: float) -> LiveRequest:
    state = stream.state or RequestState.ANSWERING
    queued = state is RequestState.QUEUED
    first_s = stream.first_token_s
    writing_s = None if first_s is None else now_s - stream.opened_s - first_s
    generated = stream.generated_tokens
    return LiveRequest(
        id=stream.request_id,
        model=stream.model_id,
        name=stream.asked_by or stream.owner or "",
        subject=stream.owner,
        state=state.value,
        batch=stream.priority is Priority.BATCH,
        age_s=round(now_s - stream.opened_s, 3),
        position=stream.position if queued else None,
        wait_s=stream.wait_s if queued else None,
        prompt_tokens=stream.prompt_tokens,
        most_tokens=stream.max_tokens,
        generated_tokens=generated,
        thinking_tokens=stream.thinking_tokens,
        tokens_per_s=round((generated - 1) / writing_s, 2) if writing_s and generated > 1 else None,
    )
