"""Streams whose model must be loaded first: comments tell how far that is, then the answer comes.

The status is sent before the model is there, so what is refused after the load becomes an event, and what would have
been in headers is said in comments.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import Generic, Protocol, TypeVar

from appliance.api.sse import comment
from appliance.serving.chat import ChatService

POLL_S = 0.5
"""How often a client is told of the progress, where there is some."""


class Closable(Protocol):
    """What is opened: a stream of answers."""

    async def aclose(self) -> None: ...


Opened = TypeVar("Opened", bound=Closable)


class LateStream(Generic[Opened]):
    """One request. Give ``aclose`` to ``EventStreamResponse`` as its ``close``."""

    def __init__(
        self,
        chat: ChatService,
        model_id: str,
        open_it: Callable[[], Awaitable[Opened]],
        *,
        tell: Callable[[str], bytes] = comment,
    ) -> None:
        """``open_it`` waits for the load; ``tell`` is how the protocol says what is no part of the answer."""
        self._tell = tell
        self._chat = chat
        self._model_id = model_id
        self._open_it = open_it
        self._opening: asyncio.Task[Opened] | None = None

    async def events(
        self,
        answer: Callable[[Opened], AsyncGenerator[bytes, None]],
        *,
        headers: Callable[[Opened], Mapping[str, str]],
        failed: Callable[[Exception], bytes],
    ) -> AsyncGenerator[bytes, None]:
        """Comments, then the events of ``answer``. ``headers`` are told in comments; ``failed`` is the event for a
        refusal."""
        opening = self._opening = asyncio.create_task(self._open(), name=f"open a chat with {self._model_id}")
        told: int | None = None
        while not opening.done():
            percent = round(self._chat.load_progress(self._model_id) * 100)
            if percent != told:
                told = percent
                yield self._tell(f"loading model={self._model_id} percent={percent}")
            await asyncio.wait({opening}, timeout=POLL_S)
        try:
            opened = opening.result()
        except Exception as error:  # noqa: BLE001 - the loop top of a stream: its status line is sent already
            yield failed(error)
            return
        for name, value in headers(opened).items():
            yield self._tell(f"{name}: {value}")
        async with aclosing(answer(opened)) as rest:
            async for event in rest:
                yield event

    async def aclose(self) -> None:
        """End the wait, or the answer. The load itself goes on: others may wait for it."""
        opening = self._opening
        if opening is None:
            return
        if not opening.done():
            opening.cancel()
            await asyncio.wait({opening})
        if not opening.cancelled() and opening.exception() is None:
            await opening.result().aclose()

    async def _open(self) -> Opened:
        return await self._open_it()
