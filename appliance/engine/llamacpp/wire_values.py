"""The engine's values in the worker's words, and back."""

from __future__ import annotations

import secrets

from appliance.engine.llamacpp import messages as wire
from appliance.engine.request import Finished, FinishReason, SamplingParams, ThinkingControl, ThinkingEnd
from appliance.errors import GenerationFailed


def finished_of(output: wire.Output) -> Finished:
    """A request's ending."""
    reason = FinishReason(output.finish or "error")
    return Finished(
        reason=reason,
        prompt_tokens=output.prompt_tokens,
        cached_tokens=output.cached_tokens,
        completion_tokens=output.completion_tokens,
        error=GenerationFailed(cause=output.message) if reason is FinishReason.ERROR else None,
        thinking_end=None if output.thinking_end is None else ThinkingEnd(output.thinking_end),
        answer_looped=output.answer_looped,
    )


def thinking_of(control: ThinkingControl) -> wire.Thinking:
    """How its thought is brought to an end."""
    return wire.Thinking(
        opened=control.opened,
        open_tokens=control.open_tokens,
        close_tokens=control.close_tokens,
        landing_tokens=control.landing_tokens,
        budget_tokens=control.budget_tokens,
        breaks_loops=control.breaks_loops,
    )


def sampling_of(params: SamplingParams) -> wire.Sampling:
    """How its tokens are drawn; without a seed with a random one."""
    return wire.Sampling(
        seed=secrets.randbits(32) if params.seed is None else params.seed & 0xFFFFFFFF,
        temperature=params.temperature,
        top_p=params.top_p,
        top_k=params.top_k,
        min_p=params.min_p,
        presence_penalty=params.presence_penalty,
        frequency_penalty=params.frequency_penalty,
        repeat_penalty=params.repeat_penalty,
        logit_bias=params.logit_bias,
    )
