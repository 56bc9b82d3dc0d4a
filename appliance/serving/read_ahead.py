"""Takes an engine's events as fast as they come, whoever reads them.

A client that reads slowly, or not at all, would otherwise keep its seat after the engine has long ended its sequence.
What waits for it is bounded by the most tokens of its answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable

from appliance.engine.request import Finished, GenerationEvent


async def read_ahead(
    events: AsyncIterator[GenerationEvent], ended: Callable[[Finished], None]
) -> AsyncGenerator[GenerationEvent, None]:
    """The same events. ``ended`` gets Finished as soon as the engine says it, be it that nobody has read that far.

    Closing this closes ``events`` too, which aborts what still runs.
    """
    read: asyncio.Queue[GenerationEvent | None] = asyncio.Queue()

    async def pump() -> None:
        try:
            async for event in events:
                if isinstance(event, Finished):
                    ended(event)
                read.put_nowait(event)
        finally:
            read.put_nowait(None)
            if isinstance(events, AsyncGenerator):
                await events.aclose()

    pumping = asyncio.create_task(pump(), name="engine events")
    try:
        while (event := await read.get()) is not None:
            yield event
        await pumping
    finally:
        if not pumping.done():
            pumping.cancel()
            await asyncio.wait({pumping})
