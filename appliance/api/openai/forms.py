"""Tools, choices and forms of answers: from OpenAI's wire types to those of the serving layer."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from appliance.engine.request import Structure, StructureKind
from appliance.errors import InvalidRequest
from appliance.schemas.openai_tools import (
    AllowedTools,
    JsonObjectFormat,
    JsonSchemaFormat,
    NamedTool,
    ResponseFormat,
    StructuredOutputs,
    ToolChoiceBody,
    ToolDefinition,
)
from appliance.serving.types import Tool, ToolChoice, ToolMode

_SPECIAL = re.compile(r"([\\.+*?()|\[\]{}^$/-])")


def to_tools(
    tools: Sequence[ToolDefinition] | None, choice: ToolChoiceBody | None
) -> tuple[tuple[Tool, ...], ToolChoice]:
    """The tools of the request, without those that ``allowed_tools`` leaves out, and the choice. Raises
    InvalidRequest."""
    known = tuple(
        Tool(
            name=tool.function.name,
            description=tool.function.description,
            parameters=None if tool.function.parameters is None else _json(tool.function.parameters),
            strict=bool(tool.function.strict),
        )
        for tool in tools or ()
    )
    if isinstance(choice, NamedTool):
        return known, ToolChoice(ToolMode.NAMED, choice.function.name)
    if isinstance(choice, AllowedTools):
        allowed = {tool.function.name for tool in choice.allowed_tools.tools}
        if unknown := sorted(allowed - {tool.name for tool in known}):
            raise InvalidRequest(
                f"tool_choice allows '{unknown[0]:.128}', which is not among the tools.", param="tool_choice"
            )
        return tuple(tool for tool in known if tool.name in allowed), ToolChoice(ToolMode(choice.allowed_tools.mode))
    return known, ToolChoice(ToolMode(choice or "auto"))


def to_structure(response_format: ResponseFormat | None, outputs: StructuredOutputs | None) -> Structure | None:
    """The form that the answer must have. Raises InvalidRequest for two of them."""
    structure = _of_response_format(response_format)
    given = {} if outputs is None else outputs.given()
    if not given:
        return structure
    if structure is not None or len(given) > 1:
        raise InvalidRequest("The answer can have one form; more were asked for.", param="structured_outputs")
    name, value = next(iter(given.items()))
    if name == "json":
        return Structure(kind=StructureKind.JSON_SCHEMA, text=value if isinstance(value, str) else _json(value))
    if name == "json_object":
        return Structure(kind=StructureKind.JSON_OBJECT)
    if name == "choice":
        choices = [_SPECIAL.sub(r"\\\1", text) for text in value]
        return Structure(kind=StructureKind.REGEX, text="|".join(f"({choice})" for choice in choices))
    return Structure(kind=StructureKind(name), text=value)


def _of_response_format(response_format: ResponseFormat | None) -> Structure | None:
    if isinstance(response_format, JsonObjectFormat):
        return Structure(kind=StructureKind.JSON_OBJECT)
    if isinstance(response_format, JsonSchemaFormat):
        schema = response_format.json_schema.schema_
        if schema is None:
            return Structure(kind=StructureKind.JSON_OBJECT)
        return Structure(kind=StructureKind.JSON_SCHEMA, text=_json(schema))
    return None


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
