"""``POST /v1/responses``: the request, after OpenAI's API reference.

Items of the input are what clients write themselves and what they got back of earlier responses; so all fields of our
own output are known here.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, JsonValue, Tag

from appliance.schemas.openai_thinking import EffortName
from appliance.schemas.openai_tools import JsonObjectFormat, TextFormat
from appliance.schemas.unions import TAG, tag_of


class _Wire(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, protected_namespaces=(), populate_by_name=True)


class InputPart(BaseModel):
    """A piece of a message (``input_text``, ``output_text``, ``text``, ``refusal``) or of a thought
    (``reasoning_text``, ``summary_text``). Others are parsed so that they can be refused by name."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True)

    type: str
    text: str | None = None
    refusal: str | None = None


Parts = Annotated[list[InputPart], Field(fail_fast=True, max_length=1_000)]
Status = Literal["in_progress", "completed", "incomplete"]


class MessageItem(_Wire):
    """A turn. ``type`` may be left out."""

    type: Literal["message"] = "message"
    role: Literal["user", "assistant", "system", "developer"]
    content: str | Parts
    id: str | None = None
    status: Status | None = None
    phase: str | None = None


class FunctionCallItem(_Wire):
    """A call that the model made."""

    type: Literal["function_call"]
    call_id: str
    name: str
    arguments: str
    id: str | None = None
    status: Status | None = None
    namespace: None = None


class FunctionCallOutputItem(_Wire):
    """What a call gave."""

    type: Literal["function_call_output"]
    call_id: str
    output: str | Parts
    id: str | None = None
    status: Status | None = None


class ReasoningItem(_Wire):
    """A thought of an earlier response."""

    type: Literal["reasoning"]
    summary: Parts | None = None
    content: Parts | None = None
    encrypted_content: str | None = None
    id: str | None = None
    status: Status | None = None


class ReferenceItem(_Wire):
    """An item of a stored response."""

    type: Literal["item_reference"]
    id: str


class OtherItem(BaseModel):
    """Of tools that OpenAI runs itself; parsed so that it can be refused by name."""

    model_config = ConfigDict(extra="allow", frozen=True)

    type: str


_KNOWN = ("message", "function_call", "function_call_output", "reasoning", "item_reference")


def _item_tag(value: Any) -> str:
    tag = tag_of(value)
    if tag is None:
        return f"{TAG}message"
    return tag if tag.removeprefix(TAG) in _KNOWN else f"{TAG}other"


InputItem = Annotated[
    Annotated[MessageItem, Tag("type:message")]
    | Annotated[FunctionCallItem, Tag("type:function_call")]
    | Annotated[FunctionCallOutputItem, Tag("type:function_call_output")]
    | Annotated[ReasoningItem, Tag("type:reasoning")]
    | Annotated[ReferenceItem, Tag("type:item_reference")]
    | Annotated[OtherItem, Tag("type:other")],
    Discriminator(_item_tag),
]


class FunctionTool(_Wire):
    """A function that the model may call."""

    type: Literal["function"]
    name: str = Field(min_length=1, max_length=128)
    description: str | None = None
    parameters: dict[str, JsonValue] | None = None
    strict: bool | None = None
    defer_loading: Literal[False] | None = None


class NamedFunctionTool(_Wire):
    """A function by its name."""

    type: Literal["function"]
    name: str


class AllowedFunctionTools(_Wire):
    """Narrows the tools for one response."""

    type: Literal["allowed_tools"]
    mode: Literal["auto", "required"]
    tools: list[NamedFunctionTool] = Field(fail_fast=True, min_length=1, max_length=128)


ResponseToolChoice = (
    Literal["none", "auto", "required"]
    | Annotated[
        Annotated[NamedFunctionTool, Tag("type:function")] | Annotated[AllowedFunctionTools, Tag("type:allowed_tools")],
        Discriminator(tag_of),
    ]
)


class JsonSchemaTextFormat(_Wire):
    """JSON that follows ``schema``."""

    type: Literal["json_schema"]
    name: str = Field(min_length=1, max_length=64)
    schema_: dict[str, JsonValue] = Field(alias="schema")
    description: str | None = None
    strict: bool | None = None


class TextOptions(_Wire):
    """The form of the answer."""

    format: (
        Annotated[
            Annotated[TextFormat, Tag("type:text")]
            | Annotated[JsonObjectFormat, Tag("type:json_object")]
            | Annotated[JsonSchemaTextFormat, Tag("type:json_schema")],
            Discriminator(tag_of),
        ]
        | None
    ) = None
    verbosity: Literal["medium"] | None = None


class ReasoningOptions(_Wire):
    """``effort`` as in chat completions. Nobody here summarises thoughts: they come whole."""

    effort: EffortName | None = None
    summary: str | None = None
    generate_summary: str | None = None


class ResponseStreamOptions(_Wire):
    """Nothing of it applies here."""

    include_obfuscation: bool | None = None


class ResponseRequest(_Wire):
    """The body of ``POST /v1/responses``."""

    model: str = Field(min_length=1, max_length=256)
    input: str | Annotated[list[InputItem], Field(fail_fast=True, min_length=1, max_length=10_000)]
    instructions: str | None = None
    previous_response_id: str | None = Field(default=None, max_length=128)
    store: bool | None = None
    stream: bool | None = None
    stream_options: ResponseStreamOptions | None = None
    include: Annotated[list[str], Field(fail_fast=True, max_length=32)] | None = None
    max_output_tokens: int | None = Field(default=None, ge=1, le=2**31 - 1)
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, gt=0, le=1)
    top_logprobs: int | None = Field(default=None, ge=0, le=20)
    tools: Annotated[list[FunctionTool], Field(fail_fast=True, max_length=128)] | None = None
    tool_choice: ResponseToolChoice | None = None
    parallel_tool_calls: bool | None = None
    text: TextOptions | None = None
    reasoning: ReasoningOptions | None = None
    truncation: Literal["auto", "disabled"] | None = None
    deadline_s: float | None = Field(default=None, ge=0, le=86_400)
    metadata: dict[str, str] | None = Field(default=None, max_length=16)

    # Accepted without effect: see RESPONSE_IGNORED.
    user: str | None = None
    service_tier: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: str | None = None
    max_tool_calls: int | None = None

    # Known, and refused unless neutral: see RESPONSE_UNSUPPORTED.
    background: JsonValue = None
    conversation: JsonValue = None
    prompt: JsonValue = None
    context_management: JsonValue = None


RESPONSE_IGNORED = (
    *("user", "service_tier", "safety_identifier", "prompt_cache_key", "prompt_cache_retention", "max_tool_calls"),
    "stream_options",
)

RESPONSE_UNSUPPORTED: dict[str, tuple[Any, ...]] = {
    "background": (False,),
    "conversation": (),
    "prompt": (),
    "context_management": ([],),
}
"""As ``openai_request.UNSUPPORTED``."""

INCLUDES = ("reasoning.encrypted_content", "message.output_text.logprobs")
"""What ``include`` may ask for."""
