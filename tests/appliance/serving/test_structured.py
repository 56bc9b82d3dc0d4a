"""Forms of answers on their way through the chat service."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from appliance.engine.base import Feature
from appliance.engine.request import Structure, StructureKind
from appliance.errors import InvalidRequest
from appliance.serving.errors import EngineCannot
from appliance.serving.types import Tool, ToolChoice, ToolMode
from tests.appliance.serving.box import Box, content
from tests.fakes.engine import FAKE_INFO

WEATHER = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}


def of_schema(schema: Any) -> Structure:
    return Structure(kind=StructureKind.JSON_SCHEMA, text=json.dumps(schema))


async def test_form_and_log_probabilities_reach_the_engine_and_come_back() -> None:
    box = Box(["Wait", ".\n</think>", "\n\n", '{"city": ', '"Ulm"}'])
    events = await box.answer(structure=of_schema(WEATHER), logprobs=1)
    request = box.engine.requests[0]
    assert request.structure == of_schema(WEATHER)
    assert request.logprobs == 1
    assert content(events) == '{"city": "Ulm"}'
    tokens = [one.token for event in events for one in getattr(event, "logprobs", ())]
    assert tokens == [b'{"city": ', b'"Ulm"}']


@pytest.mark.parametrize(
    ("structure", "param", "words"),
    [
        (
            of_schema({"type": "object", "properties": {"a": {"type": "array", "items": [{"type": "strin"}]}}}),
            "response_format.json_schema.schema.properties.a",
            r"at \$.properties.a",
        ),
        (
            of_schema({"anyOf": [{"type": "null"}, {"not": {}}]}),
            "response_format.json_schema.schema.anyOf[1]",
            "not supported here: not",
        ),
        (Structure(kind=StructureKind.REGEX, text="(a"), "structured_outputs.regex", "unclosed group"),
        (Structure(kind=StructureKind.GRAMMAR, text="root ::= x"), "structured_outputs.grammar", "x"),
    ],
)
async def test_a_form_that_no_answer_can_have_is_refused_before_the_engine_hears_of_it(
    structure: Structure, param: str, words: str
) -> None:
    box = Box()
    with pytest.raises(InvalidRequest, match=words) as refusal:
        await box.open(structure=structure)
    assert str(refusal.value.details["param"]).startswith(param)
    assert box.engine.requests == []
    assert box.running == 0


async def test_the_tool_whose_parameters_are_at_fault_is_named() -> None:
    box = Box()
    bad = {"type": "object", "properties": {"when": {"type": "moment"}}}
    tools = (Tool(name="weather", parameters=json.dumps(WEATHER)), Tool(name="wake", parameters=json.dumps(bad)))
    with pytest.raises(InvalidRequest, match="'wake'") as refusal:
        await box.open(tools=tools, tool_choice=ToolChoice(ToolMode.REQUIRED))
    assert refusal.value.details["param"] == "tools[1].function.parameters.properties.when"


async def test_a_structure_asks_for_an_engine_that_can() -> None:
    box = Box(info=dataclasses.replace(FAKE_INFO, features=frozenset({Feature.LOGPROBS})))
    with pytest.raises(EngineCannot) as refusal:
        await box.open(structure=of_schema(WEATHER))
    assert refusal.value.details["param"] == "response_format"
