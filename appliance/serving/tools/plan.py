"""What a request's tools and ``tool_choice`` mean for prompt, grammar and reading of its answer."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from typing import Any

from appliance.engine.request import Structure, StructureKind
from appliance.errors import InvalidRequest
from appliance.serving.tools.format import ToolFormat
from appliance.serving.tools.schemas import call_schema
from appliance.serving.tools.strict import MarkIds, strict_structure
from appliance.serving.tools.support import ToolSupport
from appliance.serving.types import ChatRequest, Tool, ToolMode

MAX_TOOLS = 128
MAX_FORCED_CALLS = 8
NOT_ENFORCED = "strict=not-enforced"
_NAME = re.compile(r"[A-Za-z0-9_.:-]{1,128}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolPlan:
    """``offered`` are the tools that the model hears of, ``format`` is how it writes calls. ``structure`` is set when a
    call is demanded: nothing else can be written then; and for strict tools, whose calls then follow their schemas.
    ``only_one``: a first call is enough. ``changes`` as in ``serving.profile``."""

    offered: tuple[Tool, ...]
    format: ToolFormat
    structure: Structure | None = None
    only_one: bool = False
    changes: tuple[str, ...] = ()

    @property
    def names(self) -> frozenset[str]:
        """Of the tools that may be called."""
        return frozenset(tool.name for tool in self.offered)


NO_TOOLS = ToolPlan(offered=(), format=ToolFormat.HERMES)


def check_tools(request: ChatRequest) -> None:
    """Raises InvalidRequest for tools that cannot be told apart, and for a choice that no tool fits."""
    names = [tool.name for tool in request.tools]
    if len(names) > MAX_TOOLS:
        raise InvalidRequest(f"At most {MAX_TOOLS} tools are taken; got {len(names)}.", param="tools")
    for number, name in enumerate(names):
        if _NAME.fullmatch(name) is None:
            raise InvalidRequest(
                f"The name of tools[{number}] should have 1 to 128 letters, digits, '_', '-', '.' or ':'.",
                param=f"tools[{number}].name",
            )
        if name in names[:number]:
            raise InvalidRequest(f"There are two tools of the name '{name}'.", param=f"tools[{number}].name")
    choice = request.tool_choice
    if choice.mode is ToolMode.NAMED and choice.name not in names:
        raise InvalidRequest(f"tool_choice names '{choice.name}', which is not among the tools.", param="tool_choice")
    if choice.mode is ToolMode.REQUIRED and not names:
        raise InvalidRequest("tool_choice demands a call, but there are no tools.", param="tool_choice")
    may_call = bool(names) and choice.mode is not ToolMode.NONE
    if may_call and request.structure is not None:
        raise InvalidRequest(
            "An answer of a given form leaves no way to call a tool: send one of the two, or tool_choice 'none'.",
            param="response_format",
        )


def wants_grammar(request: ChatRequest) -> bool:
    """Whether calls that the model may write or not are to follow schemas."""
    return request.tool_choice.mode is ToolMode.AUTO and any(tool.strict for tool in request.tools)


def plan_tools(request: ChatRequest, support: ToolSupport, marks: MarkIds | None = None) -> ToolPlan:
    """The plan for a request that passed ``check_tools``. Of a NAMED choice only that tool is offered: the others would
    cost tokens for nothing. ``marks`` is None for an engine that cannot bind calls within free text."""
    choice = request.tool_choice
    if not request.tools or choice.mode is ToolMode.NONE:
        return NO_TOOLS
    only_one = not request.parallel_tool_calls or choice.mode is ToolMode.NAMED
    if choice.mode is ToolMode.AUTO:
        plan = ToolPlan(offered=request.tools, format=support.format, only_one=only_one)
        if not wants_grammar(request):
            return plan
        if marks is None:
            return replace(plan, changes=(NOT_ENFORCED,))
        return replace(plan, structure=strict_structure(request.tools, support.format, marks))
    offered = tuple(tool for tool in request.tools if choice.mode is ToolMode.REQUIRED or tool.name == choice.name)
    structure = Structure(kind=StructureKind.JSON_SCHEMA, text=json.dumps(_demanded(offered, only_one=only_one)))
    return ToolPlan(offered=offered, format=ToolFormat.FORCED, structure=structure, only_one=only_one)


def _demanded(tools: tuple[Tool, ...], *, only_one: bool) -> dict[str, Any]:
    """The schema of one call, or of a list of them. Each tool's schema keeps its own ``$defs``, whose references would
    lead nowhere from inside another schema, so they move to the outside under names of their own."""
    definitions: dict[str, Any] = {}
    calls = [call_schema(number, tool, definitions) for number, tool in enumerate(tools)]
    call = calls[0] if len(calls) == 1 else {"anyOf": calls}
    schema = call if only_one else {"type": "array", "items": call, "minItems": 1, "maxItems": MAX_FORCED_CALLS}
    return {**schema, "$defs": definitions} if definitions else schema
