"""Fields by which clients say how long a model may think, in the names of the servers they were written for.

``reasoning_effort`` is OpenAI's; ``reasoning`` OpenRouter's; ``thinking`` Anthropic's and DeepSeek's;
``thinking_token_budget`` vLLM's; ``thinking_budget_tokens`` llama-server's; ``enable_thinking`` and ``thinking_budget``
Alibaba Cloud's; ``chat_template_kwargs`` vLLM's, SGLang's and llama-server's. ``max_thinking_tokens`` (also
NVIDIA NIM's name) and ``max_answer_tokens`` are this box's own.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

EffortName = Literal["none", "minimal", "low", "medium", "high", "xhigh"]
"""OpenAI's values. ``none`` is thinking switched off, ``xhigh`` the same as ``high``."""

_Budget = Annotated[int, Field(ge=0, le=2**31 - 1)]


class _Wire(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, protected_namespaces=())


class ThinkingBody(_Wire):
    """``{"type": "enabled", "budget_tokens": 2048}``; without a budget it is the effort's."""

    type: Literal["enabled", "disabled"]
    budget_tokens: _Budget | None = None


class ReasoningBody(_Wire):
    """``{"effort": "low"}`` or ``{"max_tokens": 2048}``."""

    effort: EffortName | None = None
    max_tokens: _Budget | None = None
    enabled: bool | None = None


class TemplateOptions(_Wire):
    """Of a template's own variables only those about thinking are known; a template has no others here."""

    enable_thinking: bool | None = None
    thinking: bool | None = None
    thinking_budget: _Budget | None = None


class ThinkingFields(_Wire):
    """A part of the body of a request. What says the same twice must agree."""

    reasoning_effort: EffortName | None = None
    max_thinking_tokens: _Budget | None = None
    max_answer_tokens: int | None = Field(default=None, ge=1, le=2**31 - 1)
    thinking: ThinkingBody | None = None
    reasoning: ReasoningBody | None = None
    thinking_token_budget: _Budget | None = None
    thinking_budget_tokens: _Budget | None = None
    thinking_budget: _Budget | None = None
    enable_thinking: bool | None = None
    chat_template_kwargs: TemplateOptions | None = None
