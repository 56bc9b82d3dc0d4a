"""Responses of Ollama's endpoints. ``appliance.api.ollama.lines`` writes the stream's form of them faster.

Durations are in nanoseconds, times in RFC 3339. ``r1box`` is an addition: what Ollama has no place for.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from appliance.schemas.openai_response import TrimmedBody


class _Wire(BaseModel):
    model_config = ConfigDict(frozen=True)


class CalledFunction(_Wire):
    """``index`` numbers the calls of an answer."""

    index: int
    name: str
    arguments: dict[str, Any]


class CalledTool(_Wire):
    """A call that the model asks for; it comes whole."""

    id: str
    function: CalledFunction


class AnswerMessage(_Wire):
    """The answer, or a piece of it."""

    role: Literal["assistant"] = "assistant"
    content: str
    thinking: str | None = None
    tool_calls: list[CalledTool] | None = None


class Alternative(_Wire):
    """A token that could have stood there; ``bytes`` is its UTF-8."""

    token: str
    logprob: float
    bytes: list[int]


class TokenLogprob(Alternative):
    """A token of the answer with the likeliest in its place."""

    top_logprobs: list[Alternative] | None = None


class AnswerFacts(_Wire):
    """How an answer came about. ``thinking_tokens`` are in ``eval_count``, ``cached_tokens`` in ``prompt_eval_count``;
    ``changed`` and ``ignored`` are as in the headers ``X-R1Box-...``, which a stream that had to wait for its model
    cannot have; the rest is as in ``openai_response.UsageBody``."""

    thinking_tokens: int
    cached_tokens: int
    thinking_end: Literal["natural", "budget", "loop", "asked"] | None = None
    answer_looped: Literal[True] | None = None
    trimmed: TrimmedBody | None = None
    changed: str | None = None
    ignored: str | None = None


class QueuePlace(_Wire):
    """``position`` 1 is next; ``wait_s`` is reckoned from how it went lately, if that is known."""

    position: int
    wait_s: int | None = None


class AsideFacts(_Wire):
    """Of a line of a stream that is no part of the answer: the place in the queue, or a note (how far a load is)."""

    queued: QueuePlace | None = None
    note: str | None = None


class _Answer(_Wire):
    """What only the last line of a stream has is None in the others."""

    model: str
    created_at: str
    done: bool
    done_reason: Literal["stop", "length", "load"] | None = None
    total_duration: int | None = None
    load_duration: int | None = None
    prompt_eval_count: int | None = None
    prompt_eval_duration: int | None = None
    eval_count: int | None = None
    eval_duration: int | None = None
    logprobs: list[TokenLogprob] | None = None
    r1box: AnswerFacts | AsideFacts | None = None


class ChatAnswer(_Answer):
    """The answer of ``/api/chat``, or a line of its stream."""

    message: AnswerMessage


class GenerateAnswer(_Answer):
    """The answer of ``/api/generate``, or a line of its stream."""

    response: str
    thinking: str | None = None


class ModelDetails(_Wire):
    """What a model is; the empty text stands for unknown, as clients expect it."""

    parent_model: Literal[""] = ""
    format: str = ""
    family: str = ""
    families: list[str] = []
    parameter_size: str = ""
    quantization_level: str = ""


class ModelTag(_Wire):
    """A model that may be asked for."""

    name: str
    model: str
    modified_at: str
    size: int
    digest: str
    details: ModelDetails
    capabilities: list[str]


class ModelTags(_Wire):
    """All of them."""

    models: list[ModelTag]


class RunningModel(_Wire):
    """A model that is loaded. It stays: ``expires_at`` is far away. ``size_vram`` is what lies on cards;
    ``context_length`` what a seat holds."""

    name: str
    model: str
    size: int
    digest: str
    details: ModelDetails
    expires_at: str
    size_vram: int
    context_length: int


class RunningModels(_Wire):
    """All of them."""

    models: list[RunningModel]


class ModelFacts(_Wire):
    """Answer of ``/api/show``. ``model_info``'s context length is what a seat holds, of a model that is not loaded what
    it was trained for. ``template`` is the model file's own (Jinja), empty while it is not loaded."""

    modelfile: str
    parameters: str
    template: str
    details: ModelDetails
    model_info: dict[str, str | int]
    capabilities: list[str]
    modified_at: str


class OllamaVersion(_Wire):
    """``version`` is that of Ollama whose API this is: its clients refuse what is older than they know. ``r1box`` is
    the box's own."""

    version: str
    r1box: str


class OllamaError(_Wire):
    """Errors of Ollama's API are a text; ``code``, ``param`` and ``hint`` are additions, as in ``errors.ErrorBody``."""

    error: str
    code: str
    param: str | None = None
    hint: str | None = None
