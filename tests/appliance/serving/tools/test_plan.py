"""What tools and ``tool_choice`` make of a request."""

from __future__ import annotations

import json
from typing import Any

import pytest

from appliance.engine.request import Structure, StructureKind
from appliance.engine.structure import problem_of
from appliance.errors import InvalidRequest
from appliance.serving.tools.format import ToolFormat
from appliance.serving.tools.plan import MAX_TOOLS, NO_TOOLS, check_tools, plan_tools
from appliance.serving.tools.support import ToolSupport
from appliance.serving.types import ChatRequest, Tool, ToolChoice, ToolMode
from tests.appliance.serving.samples import user

SUPPORT = ToolSupport(ToolFormat.DEEPSEEK, writes_tools=False, style=None)
LOOK = Tool(name="look", parameters='{"properties": {"at": {"type": "string"}}, "required": ["at"]}')
NOW = Tool(name="now")
REQUIRED = ToolChoice(ToolMode.REQUIRED)


def request(*tools: Tool, **fields: Any) -> ChatRequest:
    return ChatRequest(request_id="r", model="m", messages=(user("Hi"),), tools=tools, **fields)


def schema(made: ChatRequest) -> dict[str, Any]:
    structure = plan_tools(made, SUPPORT).structure
    assert structure is not None
    assert problem_of(structure) is None
    return dict(json.loads(structure.text))


def test_no_tools_are_no_plan() -> None:
    assert plan_tools(request(), SUPPORT) is NO_TOOLS
    assert plan_tools(request(LOOK, tool_choice=ToolChoice(ToolMode.NONE)), SUPPORT) is NO_TOOLS


def test_left_to_the_model_they_are_read_in_its_format() -> None:
    plan = plan_tools(request(LOOK, NOW), SUPPORT)
    assert (plan.format, plan.structure, plan.only_one) == (ToolFormat.DEEPSEEK, None, False)
    assert plan.names == {"look", "now"}
    assert plan_tools(request(LOOK, parallel_tool_calls=False), SUPPORT).only_one


def test_a_demanded_call_leaves_no_other_answer() -> None:
    form = schema(request(LOOK, NOW, tool_choice=REQUIRED))
    assert (form["type"], form["minItems"], len(form["items"]["anyOf"])) == ("array", 1, 2)
    one = schema(request(LOOK, tool_choice=REQUIRED, parallel_tool_calls=False))
    assert one["properties"]["name"] == {"const": "look"}
    assert one["properties"]["arguments"] == {
        "type": "object",
        "properties": {"at": {"type": "string"}},
        "required": ["at"],
        "additionalProperties": False,
    }


def test_of_a_named_tool_there_is_one_call() -> None:
    made = request(LOOK, NOW, tool_choice=ToolChoice(ToolMode.NAMED, "now"))
    plan = plan_tools(made, SUPPORT)
    assert (plan.names, plan.only_one, plan.format) == ({"now"}, True, ToolFormat.FORCED)
    assert schema(made)["properties"]["arguments"]["properties"] == {}


def test_definitions_of_two_tools_do_not_meet() -> None:
    def tool(name: str, kind: str) -> Tool:
        parameters = {"properties": {"x": {"$ref": "#/$defs/T"}}, "$defs": {"T": {"type": kind}}}
        return Tool(name=name, parameters=json.dumps(parameters))

    form = schema(request(tool("a", "string"), tool("b", "integer"), tool_choice=REQUIRED))
    assert form["$defs"] == {"t0_T": {"type": "string"}, "t1_T": {"type": "integer"}}
    assert [call["properties"]["arguments"]["properties"]["x"]["$ref"] for call in form["items"]["anyOf"]] == [
        "#/$defs/t0_T",
        "#/$defs/t1_T",
    ]


def test_what_a_tool_says_of_other_parameters_holds() -> None:
    open_tool = Tool(name="o", parameters='{"properties": {}, "additionalProperties": true}')
    form = schema(request(open_tool, tool_choice=REQUIRED, parallel_tool_calls=False))
    assert form["properties"]["arguments"]["additionalProperties"] is True


FORM = Structure(kind=StructureKind.JSON_OBJECT)


@pytest.mark.parametrize(
    ("made", "param"),
    [
        (request(LOOK, LOOK), "tools[1].name"),
        (request(Tool(name="a b")), "tools[0].name"),
        (request(*(Tool(name=f"t{n}") for n in range(MAX_TOOLS + 1))), "tools"),
        (request(LOOK, tool_choice=ToolChoice(ToolMode.NAMED, "no")), "tool_choice"),
        (request(tool_choice=REQUIRED), "tool_choice"),
        (request(LOOK, structure=FORM), "response_format"),
    ],
)
def test_refusals(made: ChatRequest, param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        check_tools(made)
    assert caught.value.details["param"] == param


def test_a_form_beside_tools_that_may_not_be_called() -> None:
    check_tools(request(LOOK, structure=FORM, tool_choice=ToolChoice(ToolMode.NONE)))
