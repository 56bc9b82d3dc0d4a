"""The answer file's form for others: a JSON Schema for editors and checkers, and the table in docs/install.md."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

from installer.answers import Answers

SCHEMA_URL = "https://json-schema.org/draft/2020-12/schema"


def schema_text() -> str:
    """What installer/answers.schema.json holds."""
    schema = {"$schema": SCHEMA_URL, **Answers.model_json_schema(by_alias=True)}
    schema["title"] = "R1 Box answer file"
    return json.dumps(schema, indent=2, sort_keys=True) + "\n"


def reference() -> str:
    """Markdown: one table for each table of the file."""
    return "\n\n".join(_table(name, model) for name, model in _tables("", Answers)) + "\n"


def _tables(name: str, model: type[BaseModel]) -> Iterator[tuple[str, type[BaseModel]]]:
    yield name, model
    for key, field in model.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from _tables(f"{name}.{key}".lstrip("."), inner)


def _table(name: str, model: type[BaseModel]) -> str:
    properties: dict[str, Any] = model.model_json_schema(by_alias=True)["properties"]
    lines = [
        f"### `[{name}]`" if name else "### At the top",
        "",
        "| Key | Value | Default | Meaning |",
        "|---|---|---|---|",
    ]
    for key, field in model.model_fields.items():
        shown = field.alias or key
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            continue
        default = "required" if field.is_required() else _value(field.get_default(call_default_factory=True))
        lines.append(f"| `{shown}` | {_form(properties[shown])} | {default} | {field.description} |")
    return "\n".join(lines)


def _value(value: object) -> str:
    return "-" if value is None else f"`{json.dumps(value)}`"


def _form(schema: dict[str, Any]) -> str:
    if "anyOf" in schema:
        return " or ".join(_form(one) for one in schema["anyOf"] if one.get("type") != "null")
    if "const" in schema:
        return f"`{json.dumps(schema['const'])}`"
    if "enum" in schema:
        return ", ".join(f"`{json.dumps(value)}`" for value in schema["enum"])
    if schema["type"] == "array":
        return "list of texts"
    if schema["type"] == "integer":
        low, high = schema.get("minimum"), schema.get("maximum")
        return f"{low} to {high}" if high is not None else f"{low} or more"
    return {"string": "text", "boolean": "`true`, `false`"}[schema["type"]]
