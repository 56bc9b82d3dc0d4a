"""Streams against a fake engine: the queue, closing and cancelling, and an engine that dies. Every seat comes back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import anyio
import pytest

from appliance.engine.request import (
    Finished,
    FinishReason,
    GenerationEvent,
    GenerationRequest,
    TokenDelta,
)
from appliance.errors import (
    AppError,
    EngineLost,
    GenerationFailed,
    InvalidRequest,
    ModelNotReady,
    QueueFull,
)
from appliance.serving.errors import NoSeatInTime
from appliance.serving.types import (
    ChatFinished,
    Queued,
    ReasoningDelta,
)
from tests.appliance.serving.box import R1_REPLY, Box, content, ending, read, thought, turns
from tests.appliance.serving.samples import SMOL
from tests.fakes.engine import FAKE_INFO, FakeEngine

# -- the queue --------------------------------------------------------------------------------------------------------


async def test_seats_follow_the_engine_and_the_rest_waits_in_order() -> None:
    box = Box(hold_after=1)
    streams = [await box.open() for _ in range(4)]
    tasks = [asyncio.create_task(read(stream)) for stream in streams]
    await box.engine.wait_active(2)
    await turns()
    assert [request.request_id for request in box.engine.requests] == ["r1", "r2"]
    await box.engine.resume()
    answers = await asyncio.gather(*tasks)
    waits = [[event.position for event in events if isinstance(event, Queued)] for events in answers]
    assert waits[:2] == [[], []]
    assert waits[2] == [1]
    assert waits[3][0] == 2
    assert waits[3] == sorted(waits[3], reverse=True)
    assert [request.request_id for request in box.engine.requests] == ["r1", "r2", "r3", "r4"]
    assert box.engine.peak_active == 2
    assert all(content(events) == "Paris." for events in answers)


async def test_a_full_queue_refuses_at_once() -> None:
    box = Box(max_waiting=1)
    streams = [await box.open() for _ in range(3)]
    with pytest.raises(QueueFull):
        await box.open()
    for stream in streams:
        await stream.aclose()
    await box.answer()


async def test_a_queued_stream_that_is_closed_gives_its_place_up() -> None:
    box = Box()
    streams = [await box.open() for _ in range(4)]
    assert await anext(streams[2]) == Queued(1)
    await streams[2].aclose()
    assert await anext(streams[3]) == Queued(1)
    assert box.engine.requests == []
    for stream in streams:
        await stream.aclose()
    assert box.admission.stats().waiting == box.running == 0


async def test_an_engine_restarted_while_waiting_is_used() -> None:
    box = Box()
    streams = [await box.open() for _ in range(3)]
    assert await anext(streams[2]) == Queued(1)
    fresh = FakeEngine(("fresh",))
    box.source.engine = fresh
    await streams[0].aclose()
    events = [event async for event in streams[2]]
    assert thought(events) == "fresh"
    assert [request.request_id for request in fresh.requests] == ["r3"]
    await streams[1].aclose()


async def test_a_request_with_a_deadline_gives_its_place_up() -> None:
    box = Box(hold_after=1)
    running = [await box.open() for _ in range(2)]
    hurried, patient = await box.open(deadline_s=0.01), await box.open(deadline_s=3600)
    events = [event async for event in hurried]
    assert events[0] == Queued(1)
    error = ending(events).error
    assert isinstance(error, NoSeatInTime)
    assert error.message == "No seat became free within the 0.01 seconds that the request would wait."
    assert await anext(patient) == Queued(1)
    await running[0].aclose()
    await box.engine.resume()
    assert content([event async for event in patient]) == "Paris."
    await running[1].aclose()
    assert box.running == 0


async def test_a_deadline_does_not_matter_once_there_is_a_seat() -> None:
    box = Box()
    assert content(await box.answer(deadline_s=0)) == "Paris."
    with pytest.raises(InvalidRequest):
        await box.open(deadline_s=-1)


async def test_whoever_waits_hears_of_it_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("appliance.serving.stream.WAIT_TOLD_EVERY_S", 0.001)
    box = Box()
    streams = [await box.open() for _ in range(3)]
    assert [await anext(streams[2]) for _ in range(3)] == [Queued(1)] * 3
    for stream in streams:
        await stream.aclose()


@pytest.mark.parametrize("other_model", [False, True])
async def test_no_engine_for_it_after_the_wait(other_model: bool) -> None:
    box = Box()
    streams = [await box.open() for _ in range(3)]
    assert await anext(streams[2]) == Queued(1)
    if other_model:
        box.source.model_id = SMOL.id
    else:
        box.source.engine = None
    await streams[0].aclose()
    events = [event async for event in streams[2]]
    assert isinstance(ending(events).error, ModelNotReady)
    await streams[1].aclose()
    assert box.running == 0


# -- closing ----------------------------------------------------------------------------------------------------------


async def test_closing_in_the_middle_aborts_once_and_frees_the_seat() -> None:
    box = Box(hold_after=2)
    stream = await box.open()
    assert await anext(stream) == ReasoningDelta("Let")
    await stream.aclose()
    await stream.aclose()
    assert box.engine.aborted == ["r1"]
    assert box.engine.active == frozenset()
    assert box.running == 0
    with pytest.raises(StopAsyncIteration):
        await anext(stream)


async def test_closing_a_stream_nobody_read() -> None:
    box = Box()
    await (await box.open()).aclose()
    assert box.running == 0
    assert box.engine.requests == []


async def test_closing_after_the_end_aborts_nothing() -> None:
    box = Box()
    stream = await box.open()
    assert isinstance([event async for event in stream][-1], ChatFinished)
    await stream.aclose()
    assert box.engine.aborted == []


async def test_the_seat_is_free_when_the_end_is_seen() -> None:
    box = Box(("a",), info=replace(FAKE_INFO, seats=1))
    stream = await box.open()
    async for event in stream:
        assert box.running == 0 or not isinstance(event, ChatFinished)
    await stream.aclose()


async def test_cancelling_the_reader_aborts_and_frees_the_seat() -> None:
    box = Box(hold_after=1)
    task = asyncio.create_task(read(await box.open()))
    await box.engine.wait_active(1)
    await turns()
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    await box.chat.aclose()
    assert box.engine.aborted == ["r1"]
    assert box.running == 0


async def test_cancelling_without_closing_frees_the_seat_too() -> None:
    box = Box(hold_after=1)
    stream = await box.open()

    async def careless() -> None:
        async for _ in stream:
            pass

    task = asyncio.create_task(careless())
    await box.engine.wait_active(1)
    await turns()
    task.cancel()
    await asyncio.wait([task])
    await box.chat.aclose()
    assert box.engine.aborted == ["r1"]
    assert box.running == 0


async def test_a_cancel_scope_that_cancels_every_wait_frees_the_seat_too() -> None:
    box = Box(hold_after=1)
    stream = await box.open()
    with anyio.CancelScope() as scope:
        async with stream:
            async for _ in stream:
                scope.cancel()
    await box.chat.aclose()
    assert box.engine.aborted == ["r1"]
    assert box.running == 0


async def test_cancelling_a_waiting_reader_gives_its_place_up() -> None:
    box = Box(hold_after=0)
    holders = [await box.open() for _ in range(2)]
    task = asyncio.create_task(read(await box.open()))
    await turns()
    task.cancel()
    await asyncio.wait([task])
    await box.chat.aclose()
    assert box.admission.stats().waiting == 0
    for stream in holders:
        await stream.aclose()


@pytest.mark.parametrize("queued", [False, True])
async def test_closing_from_another_task_ends_the_readers_stream(queued: bool) -> None:
    box = Box(hold_after=1)
    holders = [await box.open() for _ in range(2 if queued else 0)]
    stream = await box.open()
    task = asyncio.create_task(read(stream))
    if not queued:
        await box.engine.wait_active(1)
    await turns()
    await stream.aclose()
    assert ending(await task).reason is FinishReason.ABORTED
    for holder in holders:
        await holder.aclose()
    assert box.running == box.admission.stats().waiting == 0


async def test_an_abort_from_inside_the_box() -> None:
    box = Box(hold_after=1)
    task = asyncio.create_task(read(await box.open()))
    await box.engine.wait_active(1)
    await box.engine.abort("r1")
    assert ending(await task).reason is FinishReason.ABORTED


async def test_an_engine_that_fails_to_abort_keeps_no_seat() -> None:
    class Broken(FakeEngine):
        async def abort(self, request_id: str) -> None:
            raise OSError("broken pipe")

    box = Box()
    box.source.engine = Broken(R1_REPLY, hold_after=1)
    stream = await box.open()
    await anext(stream)
    await stream.aclose()
    assert box.running == 0


# -- an engine that dies ----------------------------------------------------------------------------------------------


async def test_eight_streams_end_once_each_when_the_engine_dies() -> None:
    box = Box(hold_after=2, info=replace(FAKE_INFO, seats=8))
    tasks = [asyncio.create_task(read(await box.open())) for _ in range(8)]
    await box.engine.wait_active(8)
    await turns(100)
    await box.engine.die()
    for events in await asyncio.gather(*tasks):
        end = ending(events)
        assert isinstance(end.error, EngineLost)
        assert thought(events) == "Let me"
        assert end.usage.completion_tokens == 2
        assert end.reasoning_open
    assert box.running == 0
    box.source.engine = FakeEngine(R1_REPLY)
    assert content(await box.answer()) == "Paris."


class Misbehaving(FakeEngine):
    """Breaks the contract of ``generate`` in the way ``fault`` says."""

    def __init__(self, fault: Exception | None) -> None:
        super().__init__()
        self.fault = fault

    async def generate(self, request: GenerationRequest) -> AsyncIterator[GenerationEvent]:  # type: ignore[override]
        yield TokenDelta("a")
        if self.fault is not None:
            raise self.fault


@pytest.mark.parametrize(
    ("fault", "error"), [(None, EngineLost), (EngineLost(), EngineLost), (RuntimeError("secret"), GenerationFailed)]
)
async def test_an_engine_that_breaks_its_contract(fault: Exception | None, error: type[AppError]) -> None:
    box = Box()
    box.source.engine = Misbehaving(fault)
    events = await box.answer()
    assert thought(events) == "a"
    end = ending(events)
    assert isinstance(end.error, error)
    assert "secret" not in end.error.message
    assert box.running == 0


async def test_an_error_without_its_cause_is_an_engine_lost() -> None:
    class Silent(FakeEngine):
        async def generate(self, request: GenerationRequest) -> AsyncIterator[GenerationEvent]:  # type: ignore[override]
            yield Finished(reason=FinishReason.ERROR)

    box = Box()
    box.source.engine = Silent()
    assert isinstance(ending(await box.answer()).error, EngineLost)
