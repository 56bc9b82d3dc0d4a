"""Listeners of a growing answer: whoever they are, however slow, they get all of it once."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.chats.live import (
    Ended,
    GrowingText,
    LiveAnswer,
    LiveEvent,
    MoreContent,
    MoreReasoning,
    Place,
    Snapshot,
    Waiting,
    place_of,
)
from appliance.chats.types import AnswerState, MessageState

TEXT = st.text(alphabet="ab合😀", min_size=1, max_size=4)


@given(st.lists(TEXT, max_size=1500), st.data())
def test_a_growing_text_is_its_parts(parts: list[str], data: st.DataObject) -> None:
    text = GrowingText()
    for part in parts:
        text.add(part)
    whole = "".join(parts)
    assert len(text) == len(whole)
    start = data.draw(st.integers(0, len(whole) + 2))
    assert text.since(start) == whole[start:]


def live() -> LiveAnswer:
    return LiveAnswer(message_id=1, chat_id=1, owner="user:1", request_id="r")


def end(answer: LiveAnswer) -> None:
    now = answer.now()
    answer.end(AnswerState(message_id=1, state=MessageState.DONE, content=now.content, reasoning=now.reasoning))


def text_of(events: list[LiveEvent]) -> tuple[str, str]:
    reasoning = content = ""
    for event in events:
        match event:
            case Snapshot():
                reasoning, content = event.reasoning, event.content
            case MoreReasoning():
                assert not content
                reasoning += event.text
            case MoreContent():
                content += event.text
    return reasoning, content


@given(st.lists(TEXT, max_size=8), st.lists(TEXT, max_size=8), st.lists(st.integers(0, 16), max_size=6), st.data())
async def test_everybody_gets_all_of_it(
    thought: list[str], answer: list[str], arrivals: list[int], data: st.DataObject
) -> None:
    """Listeners that come at any time; some leave and come back with the place that they had."""
    made = live()
    steps = [(made.add_reasoning, part) for part in thought] + [(made.add_content, part) for part in answer]
    leave_after = [data.draw(st.integers(1, 5)) for _ in arrivals]

    async def listen(patience: int) -> list[LiveEvent]:
        events: list[LiveEvent] = []
        place: Place | None = None
        while not events or not isinstance(events[-1], Ended):
            heard = 0
            stream = made.events(place)
            async for reached, event in stream:
                place = reached
                events.append(event)
                heard += 1
                if heard == patience:
                    break
            await stream.aclose()
        return events

    listeners = []
    for number in range(max([len(steps), *arrivals]) + 1):
        for arrival, patience in zip(arrivals, leave_after, strict=True):
            if arrival == number:
                listeners.append(asyncio.create_task(listen(patience)))
        if number < len(steps):
            add, part = steps[number]
            add(part)
        if number % 3 == 0:
            await asyncio.sleep(0)
    end(made)
    for events in await asyncio.gather(*listeners):
        assert text_of(events) == ("".join(thought), "".join(answer))


async def test_a_slow_listener_costs_nothing_and_gets_more_at_once() -> None:
    made = live()
    slow = made.events()
    await anext(slow)
    for _ in range(10_000):
        made.add_content("word ")
    _, event = await anext(slow)
    assert event == MoreContent("word " * 10_000)
    end(made)
    assert isinstance((await anext(slow))[1], Ended)
    with pytest.raises(StopAsyncIteration):
        await anext(slow)


async def test_waiting_is_told_to_whoever_comes_meanwhile() -> None:
    made = live()
    made.wait_for(Waiting(2, 8.0))
    early = made.events()
    assert isinstance((await anext(early))[1], Snapshot)
    assert (await anext(early))[1] == Waiting(2, 8.0)
    made.wait_for(Waiting(1, 4.0))
    assert (await anext(early))[1] == Waiting(1, 4.0)
    made.add_content("Hi")
    assert (await anext(early))[1] == MoreContent("Hi")
    await early.aclose()


async def test_a_place_that_cannot_be_gets_a_snapshot() -> None:
    made = live()
    made.add_content("Hi")
    stream = made.events(Place(5, 0))
    assert (await anext(stream))[1] == Snapshot("", "Hi", MessageState.STREAMING)
    await stream.aclose()


@pytest.mark.parametrize("text", ["", "1", "1.", "-1.2", "1.2.3", "9" * 12 + ".1", "a.b"])
def test_what_is_no_place(text: str) -> None:
    assert place_of(text) is None


def test_places_come_back() -> None:
    assert place_of(str(Place(12, 345))) == Place(12, 345)
