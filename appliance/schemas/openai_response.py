"""Responses of the OpenAI endpoints. ``appliance.api.openai.chunks`` writes the stream's form of them faster."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict


class _Wire(BaseModel):
    model_config = ConfigDict(frozen=True)


FinishReason = Literal["stop", "length"]


class PromptTokensDetails(_Wire):
    """``cached_tokens`` were not computed again."""

    cached_tokens: int


class CompletionTokensDetails(_Wire):
    """``reasoning_tokens`` are those of the thinking, counted in ``completion_tokens`` too."""

    reasoning_tokens: int


class TrimmedBody(_Wire):
    """An addition of R1 Box: the oldest ``turns`` of the conversation, ``tokens`` of the prompt, were left out as
    ``trim`` allows. With ``tokens_is_minimum`` they were at least so many."""

    turns: int
    tokens: int
    tokens_is_minimum: bool


class UsageBody(_Wire):
    """Token counts of one request, without what was ``trimmed``."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails
    completion_tokens_details: CompletionTokensDetails
    trimmed: TrimmedBody | None = None


class ResponseMessage(_Wire):
    """The answer; ``reasoning_content`` is the thinking before it, null when there was none.

    ``reasoning_format`` puts the thinking into ``reasoning`` instead, or into both; a field that is not wanted is not
    there.
    """

    role: Literal["assistant"] = "assistant"
    content: str
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: None = None


class Choice(_Wire):
    """The one answer of a request."""

    index: int = 0
    message: ResponseMessage
    logprobs: None = None
    finish_reason: FinishReason


class ChatCompletion(_Wire):
    """A whole answer. ``created`` is in seconds since 1970."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[Choice]
    usage: UsageBody


class Delta(_Wire):
    """What a chunk adds."""

    role: Literal["assistant"] | None = None
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None


class ChunkChoice(_Wire):
    """The one answer of a request, in part."""

    index: int = 0
    delta: Delta
    finish_reason: FinishReason | None = None


class ChatCompletionChunk(_Wire):
    """One event of a stream. Only the last has ``usage``, and no choice then."""

    id: str
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    created: int
    model: str
    choices: list[ChunkChoice]
    usage: UsageBody | None = None


class ModelCard(_Wire):
    """A model that is served. ``context_window`` (an addition of R1 Box) is what a chat may hold, in tokens."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "r1box"
    context_window: int | None = None


class ModelList(_Wire):
    """The models that are served."""

    object: Literal["list"] = "list"
    data: list[ModelCard]
