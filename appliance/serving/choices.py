"""Several answers to one request, as one stream: ``n`` of OpenAI's APIs, and lists of prompts.

Each answer takes a seat of its own, or a place in the queue, like any other request. They have the same prompt, which
the engine computes once: prompts that begin alike share what is computed (``engine.llamacpp.prefix_cache``).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from types import TracebackType
from typing import Self

from appliance.engine.request import ThinkingEnd
from appliance.serving.stream import ChatStream
from appliance.serving.types import ChatEvent, Usage

MAX_CHOICES = 8
"""Most answers to one prompt; more requests are as good, and wait in a fair order."""

_AHEAD = 16
"""Events of one answer that may wait for the reader."""


class ChoiceStream:
    """Async iterator of (index of the answer, event), in the order of arrival. One reader.

    ``aclose`` ends all answers; each gives its seat back.
    """

    def __init__(self, streams: Sequence[ChatStream]) -> None:
        self.streams = tuple(streams)
        self._events = self._one(streams[0]) if len(streams) == 1 else self._merged()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> tuple[int, ChatEvent]:
        return await anext(self._events)

    async def aclose(self) -> None:
        """End every answer. Idempotent."""
        await self._events.aclose()
        await close_all(self.streams)

    @staticmethod
    async def _one(stream: ChatStream) -> AsyncGenerator[tuple[int, ChatEvent], None]:
        async for event in stream:
            yield 0, event

    async def _merged(self) -> AsyncGenerator[tuple[int, ChatEvent], None]:
        waiting: asyncio.Queue[tuple[int, ChatEvent | None]] = asyncio.Queue(_AHEAD * len(self.streams))
        readers = [asyncio.create_task(_read(index, stream, waiting)) for index, stream in enumerate(self.streams)]
        try:
            open_streams = len(readers)
            while open_streams:
                index, event = await waiting.get()
                if event is None:
                    open_streams -= 1
                    await readers[index]
                else:
                    yield index, event
        finally:
            for reader in readers:
                reader.cancel()
            await asyncio.gather(*readers, return_exceptions=True)


async def _read(index: int, stream: ChatStream, into: asyncio.Queue[tuple[int, ChatEvent | None]]) -> None:
    try:
        async for event in stream:
            await into.put((index, event))
    except Exception:
        await into.put((index, None))  # its reader is to see it, not to wait for ever
        raise
    await into.put((index, None))


async def open_all(openings: Sequence[Callable[[], Awaitable[ChatStream]]]) -> ChoiceStream:
    """All of the streams, or none: what one refuses is the refusal of all."""
    streams: list[ChatStream] = []
    try:
        for opening in openings:
            streams.append(await opening())  # noqa: PERF401 - those before a refused one must be closed
    except BaseException:
        await close_all(streams)
        raise
    return ChoiceStream(streams)


async def close_all(streams: Sequence[ChatStream]) -> None:
    """Close each of them, whatever becomes of the others."""
    await asyncio.gather(*(stream.aclose() for stream in streams))


def usage_of_all(usages: Sequence[Usage], *, prompts: int = 1) -> Usage:
    """Of answers that share prompts: each of the ``prompts``, which come one after the other, counts once."""
    each = len(usages) // prompts
    firsts = usages[::each]
    ends = [usage.thinking_end for usage in usages if usage.thinking_end is not None]
    return Usage(
        prompt_tokens=sum(usage.prompt_tokens for usage in firsts),
        cached_tokens=sum(usage.cached_tokens for usage in firsts),
        completion_tokens=sum(usage.completion_tokens for usage in usages),
        reasoning_tokens=sum(usage.reasoning_tokens for usage in usages),
        trimmed=usages[0].trimmed,
        thinking_end=next((end for end in ends if end is not ThinkingEnd.NATURAL), ends[0] if ends else None),
        answer_looped=any(usage.answer_looped for usage in usages),
    )
