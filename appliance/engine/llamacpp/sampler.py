"""Which samplers of llama.cpp a request needs, in which order. Pure; ``runner`` builds them.

The order is that of the evaluation settings of DeepSeek-R1 (temperature first, then top-p; its model card), not
llama.cpp's own default order, where top-p sees the distribution before the temperature.
"""

from __future__ import annotations

from dataclasses import dataclass

from appliance.engine.llamacpp.messages import Sampling

LIKELIEST = 512
"""How many of the likeliest tokens temperature, top-p and min-p see. Filters over a whole vocabulary of 150,000 cost
more than a decode step of a small model; what lies below rank 512 has no part in a 0.95 nucleus."""

WINDOW_TEMPERATURES = 20.0
"""See ``candidate_window``."""


@dataclass(frozen=True, slots=True)
class SamplerStep:
    """One sampler of a chain: its name without ``llama_sampler_init_`` and its arguments."""

    name: str
    arguments: tuple[float | int, ...] = ()


def chain_for(sampling: Sampling, *, vocabulary_size: int, context_tokens: int) -> list[SamplerStep]:
    """The chain for a request. Penalties come first: they change which tokens are likeliest.

    They look back over the whole answer, ``context_tokens`` at most, as OpenAI defines them.
    """
    steps: list[SamplerStep] = []
    if sampling.repeat_penalty != 1.0 or sampling.frequency_penalty != 0.0 or sampling.presence_penalty != 0.0:
        steps.append(
            SamplerStep(
                "penalties",
                (
                    vocabulary_size,
                    context_tokens,
                    sampling.repeat_penalty,
                    sampling.frequency_penalty,
                    sampling.presence_penalty,
                ),
            )
        )
    if sampling.temperature <= 0.0:
        return [*steps, SamplerStep("greedy")]
    filtered = sampling.top_k > 0 or sampling.top_p < 1.0 or sampling.min_p > 0.0
    if filtered:
        likeliest = min(sampling.top_k, LIKELIEST) if sampling.top_k > 0 else LIKELIEST
        steps.append(SamplerStep("top_k", (likeliest,)))
    if sampling.temperature != 1.0:
        steps.append(SamplerStep("temp", (sampling.temperature,)))
    if sampling.top_p < 1.0:
        steps.append(SamplerStep("top_p", (sampling.top_p, 1)))
    if sampling.min_p > 0.0:
        steps.append(SamplerStep("min_p", (sampling.min_p, 1)))
    steps.append(SamplerStep("dist", (sampling.seed,)))
    return steps


def candidate_window(sampling: Sampling) -> float | None:
    """How far below the best logit a token may lie and still be drawn; 0 for greedy, None where the whole vocabulary
    must be looked at because penalties change which is best.

    Outside of a window of 20 temperatures a token is 2e-9 times as likely as the best one.
    """
    changes_logits = (
        sampling.repeat_penalty != 1.0 or sampling.frequency_penalty != 0.0 or sampling.presence_penalty != 0.0
    )
    if changes_logits:
        return None
    return WINDOW_TEMPERATURES * max(sampling.temperature, 0.0)
