"""The JSON schemas of calls: what a tool's arguments may be, alone and beside those of other tools."""

from __future__ import annotations

import json
from typing import Any

from appliance.serving.types import Tool

_COMPOSED = frozenset(("$ref", "allOf", "anyOf", "oneOf", "if", "patternProperties"))


def arguments_schema(tool: Tool) -> dict[str, Any]:
    """What a call of the tool passes."""
    return _closed(_given(tool))


def call_schema(number: int, tool: Tool, definitions: dict[str, Any]) -> dict[str, Any]:
    """A call, with its name. The definitions of the tool's schema go into ``definitions`` under names of their own, for
    several calls in one schema; ``number`` is the tool's among them."""
    arguments = _given(tool)
    for keyword in ("$defs", "definitions"):
        for name, definition in (arguments.pop(keyword, None) or {}).items():
            definitions[f"t{number}_{name}"] = _moved(definition, number)
    arguments = _moved(arguments, number)
    return {
        "type": "object",
        "properties": {"name": {"const": tool.name}, "arguments": _closed(arguments)},
        "required": ["name", "arguments"],
        "additionalProperties": False,
    }


def _given(tool: Tool) -> dict[str, Any]:
    arguments: Any = json.loads(tool.parameters) if tool.parameters else {"type": "object", "properties": {}}
    return {"type": "object", **(arguments if isinstance(arguments, dict) else {})}


def _closed(arguments: dict[str, Any]) -> dict[str, Any]:
    """What a schema does not forbid is allowed in it, but nobody wants parameters that the function does not have."""
    if "properties" in arguments and not _COMPOSED & arguments.keys():
        return {**arguments, "additionalProperties": arguments.get("additionalProperties", False)}
    return arguments


def _moved(schema: Any, number: int) -> Any:
    """``schema`` with its references to where ``call_schema`` puts the definitions."""
    if isinstance(schema, list):
        return [_moved(item, number) for item in schema]
    if not isinstance(schema, dict):
        return schema
    moved = {key: _moved(value, number) for key, value in schema.items()}
    reference = schema.get("$ref")
    if isinstance(reference, str):
        for keyword in ("#/$defs/", "#/definitions/"):
            if reference.startswith(keyword):
                moved["$ref"] = f"#/$defs/t{number}_{reference.removeprefix(keyword)}"
    return moved
