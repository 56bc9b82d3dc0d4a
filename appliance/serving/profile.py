"""The contract of a model: sampling, answer length, and what of earlier turns goes back into the prompt.

Sources: DeepSeek-R1's README, "Usage Recommendations" (temperature 0.5-0.7 with 0.6 recommended, top-p 0.95, answers
up to 32,768 tokens; "CoT of earlier rounds is not concatenated"); the R1-0528 card (the same, answers up to 64K).
top-k and min-p are off on purpose: llama.cpp's defaults (40 and 0.05) are not what R1 was evaluated with.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import fields, replace

from appliance.engine.request import SamplingParams
from appliance.errors import InvalidRequest
from appliance.serving.reasoning import THINK_CLOSE, THINK_OPEN
from appliance.serving.types import ChatMessage, ModelProfile, ProfileName, SamplingOverrides

_R1_SAMPLING = SamplingParams(temperature=0.6, top_p=0.95, top_k=0, min_p=0.0)
_R1_ANSWER_TOKENS = 32_768
_R1_0528_ANSWER_TOKENS = 65_536
_R1_TURN_TOKENS = frozenset(("<｜User｜>", "<｜Assistant｜>"))
# Bounded, so that a text of "<details" over and over is not searched again from each of them.
_DETAILS_OPEN = re.compile(r"""<details\b[^<>]{0,200}\btype=["']?reasoning["']?[^<>]{0,200}>""", re.IGNORECASE)
_DETAILS_CLOSE = re.compile(r"</details\s{0,8}>", re.IGNORECASE)
# Smallest and largest of each setting; what is outside is refused, never bent.
_RANGES = {
    "temperature": (0.0, 2.0),
    "top_p": (0.0, 1.0),
    "top_k": (0, 1_000_000),
    "min_p": (0.0, 1.0),
    "presence_penalty": (-2.0, 2.0),
    "frequency_penalty": (-2.0, 2.0),
    "repeat_penalty": (0.0, 2.0),
}


def profile_for(*, name: str | None, chat_template: str | None, control_tokens: frozenset[str]) -> ModelProfile:
    """The profile of a model, from what its file says of itself.

    A model thinks when its vocabulary or template knows ``</think>``; it is an R1 when it also writes turns as R1 does.
    R1-0528 is known by its name, or by its template, which keeps account of the last user turn.
    """
    template = chat_template or ""
    thinks = THINK_CLOSE in template or THINK_CLOSE in control_tokens
    r1_turns = control_tokens >= _R1_TURN_TOKENS or all(token in template for token in _R1_TURN_TOKENS)
    if not (thinks and r1_turns):
        return ModelProfile(
            name=ProfileName.PLAIN, sampling=_R1_SAMPLING, splits_reasoning=thinks, strips_history=thinks
        )
    is_0528 = "0528" in (name or "") or "is_last_user" in template
    return ModelProfile(
        name=ProfileName.R1_0528 if is_0528 else ProfileName.R1,
        sampling=_R1_SAMPLING,
        splits_reasoning=True,
        strips_history=True,
        answer_tokens=_R1_0528_ANSWER_TOKENS if is_0528 else _R1_ANSWER_TOKENS,
    )


def sampling_for(profile: ModelProfile, overrides: SamplingOverrides) -> SamplingParams:
    """The profile's sampling with the client's settings over it. Raises InvalidRequest for one out of its range."""
    given = {
        setting.name: value
        for setting in fields(SamplingOverrides)
        if (value := getattr(overrides, setting.name)) is not None
    }
    for name, (low, high) in _RANGES.items():
        if name in given and not low <= given[name] <= high:  # also refuses NaN
            raise InvalidRequest(f"{name} must be between {low:g} and {high:g}; got {given[name]:g}.", param=name)
    for token, bias in given.get("logit_bias", ()):
        if token < 0 or not math.isfinite(bias) or not -100 <= bias <= 100:
            raise InvalidRequest("logit_bias takes token ids and biases between -100 and 100.", param="logit_bias")
    return replace(profile.sampling, **given)


def prepare_history(profile: ModelProfile, messages: Iterable[ChatMessage]) -> tuple[ChatMessage, ...]:
    """The messages as they go into the template: without the thoughts of earlier turns where the profile says so.

    Sending a thought back is never an error: clients do it in ``reasoning``, as ``<think>`` in the content, or, like
    Open WebUI, as ``<details type="reasoning">``.
    """
    if not profile.strips_history:
        return tuple(messages)
    return tuple(
        replace(message, content=strip_reasoning(message.content), reasoning=None)
        if message.role == "assistant"
        else message
        for message in messages
    )


def strip_reasoning(content: str) -> str:
    """An assistant's content without its thought and without the line breaks that separated them.

    ``<think>`` counts at the beginning only, and a lone ``</think>`` ends a thought whose opening was in the prompt; a
    later ``<think>`` is part of the answer. Unclosed thoughts reach to the end.
    """
    stripped = _strip_details(content)
    body = stripped.lstrip()
    if body.startswith(THINK_OPEN):
        _, _, answer = body.partition(THINK_CLOSE)
        return answer.lstrip("\n")
    thought, closing, answer = stripped.partition(THINK_CLOSE)
    if closing and THINK_OPEN not in thought:
        return answer.lstrip("\n")
    return stripped if stripped == content else stripped.lstrip("\n")


def _strip_details(content: str) -> str:
    kept, position = [], 0
    while opening := _DETAILS_OPEN.search(content, position):
        kept.append(content[position : opening.start()])
        closing = _DETAILS_CLOSE.search(content, opening.end())
        if closing is None:
            return "".join(kept)
        position = closing.end()
    return "".join([*kept, content[position:]])
