"""``POST /v1/completions``: text that goes on from a prompt, after OpenAI's (legacy) reference."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from appliance.schemas.openai_request import StreamOptions
from appliance.schemas.openai_response import UsageBody
from appliance.schemas.openai_tools import StructuredOutputs


class _Wire(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, protected_namespaces=())


_Tokens = Annotated[list[int], Field(fail_fast=True, min_length=1, max_length=1_000_000)]
_Bias = Annotated[float, Field(ge=-100, le=100)]
_Penalty = Annotated[float, Field(ge=-2, le=2)]
_StopText = Annotated[str, Field(min_length=1, max_length=1024)]

MAX_PROMPTS = 32
"""Texts that one request may ask for: prompts times ``n``."""


class CompletionBody(_Wire):
    """The body. ``prompt`` is one text, several, one array of tokens, several. ``max_tokens`` is 16 if not set."""

    model: str = Field(min_length=1, max_length=256)
    prompt: (
        str
        | Annotated[list[str], Field(fail_fast=True, min_length=1, max_length=MAX_PROMPTS)]
        | _Tokens
        | Annotated[list[_Tokens], Field(fail_fast=True, min_length=1, max_length=MAX_PROMPTS)]
    )
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: int | None = Field(default=None, ge=1, le=2**31 - 1)
    n: int | None = Field(default=None, ge=1, le=8)
    echo: bool | None = None
    logprobs: int | None = Field(default=None, ge=0, le=20)
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
    structured_outputs: StructuredOutputs | None = None
    deadline_s: float | None = Field(default=None, ge=0, le=86_400)

    # Accepted without effect: see COMPLETION_IGNORED.
    user: str | None = None

    # Known, and refused unless neutral: see COMPLETION_UNSUPPORTED.
    suffix: JsonValue = None
    best_of: JsonValue = None


COMPLETION_IGNORED = ("user",)

COMPLETION_UNSUPPORTED: dict[str, tuple[Any, ...]] = {"suffix": ("",), "best_of": (1,)}
"""As ``openai_request.UNSUPPORTED``."""


class CompletionLogprobs(BaseModel):
    """A list entry for each token of the text. ``text_offset`` counts characters, from the beginning of ``text``."""

    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]]
    text_offset: list[int]


class CompletionChoice(BaseModel):
    """One text. ``index`` counts through the prompts, each with its ``n`` texts."""

    index: int
    text: str
    logprobs: CompletionLogprobs | None = None
    finish_reason: Literal["stop", "length"] | None = None


class Completion(BaseModel):
    """Whole texts, or an event of a stream of them."""

    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: UsageBody | None = None
