"""Calls are told from text for any cut of the stream; what is no call stays text."""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.serving.tools.format import ToolFormat
from appliance.serving.tools.splitter import splitter_for
from appliance.serving.types import ContentDelta, ToolCallDelta, ToolCallDropped

NAMES = frozenset(("get_weather", "now"))
BEGIN, END = "<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>"


def deepseek(name: str, arguments: str) -> str:
    return f"<｜tool▁call▁begin｜>function<｜tool▁sep｜>{name}\n```json\n{arguments}\n```<｜tool▁call▁end｜>"


def hermes(name: str, arguments: str) -> str:
    return f'<tool_call>\n{{"name": "{name}", "arguments": {arguments}}}\n</tool_call>'


@dataclass
class Read:
    """What a client puts together of the events."""

    content: str = ""
    calls: dict[int, list[str]] = field(default_factory=dict)
    dropped: list[int] = field(default_factory=list)
    completed: int = 0


def split(tool_format: ToolFormat, pieces: list[str], *, only_one: bool = False) -> Read:
    numbers = itertools.count()
    splitter = splitter_for(tool_format, NAMES, only_one=only_one, new_id=lambda: f"c{next(numbers)}")
    read = Read()
    for event in [event for piece in pieces for event in splitter.feed(piece)] + splitter.finish():
        if isinstance(event, ContentDelta):
            assert event.text
            read.content += event.text
        elif isinstance(event, ToolCallDelta):
            if event.name is not None:
                assert event.index not in read.calls
                assert event.id == f"c{event.index}"
                read.calls[event.index] = [event.name, ""]
            read.calls[event.index][1] += event.arguments
        else:
            assert isinstance(event, ToolCallDropped)
            read.dropped.append(event.index)
            read.content += event.text
            del read.calls[event.index]
    read.completed = splitter.completed
    assert read.completed == len(read.calls)
    for _, arguments in read.calls.values():
        assert isinstance(json.loads(arguments), dict)
    return read


PARIS = '{"city": "Paris"}'
CALL = ["get_weather", PARIS]
D, H, F = ToolFormat.DEEPSEEK, ToolFormat.HERMES, ToolFormat.FORCED
CASES = {
    "one": (D, f"{BEGIN}{deepseek(*CALL)}{END}", "", [CALL]),
    "two": (D, f"{BEGIN}{deepseek(*CALL)}\n{deepseek('now', '{}')}{END}", "", [CALL, ["now", "{}"]]),
    "words": (D, f"I will look now.\n\n{BEGIN}{deepseek(*CALL)}{END}\n", "I will look now.", [CALL]),
    "words after": (D, f"{BEGIN}{deepseek(*CALL)}{END}\nThat was it.", "That was it.", [CALL]),
    "no outer marks": (D, deepseek(*CALL), "", [CALL]),
    "no end": (D, f"{BEGIN}{deepseek(*CALL).partition('```<')[0]}", "", [CALL]),
    "spelled": (D, f"{BEGIN}{deepseek(*CALL)}{END}".replace("▁", "_"), "", [CALL]),
    "V3.1": (D, f"{BEGIN}<｜tool▁call▁begin｜>now<｜tool▁sep｜>{PARIS}<｜tool▁call▁end｜>{END}", "", [["now", PARIS]]),
    "no arguments": (D, f"{BEGIN}{deepseek('now', '')}{END}", "", [["now", "{}"]]),
    "no fence": (D, deepseek(*CALL).replace("```json", "").replace("```", ""), "", [CALL]),
    "hermes": (H, hermes(*CALL), "", [CALL]),
    "hermes two": (H, f"So:\n{hermes(*CALL)}\n{hermes('now', '{}')}", "So:", [CALL, ["now", "{}"]]),
    "hermes unordered": (H, f'<tool_call>{{"arguments": {PARIS}, "name": "now"}}</tool_call>', "", [["now", PARIS]]),
    "hermes parameters": (H, hermes(*CALL).replace("arguments", "parameters"), "", [CALL]),
    "hermes text": (H, '<tool_call>{"name": "now", "arguments": "{\\"a\\": 1}"}', "", [["now", '{"a": 1}']]),
    "hermes none": (H, '<tool_call>{"name": "now"}</tool_call>', "", [["now", "{}"]]),
    "forced": (F, f'{{"name": "get_weather", "arguments": {PARIS}}}', "", [CALL]),
    "forced list": (F, f'[{{"name": "get_weather", "arguments": {PARIS}}}, {{"name": "now", "arguments": {{}}}}]', "",
                    [CALL, ["now", "{}"]]),
    "plain text": (D, 'a < b, <｜User｜> and {"x": 1}\n', 'a < b, <｜User｜> and {"x": 1}\n', []),
    "unknown name": (H, hermes("rm", "{}"), hermes("rm", "{}"), []),
    "unknown name, deepseek": (D, f"{BEGIN}{deepseek('rm', '{}')}{END}", f"{BEGIN}{deepseek('rm', '{}')}{END}", []),
    "only a mark": (D, f"It is {BEGIN}, see.", f"It is {BEGIN}, see.", []),
    "only a hermes mark": (H, "Write <tool_call> first.", "Write <tool_call> first.", []),
    "no JSON": (H, "<tool_call>now()</tool_call>", "<tool_call>now()</tool_call>", []),
    "a list": (H, '<tool_call>{"name": "now", "arguments": [1]}', '<tool_call>{"name": "now", "arguments": [1]}', []),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 1000])
