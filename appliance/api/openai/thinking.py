"""From the many names of a thinking budget to ``ThinkingOptions``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from appliance.errors import InvalidRequest
from appliance.schemas.openai_thinking import EffortName, ReasoningBody, TemplateOptions, ThinkingFields
from appliance.serving.types import Effort, ThinkingOptions

_EFFORTS: dict[EffortName, Effort] = {
    "minimal": Effort.MINIMAL,
    "low": Effort.LOW,
    "medium": Effort.MEDIUM,
    "high": Effort.HIGH,
    "xhigh": Effort.HIGH,
}

_Value = TypeVar("_Value", int, bool, str)


def to_thinking(body: ThinkingFields) -> ThinkingOptions:
    """What the client wants of the thought. Raises InvalidRequest for two fields that contradict each other."""
    reasoning, template = body.reasoning or ReasoningBody(), body.chat_template_kwargs or TemplateOptions()
    thinking = body.thinking
    budget = _agreed(
        {
            "max_thinking_tokens": body.max_thinking_tokens,
            "thinking.budget_tokens": None if thinking is None else thinking.budget_tokens,
            "reasoning.max_tokens": reasoning.max_tokens,
            "thinking_token_budget": body.thinking_token_budget,
            "thinking_budget_tokens": body.thinking_budget_tokens,
            "thinking_budget": body.thinking_budget,
            "chat_template_kwargs.thinking_budget": template.thinking_budget,
        }
    )
    efforts = {"reasoning_effort": body.reasoning_effort, "reasoning.effort": reasoning.effort}
    effort = _agreed({name: _EFFORTS.get(value, value) for name, value in efforts.items() if value is not None})
    enabled = _agreed(
        {
            "thinking.type": None if thinking is None else thinking.type == "enabled",
            "enable_thinking": body.enable_thinking,
            "reasoning.enabled": reasoning.enabled,
            "chat_template_kwargs.enable_thinking": template.enable_thinking,
            "chat_template_kwargs.thinking": template.thinking,
            **{name: False for name, value in efforts.items() if value == "none"},
        }
    )
    return ThinkingOptions(
        enabled=enabled,
        effort=None if effort is None or effort == "none" else Effort(effort),
        budget_tokens=budget,
        answer_tokens=body.max_answer_tokens,
    )


def _agreed(fields: Mapping[str, _Value | None]) -> _Value | None:
    """The one value of the fields that have one. Raises InvalidRequest when there are two."""
    given = {name: value for name, value in fields.items() if value is not None}
    if len(set(given.values())) > 1:
        names = " and ".join(f"'{name}'" for name in given)
        raise InvalidRequest(f"{names} say different things about the thinking; send one.", param=next(iter(given)))
    return next(iter(given.values()), None)
