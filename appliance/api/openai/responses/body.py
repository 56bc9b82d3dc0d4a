"""The response object: what was asked for, as it was understood, and what came of it."""

from __future__ import annotations

import time
from typing import Any

from appliance.engine.request import FinishReason
from appliance.errors import ErrorDescription
from appliance.schemas.openai_responses import ResponseRequest
from appliance.serving.stream import ChatStream
from appliance.serving.types import ChatFinished, Usage


class ResponseBody:
    """Begins ``in_progress`` and ends once. ``fields`` is the object as it stands."""

    def __init__(self, body: ResponseRequest, response_id: str, stream: ChatStream) -> None:
        text = body.text.format if body.text and body.text.format else None
        form = {"type": "text"} if text is None else text.model_dump(by_alias=True, exclude_none=True)
        tools = [
            {"description": None, "strict": False, "parameters": None, **tool.model_dump(exclude_none=True)}
            for tool in body.tools or ()
        ]
        choice = body.tool_choice
        sampling = stream.sampling
        effort = body.reasoning.effort if body.reasoning else None
        self.fields: dict[str, Any] = {
            "id": response_id,
            "object": "response",
            "created_at": int(time.time()),
            "completed_at": None,
            "status": "in_progress",
            "background": False,
            "error": None,
            "incomplete_details": None,
            "instructions": body.instructions,
            "max_output_tokens": body.max_output_tokens,
            "max_tool_calls": None,
            "metadata": body.metadata or {},
            "model": stream.model_id,
            "output": [],
            "parallel_tool_calls": body.parallel_tool_calls is not False,
            "previous_response_id": body.previous_response_id,
            "reasoning": {"effort": effort, "summary": None},
            "store": body.store is not False,
            "temperature": sampling.temperature,
            "text": {"format": form, "verbosity": "medium"},
            "tool_choice": choice if isinstance(choice, str) else "auto" if choice is None else choice.model_dump(),
            "tools": tools,
            "top_logprobs": body.top_logprobs or 0,
            "top_p": sampling.top_p,
            "truncation": body.truncation or "disabled",
            "usage": None,
            "user": body.user,
            "service_tier": "default",
            "safety_identifier": body.safety_identifier,
            "prompt_cache_key": body.prompt_cache_key,
        }

    def end(self, finished: ChatFinished, output: list[dict[str, Any]]) -> str:
        """The answer is there, whole or cut; the result is the event's type."""
        cut = finished.reason is FinishReason.LENGTH
        self.fields |= {
            "status": "incomplete" if cut else "completed",
            "incomplete_details": {"reason": "max_output_tokens"} if cut else None,
            "completed_at": None if cut else int(time.time()),
            "output": output,
            "usage": to_response_usage(finished.usage),
        }
        return "response.incomplete" if cut else "response.completed"

    def fail(self, error: ErrorDescription, output: list[dict[str, Any]]) -> str:
        """The answer ended with an error; what there is of it stays. The result is the event's type."""
        self.fields |= {
            "status": "failed",
            "error": {"code": error.code, "message": error.message},
            "output": output,
        }
        return "response.failed"


def to_response_usage(usage: Usage) -> dict[str, Any]:
    """The token counts in the shape of responses."""
    counts: dict[str, Any] = {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached_tokens, "cache_write_tokens": 0},
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "thinking_end": usage.thinking_end,
    }
    if usage.answer_looped:
        counts["answer_looped"] = True
    if usage.trimmed is not None:
        counts["trimmed"] = {
            "turns": usage.trimmed.turns,
            "tokens": usage.trimmed.tokens,
            "tokens_is_minimum": usage.trimmed.tokens_is_minimum,
        }
    return counts
