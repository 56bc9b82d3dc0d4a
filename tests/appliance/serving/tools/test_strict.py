"""Strict tools that may be called or not: free text, and calls by their schemas alone."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from llguidance import LLMatcher, LLTokenizer

from appliance.engine.structure import grammar_of, limits, problem_of
from appliance.serving.tools.format import CALL_BEGIN, CALLS_BEGIN, HERMES_OPEN, ToolFormat, spellings
from appliance.serving.tools.plan import NOT_ENFORCED, plan_tools
from appliance.serving.tools.splitter import splitter_for
from appliance.serving.tools.strict import strict_structure
from appliance.serving.tools.support import ToolSupport
from appliance.serving.types import (
    ChatRequest,
    ContentDelta,
    Tool,
    ToolCallDelta,
    ToolCallDropped,
    ToolChoice,
    ToolMode,
)
from tests.appliance.serving.samples import user

LOOK = Tool(
    name="look",
    parameters=json.dumps(
        {
            "properties": {"at": {"enum": ["north", "south"]}, "far": {"$ref": "#/$defs/Far"}},
            "required": ["at", "far"],
            "$defs": {"Far": {"type": "integer"}},
        }
    ),
    strict=True,
)
LOOSE = Tool(name="loose", parameters='{"properties": {"x": {"type": "integer"}}}')
BYTES = LLTokenizer("byte")
FORMATS = (ToolFormat.DEEPSEEK, ToolFormat.HERMES)
GRAMMARS = {one: grammar_of(strict_structure((LOOK, LOOSE), one, {})) for one in FORMATS}
MARKS = (*spellings(CALLS_BEGIN), *spellings(CALL_BEGIN), HERMES_OPEN)


def read(tool_format: ToolFormat, text: str) -> tuple[int, bool]:
    """How many bytes of an answer can be written, and whether it may end there."""
    matcher = LLMatcher(BYTES, GRAMMARS[tool_format], log_level=0, limits=limits())
    for place, byte in enumerate(text.encode()):
        if not matcher.validate_tokens([byte]):
            return place, matcher.is_accepting()
        assert matcher.consume_token(byte)
    return len(text.encode()), matcher.is_accepting()


def may_be(tool_format: ToolFormat, text: str) -> bool:
    return read(tool_format, text) == (len(text.encode()), True)


def call(tool_format: ToolFormat, name: str, arguments: str, *, spacer: str = "▁") -> str:
    if tool_format is ToolFormat.HERMES:
        return f'<tool_call>\n{{"name": "{name}", "arguments": {arguments}}}\n</tool_call>'
    written = f"<｜tool▁call▁begin｜>function<｜tool▁sep｜>{name}\n```json\n{arguments}\n```<｜tool▁call▁end｜>"
    return f"<｜tool▁calls▁begin｜>{written}<｜tool▁calls▁end｜>".replace("▁", spacer)


RIGHT = '{"at": "north", "far": 3}'
WRONG = (
    '{"at": "west", "far": 3}',
    '{"at": "north", "far": "3"}',
    '{"at": "north"}',
    '{"at": "north", "far": 3, "x": 1}',
)


@pytest.mark.parametrize("tool_format", FORMATS)
def test_the_grammar_is_one_that_engines_take(tool_format: ToolFormat) -> None:
    assert problem_of(strict_structure((LOOK, LOOSE), tool_format, {})) is None
    assert problem_of(strict_structure((LOOK,), tool_format, {CALLS_BEGIN: 7, CALL_BEGIN: 8, HERMES_OPEN: 9})) is None


@pytest.mark.parametrize("tool_format", FORMATS)
@given(text=st.text(st.characters(exclude_categories=("Cs",)), max_size=60))
def test_any_text_is_an_answer(tool_format: ToolFormat, text: str) -> None:
    if not any(mark in text for mark in MARKS):
        assert may_be(tool_format, text)


@pytest.mark.parametrize("tool_format", FORMATS)
def test_calls_stand_where_the_model_puts_them(tool_format: ToolFormat) -> None:
    right, loose = call(tool_format, "look", RIGHT), call(tool_format, "loose", '{"x": "any", "y": [1]}')
    for text in (right, f"I look. {right}", f"{right}\n{right}", f"{right} and\n{loose} then", f"< <tool {right}"):
        assert may_be(tool_format, text), text


@pytest.mark.parametrize("tool_format", FORMATS)
@pytest.mark.parametrize("arguments", WRONG)
def test_arguments_that_are_not_the_schemas_cannot_be_written(tool_format: ToolFormat, arguments: str) -> None:
    text = f"Well: {call(tool_format, 'look', arguments)}"
    written, is_end = read(tool_format, text)
    assert written < len(text.encode())
    assert not is_end, "nor can the answer end in the middle of a call"
    assert '"at": ' in text.encode()[:written].decode()


@pytest.mark.parametrize("tool_format", FORMATS)
def test_only_tools_that_are_offered_can_be_called(tool_format: ToolFormat) -> None:
    text = call(tool_format, "other", "{}")
    written, _ = read(tool_format, text)
    assert text.encode()[:written].decode().endswith(('"', "｜>"))


@pytest.mark.parametrize("spacer", ["_", " ", "\\_"])
def test_the_other_spellings_of_marks_are_bound_too(spacer: str) -> None:
    assert may_be(ToolFormat.DEEPSEEK, call(ToolFormat.DEEPSEEK, "look", RIGHT, spacer=spacer))
    wrong = call(ToolFormat.DEEPSEEK, "look", WRONG[0], spacer=spacer)
    assert read(ToolFormat.DEEPSEEK, wrong)[0] < len(wrong.encode())
    alone = f"{CALL_BEGIN.replace('▁', spacer)}something else"
    assert read(ToolFormat.DEEPSEEK, alone)[0] < len(alone.encode())


@given(data=st.data())
@pytest.mark.parametrize("tool_format", FORMATS)
def test_whatever_is_read_as_a_call_of_it_is_right(tool_format: ToolFormat, data: st.DataObject) -> None:
    """Answers that the grammar lets through, mutated calls among them, read as the box reads them."""
    pieces = [RIGHT, *WRONG, "look", "loose", "\n", " ", "text", "{", "}", *MARKS]
    calls = [call(tool_format, "look", one) for one in (RIGHT, *WRONG)]
    text = "".join(data.draw(st.lists(st.sampled_from([*pieces, *calls]), max_size=6)))
    written, _ = read(tool_format, text)
    answer = text.encode()[:written].decode(errors="ignore")
    splitter = splitter_for(tool_format, frozenset(("look", "loose")))
    events = [*splitter.feed(answer), *splitter.finish()]
    made: dict[int, tuple[str, list[str]]] = {}
    for event in events:
        if isinstance(event, ToolCallDelta):
            made.setdefault(event.index, (event.name or "", []))[1].append(event.arguments)
        elif isinstance(event, ToolCallDropped):
            made.pop(event.index, None)
        else:
            assert isinstance(event, ContentDelta)
    for name, arguments in made.values():
        value = json.loads("".join(arguments))
        if name == "look":
            assert (set(value), value["at"] in ("north", "south"), isinstance(value["far"], int)) == (
                {"at", "far"},
                True,
                True,
            )


def request(*tools: Tool, **fields: Any) -> ChatRequest:
    return ChatRequest(request_id="r", model="m", messages=(user("Hi"),), tools=tools, **fields)


def test_who_gets_a_grammar_and_who_is_told_that_there_is_none() -> None:
    support = ToolSupport(ToolFormat.HERMES, writes_tools=False, style=None)
    assert plan_tools(request(LOOSE), support, {}).structure is None
    bound = plan_tools(request(LOOSE, LOOK), support, {})
    assert bound.structure is not None
    assert (bound.changes, bound.format) == ((), ToolFormat.HERMES)
    unbound = plan_tools(request(LOOK), support, None)
    assert (unbound.structure, unbound.changes) == (None, (NOT_ENFORCED,))
    demanded = plan_tools(request(LOOK, tool_choice=ToolChoice(ToolMode.REQUIRED)), support, None)
    assert (demanded.format, demanded.changes) == (ToolFormat.FORCED, ())
