"""``POST /v1/messages`` and ``/v1/messages/count_tokens``: the requests, after Anthropic's API reference.

``trim`` and ``deadline_s`` are additions of R1 Box, as in ``openai_request``, which has the rules of all bodies: strict
types, no unknown field, three groups of fields.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, JsonValue, Tag

from appliance.schemas.unions import tag_of


class _Wire(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, protected_namespaces=())


class Source(BaseModel):
    """Where a document's content is. Only ``text`` and ``content`` are read; others are refused by name."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True)

    type: str
    media_type: str | None = None
    data: str | None = None
    content: str | list[Block] | None = None


class Block(BaseModel):
    """A block of content, of any type: ``anthropic.blocks`` says which are read, and which of their fields."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True)

    type: str
    text: str | None = None
    thinking: str | None = None
    signature: str | None = None
    data: str | None = None
    id: str | None = None
    name: str | None = None
    input: dict[str, JsonValue] | None = None
    tool_use_id: str | None = None
    content: str | list[Block] | None = None
    is_error: bool | None = None
    source: Source | None = None
    title: str | None = None
    context: str | None = None
    citations: JsonValue = None
    cache_control: JsonValue = None


Source.model_rebuild()

_Blocks = Annotated[list[Block], Field(fail_fast=True, max_length=10_000)]


class MessageBody(_Wire):
    """One turn. ``system`` in the middle of a conversation is an instruction that holds from there on."""

    role: Literal["user", "assistant", "system"]
    content: str | _Blocks


class ThinkingEnabled(_Wire):
    """Think, and show it. ``display`` ``omitted`` leaves the text out and keeps the block."""

    type: Literal["enabled"]
    budget_tokens: int | None = Field(default=None, ge=0, le=2**31 - 1)
    display: Literal["summarized", "omitted"] | None = None


class ThinkingAdaptive(_Wire):
    """Think as long as it takes."""

    type: Literal["adaptive"]
    display: Literal["summarized", "omitted"] | None = None


class ThinkingDisabled(_Wire):
    """Do not think."""

    type: Literal["disabled"]


ThinkingConfig = Annotated[
    Annotated[ThinkingEnabled, Tag("type:enabled")]
    | Annotated[ThinkingAdaptive, Tag("type:adaptive")]
    | Annotated[ThinkingDisabled, Tag("type:disabled")],
    Discriminator(tag_of),
]


class JsonFormat(_Wire):
    """JSON that follows a schema."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, protected_namespaces=(), populate_by_name=True)

    type: Literal["json_schema"]
    schema_: dict[str, JsonValue] = Field(alias="schema")


class OutputConfig(_Wire):
    """How long to think, and the form of the answer."""

    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = None
    format: JsonFormat | None = None


class ToolBody(_Wire):
    """A tool that the model may ask for. Types beside ``custom`` are tools of Anthropic's own servers."""

    type: Literal["custom"] | None = None
    name: str = Field(min_length=1, max_length=128)
    description: str | None = None
    input_schema: dict[str, JsonValue]
    strict: bool | None = None

    # Accepted without effect.
    cache_control: JsonValue = None
    eager_input_streaming: JsonValue = None
    input_examples: JsonValue = None
    allowed_callers: JsonValue = None
    defer_loading: JsonValue = None


class ToolChoiceBody(_Wire):
    """``name`` belongs to ``tool``."""

    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


_StopText = Annotated[str, Field(min_length=1, max_length=1024)]


class PromptFields(_Wire):
    """What both endpoints take."""

    model: str = Field(min_length=1, max_length=256)
    messages: list[MessageBody] = Field(fail_fast=True, min_length=1, max_length=10_000)
    system: str | _Blocks | None = None
    thinking: ThinkingConfig | None = None
    tools: Annotated[list[ToolBody], Field(fail_fast=True, max_length=128)] | None = None
    tool_choice: ToolChoiceBody | None = None
    output_config: OutputConfig | None = None

    # Accepted without effect: see IGNORED.
    cache_control: JsonValue = None
    context_management: JsonValue = None
    diagnostics: JsonValue = None
    speed: JsonValue = None

    # Known, and refused unless neutral: see UNSUPPORTED.
    mcp_servers: JsonValue = None
    container: JsonValue = None


class CountTokensRequest(PromptFields):
    """The body of ``POST /v1/messages/count_tokens``."""


class MessagesRequest(PromptFields):
    """The body of ``POST /v1/messages``."""

    max_tokens: int = Field(ge=1, le=2**31 - 1)
    stream: bool | None = None
    stop_sequences: Annotated[list[_StopText], Field(fail_fast=True, max_length=16)] | None = None
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, gt=0, le=1)
    top_k: int | None = Field(default=None, ge=0, le=2**31 - 1)
    trim: Literal["turns"] | None = None
    deadline_s: float | None = Field(default=None, ge=0, le=86_400)

    # Accepted without effect: see IGNORED.
    metadata: JsonValue = None
    service_tier: JsonValue = None
    inference_geo: JsonValue = None


COUNT_IGNORED = ("cache_control", "context_management", "diagnostics", "speed")
IGNORED = (*COUNT_IGNORED, "metadata", "service_tier", "inference_geo")
"""Fields that are accepted and change nothing; an answer's header names those that were sent."""

TOOL_IGNORED = ("cache_control", "eager_input_streaming", "input_examples", "allowed_callers", "defer_loading")
"""The same of a tool."""

UNSUPPORTED: dict[str, tuple[Any, ...]] = {"mcp_servers": ([],), "container": ()}
"""Fields that are not there, with the values beside null that ask for nothing."""
