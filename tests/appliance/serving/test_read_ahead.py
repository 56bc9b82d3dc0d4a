"""A reader that sleeps keeps no seat: events are taken as they come, and closing closes the engine's side."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest

from appliance.engine.request import Finished, FinishReason, GenerationEvent, TokenDelta
from appliance.serving.read_ahead import read_ahead
from tests.appliance.serving.box import R1_REPLY, Box, ending, read, turns

DONE = Finished(reason=FinishReason.STOP)


class Events:
    """Five tokens and an ending; ``gate`` holds before the third. Notes how far it was read and that it was closed."""

    def __init__(self, error: Exception | None = None) -> None:
        self.given = 0
        self.closed = False
        self.gate = asyncio.Event()
        self._error = error

    async def __call__(self) -> AsyncGenerator[GenerationEvent, None]:
        try:
            for number in range(5):
                if number == 2:
                    await self.gate.wait()
                    if self._error is not None:
                        raise self._error
                self.given += 1
                yield TokenDelta(str(number))
            yield DONE
        finally:
            self.closed = True


async def test_everything_comes_in_order_and_the_end_is_heard_before_it_is_read() -> None:
    events, ended = Events(), asyncio.Event()
    events.gate.set()
    ahead = read_ahead(events(), lambda _: ended.set())
    assert await anext(ahead) == TokenDelta("0")
    await asyncio.wait_for(ended.wait(), 5)
    assert events.given == 5
    rest = [event async for event in ahead]
    assert rest == [*(TokenDelta(str(number)) for number in range(1, 5)), DONE]
    assert events.closed


async def test_closing_early_closes_what_is_read() -> None:
    events, ended = Events(), asyncio.Event()
    ahead = read_ahead(events(), lambda _: ended.set())
    assert await anext(ahead) == TokenDelta("0")
    await ahead.aclose()
    assert (events.closed, ended.is_set()) == (True, False)


async def test_an_error_is_raised_after_what_came_before_it() -> None:
    events = Events(ValueError("broken"))
    events.gate.set()
    got: list[GenerationEvent] = []
    ahead = read_ahead(events(), lambda: None)
    got += [await anext(ahead), await anext(ahead)]
    with pytest.raises(ValueError, match="broken"):
        await anext(ahead)
    assert got == [TokenDelta("0"), TokenDelta("1")]


async def test_who_does_not_read_does_not_keep_the_seat() -> None:
    box = Box()
    slow = await box.open()
    first = await anext(slow)
    await turns(50)
    assert box.running == 0
    second = await box.answer()
    assert ending(second).reason is FinishReason.STOP
    rest = [first, *await read(slow)]
    assert ending(rest).usage == ending(second).usage
    assert len(R1_REPLY) > 1
