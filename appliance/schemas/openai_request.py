"""``POST /v1/chat/completions``: the request, after OpenAI's API reference and DeepSeek's ``reasoning_content``.

``trim`` and ``reasoning_format`` are additions of R1 Box; ``top_k``, ``min_p``, ``repeat_penalty``,
``structured_outputs`` and ``continue_final_message`` are vLLM's, ``prefix`` is DeepSeek's.

Types are strict (``"0.7"`` is not a number) and unknown fields are refused: a parameter that is dropped in silence
costs its sender hours. Three groups: fields that are honoured; fields that are accepted because they change nothing
here (``user``, ``metadata`` ...); fields that OpenAI has and this box has not, which may hold only their neutral value
(``UNSUPPORTED``).

Lists stop at their first bad item: else a body of megabytes could hold millions of errors, each an object.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from appliance.schemas.openai_thinking import ThinkingFields
from appliance.schemas.openai_tools import ResponseFormat, StructuredOutputs, ToolChoiceBody, ToolDefinition

Role = Literal["system", "developer", "user", "assistant", "tool"]


class _Wire(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, protected_namespaces=())


class ContentPart(BaseModel):
    """A piece of a message. Honoured are ``{"type": "text", "text": ...}`` and, in an assistant's message, a thought
    that is sent back (``THOUGHT_PARTS``); others (image_url, input_audio ...) are parsed so that they can be refused
    by their name."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True)

    type: str
    text: str | None = None


class FunctionCall(_Wire):
    """``arguments`` is JSON as text, as the model wrote it."""

    name: str
    arguments: str


class ToolCall(_Wire):
    """A call that the assistant made in an earlier turn. ``index`` is of streams; some clients send it back.
    ``provider_specific_fields`` are LiteLLM's own, which nobody else reads."""

    id: str
    index: int | None = None
    type: Literal["function"] = "function"
    function: FunctionCall
    provider_specific_fields: JsonValue = None


class RequestMessage(_Wire):
    """One turn. Clients send an assistant's turn back as they got it, so all fields of a response are known here.

    A thought that is sent back is never an error: its fields, here those of OpenAI-like APIs, Ollama, OpenRouter and
    LiteLLM, take any JSON. ``prefix``: the last message is the beginning of the answer, which goes on from its end.
    ``provider_specific_fields`` as in ``ToolCall``.
    """

    role: Role
    content: str | Annotated[list[ContentPart], Field(fail_fast=True, max_length=1_000)] | None = None
    name: str | None = None
    tool_calls: Annotated[list[ToolCall], Field(fail_fast=True, max_length=1_000)] | None = None
    tool_call_id: str | None = None
    reasoning_content: JsonValue = None
    reasoning: JsonValue = None
    reasoning_details: JsonValue = None
    thinking: JsonValue = None
    thinking_blocks: JsonValue = None
    refusal: str | None = None
    annotations: list[JsonValue] | None = None
    audio: None = None
    function_call: None = None
    prefix: bool | None = None
    provider_specific_fields: JsonValue = None


class StreamOptions(_Wire):
    """``include_usage`` adds one chunk with the token counts before the end."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None


_Bias = Annotated[float, Field(ge=-100, le=100)]
_Penalty = Annotated[float, Field(ge=-2, le=2)]
_StopText = Annotated[str, Field(min_length=1, max_length=1024)]


class ChatCompletionRequest(ThinkingFields):
    """The body of ``POST /v1/chat/completions``."""

    model: str = Field(min_length=1, max_length=256)
    messages: list[RequestMessage] = Field(fail_fast=True, min_length=1, max_length=10_000)
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: int | None = Field(default=None, ge=1, le=2**31 - 1)
    max_completion_tokens: int | None = Field(default=None, ge=1, le=2**31 - 1)
    stop: _StopText | Annotated[list[_StopText], Field(fail_fast=True, max_length=4)] | None = None
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, gt=0, le=1)
    top_k: int | None = Field(default=None, ge=0, le=2**31 - 1)
    min_p: float | None = Field(default=None, ge=0, le=1)
    presence_penalty: _Penalty | None = None
    frequency_penalty: _Penalty | None = None
    repeat_penalty: float | None = Field(default=None, gt=0, le=2)
    seed: int | None = Field(default=None, ge=-(2**63), le=2**63 - 1)
    logit_bias: dict[int, _Bias] | None = Field(default=None, max_length=1024)
    n: int | None = Field(default=None, ge=1, le=8)
    tools: Annotated[list[ToolDefinition], Field(fail_fast=True, max_length=128)] | None = None
    tool_choice: ToolChoiceBody | None = None
    parallel_tool_calls: bool | None = None
    response_format: ResponseFormat | None = None
    structured_outputs: StructuredOutputs | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = Field(default=None, ge=0, le=20)
    continue_final_message: bool | None = None
    add_generation_prompt: bool | None = None
    trim: Literal["turns"] | None = None
    deadline_s: float | None = Field(default=None, ge=0, le=86_400)
    reasoning_format: Literal["reasoning_content", "reasoning", "both", "inline", "hidden"] | None = None

    # Accepted without effect: see IGNORED.
    user: str | None = None
    metadata: dict[str, str] | None = Field(default=None, max_length=16)
    store: bool | None = None
    service_tier: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None

    # Known, and refused unless neutral: see UNSUPPORTED.
    functions: JsonValue = None
    function_call: JsonValue = None
    modalities: JsonValue = None
    audio: JsonValue = None
    prediction: JsonValue = None
    verbosity: JsonValue = None
    web_search_options: JsonValue = None
    best_of: JsonValue = None


THOUGHT_FIELDS = ("reasoning_content", "reasoning", "thinking", "reasoning_details", "thinking_blocks")
"""Fields of a message in which clients send an earlier thought back; the first that holds one counts."""

THOUGHT_PARTS = frozenset(("thinking", "redacted_thinking", "reasoning", "reasoning_content"))
"""Types of content parts in which they do the same."""

IGNORED = ("user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key")
"""Fields that are accepted and change nothing; an answer's header names those that were sent."""

UNSUPPORTED: dict[str, tuple[Any, ...]] = {
    "functions": ([],),
    "function_call": ("none", "auto"),
    "modalities": (["text"],),
    "audio": (),
    "prediction": (),
    "verbosity": (),
    "web_search_options": (),
    "best_of": (1,),
}
"""Fields that are not there, with the values beside null that ask for nothing."""
