"""Responses of the OpenAI endpoints. ``appliance.api.openai.chunks`` writes the stream's form of them faster."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict


class _Wire(BaseModel):
    model_config = ConfigDict(frozen=True)


FinishReason = Literal["stop", "length", "tool_calls"]


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
    """Token counts of one request, without what was ``trimmed``.

    Additions of R1 Box: ``thinking_end`` says how the thought ended (of several answers: the first that did
    not end by itself), ``answer_looped`` that an answer went in circles and was cut off.
    """

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails
    completion_tokens_details: CompletionTokensDetails
    trimmed: TrimmedBody | None = None
    thinking_end: Literal["natural", "budget", "loop", "asked"] | None = None
    answer_looped: Literal[True] | None = None


class CalledFunction(_Wire):
    """``arguments`` is JSON as text."""

    name: str
    arguments: str


class ResponseToolCall(_Wire):
    """A tool that the model wants called; its result comes back in a message of the role ``tool`` with this ``id``."""

    id: str
    type: Literal["function"] = "function"
    function: CalledFunction


class TopLogprob(_Wire):
    """A token that could have stood there. ``bytes`` is its UTF-8, which may be part of a character."""

    token: str
    logprob: float
    bytes: list[int]


class ContentLogprob(TopLogprob):
    """A token of the answer; ``top_logprobs`` are the likeliest in its place."""

    top_logprobs: list[TopLogprob]


class ChoiceLogprobs(_Wire):
    """Those of the answer's text; thoughts and tool calls have none."""

    content: list[ContentLogprob]
    refusal: None = None


class ResponseMessage(_Wire):
    """The answer, null when there are tool calls alone; ``reasoning_content`` is the thinking before it, null when
    there was none. Without calls ``tool_calls`` is not there.

    ``reasoning_format`` puts the thinking into ``reasoning`` instead, or into both; a field that is not wanted is not
    there.
    """

    role: Literal["assistant"] = "assistant"
    content: str | None
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: None = None
    tool_calls: list[ResponseToolCall] | None = None


class Choice(_Wire):
    """One of the ``n`` answers of a request."""

    index: int = 0
    message: ResponseMessage
    logprobs: ChoiceLogprobs | None = None
    finish_reason: FinishReason


class ChatCompletion(_Wire):
    """A whole answer. ``created`` is in seconds since 1970."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[Choice]
    usage: UsageBody


class FunctionDelta(_Wire):
    """More of a call; ``name`` comes first."""

    name: str | None = None
    arguments: str = ""


class ToolCallChunk(_Wire):
    """More of the call with this ``index``; the first has ``id`` and ``type``."""

    index: int
    id: str | None = None
    type: Literal["function"] | None = None
    function: FunctionDelta


class Delta(_Wire):
    """What a chunk adds."""

    role: Literal["assistant"] | None = None
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: list[ToolCallChunk] | None = None


class ChunkChoice(_Wire):
    """One of the answers, in part."""

    index: int = 0
    delta: Delta
    logprobs: ChoiceLogprobs | None = None
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
    """A model that a request may name. Additions of R1 Box: ``context_window`` is what a chat may hold, in tokens (null
    while it is not loaded); ``state`` is that of its engine (ready, starting, failed, ...) or ``installed``."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "r1box"
    context_window: int | None = None
    state: str | None = None


class ModelList(_Wire):
    """The models that are served."""

    object: Literal["list"] = "list"
    data: list[ModelCard]
