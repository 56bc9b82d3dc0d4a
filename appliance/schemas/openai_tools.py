"""Tools and forms of answers in OpenAI's requests."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, JsonValue, Tag

from appliance.schemas.unions import tag_of


class _Wire(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, protected_namespaces=())


class FunctionDefinition(_Wire):
    """``parameters`` is the JSON schema of the arguments; left out, there are none."""

    name: str = Field(min_length=1, max_length=128)
    description: str | None = None
    parameters: dict[str, JsonValue] | None = None
    strict: bool | None = None


class ToolDefinition(_Wire):
    """A tool that the model may ask for. Types beside ``function`` are tools of OpenAI's own servers."""

    type: Literal["function"]
    function: FunctionDefinition


class NamedFunction(_Wire):
    """A function by its name."""

    name: str


class NamedTool(_Wire):
    """The tool that must be called."""

    type: Literal["function"]
    function: NamedFunction


class AllowedToolSet(_Wire):
    """Some of the tools, and whether one of them must be called."""

    mode: Literal["auto", "required"]
    tools: list[NamedTool] = Field(fail_fast=True, min_length=1, max_length=128)


class AllowedTools(_Wire):
    """Narrows the tools for one request."""

    type: Literal["allowed_tools"]
    allowed_tools: AllowedToolSet


ToolChoiceBody = (
    Literal["none", "auto", "required"]
    | Annotated[
        Annotated[NamedTool, Tag("type:function")] | Annotated[AllowedTools, Tag("type:allowed_tools")],
        Discriminator(tag_of),
    ]
)


class JsonSchemaForm(_Wire):
    """``schema`` is the JSON schema; left out, any object will do. The answer always follows it: ``strict`` false asks
    for less than what it gets."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, protected_namespaces=(), populate_by_name=True)

    name: str = Field(min_length=1, max_length=64)
    description: str | None = None
    schema_: dict[str, JsonValue] | None = Field(default=None, alias="schema")
    strict: bool | None = None


class TextFormat(_Wire):
    """Any text."""

    type: Literal["text"]


class JsonObjectFormat(_Wire):
    """Any JSON object."""

    type: Literal["json_object"]


class JsonSchemaFormat(_Wire):
    """JSON that follows a schema."""

    type: Literal["json_schema"]
    json_schema: JsonSchemaForm


ResponseFormat = Annotated[
    Annotated[TextFormat, Tag("type:text")]
    | Annotated[JsonObjectFormat, Tag("type:json_object")]
    | Annotated[JsonSchemaFormat, Tag("type:json_schema")],
    Discriminator(tag_of),
]


class StructuredOutputs(_Wire):
    """Other forms, as vLLM has them; exactly one. ``json`` is a schema, ``regex`` must match the whole answer,
    ``choice`` is one of these texts, ``grammar`` is in Lark's notation."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, protected_namespaces=(), populate_by_name=True)

    json_: dict[str, JsonValue] | str | None = Field(default=None, alias="json")
    regex: str | None = None
    choice: Annotated[list[str], Field(fail_fast=True, min_length=1, max_length=1_000)] | None = None
    grammar: str | None = None
    json_object: bool | None = None

    def given(self) -> dict[str, Any]:
        """What is set, by the names of the wire."""
        return {
            name: value
            for name, value in self.model_dump(by_alias=True).items()
            if value is not None and value is not False
        }
