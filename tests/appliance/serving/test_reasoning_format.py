"""Where the thought goes: beside the answer, into it, nowhere."""

from __future__ import annotations

import pytest

from appliance.engine.request import FinishReason
from appliance.serving.reasoning_format import ReasoningShaper
from appliance.serving.types import (
    ChatEvent,
    ChatFinished,
    ContentDelta,
    Queued,
    ReasoningDelta,
    ReasoningFormat,
    Usage,
)
from tests.appliance.serving.test_reasoning import split

END = ChatFinished(reason=FinishReason.STOP, usage=Usage())
CUT = ChatFinished(reason=FinishReason.LENGTH, usage=Usage(), reasoning_open=True)
WHOLE = [Queued(1), ReasoningDelta("a"), ReasoningDelta("b"), ContentDelta("c"), ContentDelta("d"), END]


def shaped(reasoning_format: ReasoningFormat, events: list[ChatEvent]) -> list[ChatEvent]:
    shaper = ReasoningShaper(reasoning_format)
    return [one for event in events for one in shaper.shape(event)]


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning", "both"])
def test_beside_the_answer_nothing_changes(name: str) -> None:
    assert shaped(ReasoningFormat(name), WHOLE) == WHOLE


def test_hidden() -> None:
    assert shaped(ReasoningFormat.HIDDEN, WHOLE) == [Queued(1), ContentDelta("c"), ContentDelta("d"), END]
    assert shaped(ReasoningFormat.HIDDEN, [ReasoningDelta("a"), CUT]) == [CUT]


@pytest.mark.parametrize(
    ("events", "text"),
    [
        (WHOLE, "<think>\nab\n</think>\n\ncd"),
        ([ContentDelta("c"), END], "c"),
        ([END], ""),
        ([ReasoningDelta("a"), END], "<think>\na\n</think>\n\n"),
        ([ReasoningDelta("a"), CUT], "<think>\na"),
    ],
)
def test_inline(events: list[ChatEvent], text: str) -> None:
    out = shaped(ReasoningFormat.INLINE, events)
    assert out[-1] == events[-1]
    assert not any(isinstance(event, ReasoningDelta) for event in out)
    assert "".join(event.text for event in out if isinstance(event, ContentDelta)) == text
    # What comes out is what a parser for R1 takes apart again.
    thought = "".join(event.text for event in events if isinstance(event, ReasoningDelta))
    content = "".join(event.text for event in events if isinstance(event, ContentDelta))
    assert split([text], opened=False) == (thought, content)