def test_calls_and_text(name: str, size: int) -> None:
    tool_format, text, content, calls = CASES[name]
    pieces = [text[start : start + size] for start in range(0, len(text), size)]
    read = split(tool_format, pieces)
    assert (read.content, list(read.calls.values())) == (content, calls)


@given(cuts=st.lists(st.integers(0, 120), max_size=12), name=st.sampled_from(sorted(CASES)))
def test_the_cut_makes_no_difference(cuts: list[int], name: str) -> None:
    tool_format, text, content, calls = CASES[name]
    places = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    pieces = [text[start:end] for start, end in itertools.pairwise(places)]
    read = split(tool_format, pieces)
    assert (read.content, list(read.calls.values())) == (content, calls)


@pytest.mark.parametrize("text", [f"{BEGIN}{deepseek(*CALL)}{END}", hermes(*CALL)])
def test_an_end_in_the_middle_loses_nothing_and_is_no_call(text: str) -> None:
    tool_format = D if text.startswith(BEGIN) else H
    whole = text.index("}") + 1
    for end in range(1, whole):
        for pieces in ([text[:end]], list(text[:end])):
            read = split(tool_format, pieces)
            assert (read.content, read.calls) == (text[:end], {})
    for end in range(whole, len(text)):
        read = split(tool_format, list(text[:end]))
        assert (read.content, list(read.calls.values())) == ("", [CALL])


@pytest.mark.parametrize("form", [deepseek, hermes])
def test_arguments_that_are_no_json_are_told(form: object) -> None:
    text = form("now", '{"a": 1, oops}') + " after"  # type: ignore[operator]
    read = split(D if form is deepseek else H, list(text))
    assert (read.dropped, read.calls, read.content) == ([0], {}, text)


def test_arguments_stream_as_they_come() -> None:
    splitter = splitter_for(D, NAMES, new_id=lambda: "c")
    head = "<｜tool▁call▁begin｜>function<｜tool▁sep｜>"
    pieces = (BEGIN, head, "now\n", "```json\n", '{"a": "', "b", "c", '"}', "\n```")
    seen = [
        [(event.name, event.arguments) for event in splitter.feed(piece) if isinstance(event, ToolCallDelta)]
        for piece in pieces
    ]
    assert seen == [[], [], [], [], [("now", ""), (None, '{"a": "')], [(None, "b")], [(None, "c")], [(None, '"}')], []]


def test_only_one_call_when_no_more_are_wanted() -> None:
    text = f"{BEGIN}{deepseek(*CALL)}\n{deepseek('now', '{}')}{END} and text"
    read = split(D, [text], only_one=True)
    assert (read.content, list(read.calls.values())) == ("", [CALL])


@given(text=st.text(alphabet='<>｜tool▁cals_begin{}"[],: n\n`', max_size=60), size=st.integers(1, 9))
def test_text_without_calls_stays_what_it_is(text: str, size: int) -> None:
    pieces = [text[start : start + size] for start in range(0, len(text), size)]
    for tool_format in (D, H):
        assert split(tool_format, pieces).content == text
