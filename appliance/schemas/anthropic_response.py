"""Responses of Anthropic's endpoints. ``appliance.api.anthropic.events`` writes the stream's form of them faster."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator

from appliance.schemas.openai_response import TrimmedBody


class _Wire(BaseModel):
    model_config = ConfigDict(frozen=True)


StopReason = Literal["end_turn", "max_tokens", "stop_sequence", "tool_use"]


class TextBlock(_Wire):
    """A part of the answer."""

    type: Literal["text"] = "text"
    text: str


class ThinkingBlock(_Wire):
    """The thought. ``signature`` is opaque, proves nothing and is never checked: it is there because clients look for
    it and send it back."""

    type: Literal["thinking"] = "thinking"
    thinking: str
    signature: str


class ToolUseBlock(_Wire):
    """A call that the model asks for."""

    type: Literal["tool_use"] = "tool_use"
    id: str
    name: str
    input: dict[str, Any]


class OutputTokensDetails(_Wire):
    """``thinking_tokens`` are among the output's."""

    thinking_tokens: int


class MessageUsage(_Wire):
    """Token counts of one request. The prompt has ``input_tokens`` and ``cache_read_input_tokens`` together.

    Additions of R1 Box: ``trimmed``, ``thinking_end`` and ``answer_looped``, as in ``openai_response.UsageBody``.
    """

    input_tokens: int
    output_tokens: int
    cache_read_input_tokens: int
    cache_creation_input_tokens: Literal[0] = 0
    output_tokens_details: OutputTokensDetails
    trimmed: TrimmedBody | None = None
    thinking_end: Literal["natural", "budget", "loop", "asked"] | None = None
    answer_looped: Literal[True] | None = None


class Message(_Wire):
    """The whole answer."""

    id: str
    type: Literal["message"] = "message"
    role: Literal["assistant"] = "assistant"
    model: str
    content: list[Annotated[ThinkingBlock | TextBlock | ToolUseBlock, Discriminator("type")]]
    stop_reason: StopReason | None
    stop_sequence: str | None = None
    usage: MessageUsage


class TokenCount(_Wire):
    """The prompt's tokens as the model sees it, template and tools included."""

    input_tokens: int


class ModelInfo(_Wire):
    """A model, as ``GET /v1/models`` has it when the header ``anthropic-version`` is sent. ``max_input_tokens`` is what
    a seat holds, unknown while it is not loaded."""

    type: Literal["model"] = "model"
    id: str
    display_name: str
    created_at: str
    lifecycle: Literal["active"] = "active"
    max_input_tokens: int | None = None
    max_tokens: int | None = None


class ModelPage(_Wire):
    """A page of them."""

    data: list[ModelInfo]
    has_more: bool
    first_id: str | None
    last_id: str | None
