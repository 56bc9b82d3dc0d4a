"""The contract of a model, in one place: sampling, answer length, system prompt, history, the opening of the thought.

Sources: DeepSeek-R1's README, "Usage Recommendations" (temperature 0.5-0.7 with 0.6 recommended, top-p 0.95, no system
prompt but all instructions in the user's turn, answers to begin with ``<think>\\n``, up to 32,768 tokens; "CoT of
earlier rounds is not concatenated"); the R1-0528 card (system prompts supported, no need to force ``<think>``, answers
up to 64K, temperature and top-p the same). top-k and min-p are off on purpose: llama.cpp's defaults (40 and 0.05) are
not what R1 was evaluated with.

Whatever is done to a request beside what its client asked for is told as a short word, such as
``temperature=1.2->0.7``; clients get these words in a header.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace

from appliance.engine.request import SamplingParams, TextSegment
from appliance.errors import InvalidRequest
from appliance.serving.history import SYSTEM_ROLES, split_thought
from appliance.serving.reasoning import THINK_CLOSE, THINK_OPEN
from appliance.serving.template import RenderedPrompt
from appliance.serving.types import (
    ChatMessage,
    ModelProfile,
    ProfileName,
    SamplingOverrides,
    SamplingPolicy,
)

FOLD_OPEN, FOLD_CLOSE = "[instructions begin]\n", "\n[instructions end]\n\n"
"""What stands around a system prompt in a user's turn; DeepSeek's own templates for files and search have this form."""

_R1_SAMPLING = SamplingParams(temperature=0.6, top_p=0.95, top_k=0, min_p=0.0)
_R1_TEMPERATURE_BAND = (0.5, 0.7)
_R1_ANSWER_TOKENS = 32_768
_R1_0528_ANSWER_TOKENS = 65_536
_R1_ASSISTANT = "<｜Assistant｜>"
_R1_TURN_TOKENS = frozenset(("<｜User｜>", _R1_ASSISTANT))
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


@dataclass(frozen=True, slots=True)
class PreparedHistory:
    """The messages as they go into the template, and what was done to them."""

    messages: tuple[ChatMessage, ...]
    changes: tuple[str, ...] = ()


def profile_for(
    *,
    name: str | None,
    chat_template: str | None,
    control_tokens: frozenset[str],
    recognised: ProfileName | None = None,
) -> ModelProfile:
    """The profile of a model: the one it was ``recognised`` with at import, else from what its file says of itself.

    A model thinks when its vocabulary or template knows ``</think>``; it is an R1 when it also writes turns as R1 does.
    R1-0528 is known by its name, or by its template, which keeps account of the last user turn.
    """
    template = chat_template or ""
    if recognised is None:
        recognised = _profile_name(name or "", template, control_tokens)
    if recognised is ProfileName.PLAIN:
        thinks = _thinks(template, control_tokens)
        return ModelProfile(
            name=ProfileName.PLAIN,
            sampling=_R1_SAMPLING,
            splits_reasoning=thinks,
            strips_history=thinks,
            keeps_chain_thoughts=_reads_thoughts(template),
        )
    is_0528 = recognised is ProfileName.R1_0528
    return ModelProfile(
        name=recognised,
        sampling=_R1_SAMPLING,
        splits_reasoning=True,
        strips_history=True,
        keeps_chain_thoughts=_reads_thoughts(template),
        folds_system=not is_0528,
        opens_thought=not is_0528,
        temperature_band=_R1_TEMPERATURE_BAND,
        answer_tokens=_R1_0528_ANSWER_TOKENS if is_0528 else _R1_ANSWER_TOKENS,
    )


def sampling_for(
    profile: ModelProfile, overrides: SamplingOverrides, policy: SamplingPolicy = SamplingPolicy.CLAMP
) -> tuple[SamplingParams, tuple[str, ...]]:
    """The profile's sampling with the client's settings over it, and what was changed of them.

    Raises InvalidRequest for a setting out of its range; one within it but out of the profile's band is moved to the
    band's end, except where the policy leaves clients free. Temperature 0 is no exception: it makes R1 repeat itself.
    """
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
    changes: tuple[str, ...] = ()
    asked = given.get("temperature")
    if asked is not None and profile.temperature_band is not None and policy is SamplingPolicy.CLAMP:
        lowest, highest = profile.temperature_band
        given["temperature"] = min(max(asked, lowest), highest)
        if given["temperature"] != asked:
            changes = (f"temperature={asked:g}->{given['temperature']:g}",)
    return replace(profile.sampling, **given), changes


def prepare_history(profile: ModelProfile, messages: Iterable[ChatMessage]) -> tuple[ChatMessage, ...]:
    """The messages of ``prepared_history`` alone."""
    return prepared_history(profile, messages).messages


def prepared_history(profile: ModelProfile, messages: Iterable[ChatMessage]) -> PreparedHistory:
    """The messages as they go into the template: thoughts of earlier turns and system prompts as the profile has them.

    Sending a thought back is never an error: clients do it in ``reasoning``, as ``<think>`` in the content, or, like
    Open WebUI, as ``<details type="reasoning">``.
    """
    prepared = tuple(messages)
    changes: list[str] = []
    if profile.strips_history:
        kept = _without_thoughts(profile, prepared)
        stripped = sum(_lost_a_thought(before, after) for before, after in zip(prepared, kept, strict=True))
        prepared = kept
        if stripped:
            changes.append(f"history-reasoning=stripped:{stripped}")
    if profile.folds_system and any(message.role in SYSTEM_ROLES for message in prepared):
        folds = any(message.role in SYSTEM_ROLES and message.content.strip() for message in prepared)
        prepared = _fold_system(prepared)
        changes += ["system=folded"] if folds else []
    return PreparedHistory(prepared, tuple(changes))


def strip_reasoning(content: str) -> str:
    """An assistant's content without its thought; see ``split_thought``."""
    return split_thought(content)[1]


def open_thought(profile: ModelProfile, prompt: RenderedPrompt) -> tuple[RenderedPrompt, tuple[str, ...]]:
    """The prompt with ``<think>\\n`` at its end where the profile wants it and the template, like those of January
    2025, does not write it; never twice.

    Only where the template began the assistant's turn: after the results of tools R1's goes on without one.
    """
    last = prompt.segments[-1]
    if not profile.opens_thought or not last.trusted:
        return prompt, ()
    if last.text.endswith(THINK_OPEN):
        missing, change = "\n", "think=newline"
    elif not prompt.opens_reasoning and last.text.rstrip().endswith(_R1_ASSISTANT):
        missing, change = f"{THINK_OPEN}\n", "think=opened"
    else:
        return prompt, ()
    # One segment, so that it becomes the tokens that a template's own ending becomes.
    segments = (*prompt.segments[:-1], TextSegment(last.text + missing))
    return replace(prompt, segments=segments, opens_reasoning=True), (change,)


def _profile_name(name: str, template: str, control_tokens: frozenset[str]) -> ProfileName:
    r1_turns = control_tokens >= _R1_TURN_TOKENS or all(token in template for token in _R1_TURN_TOKENS)
    if not (r1_turns and _thinks(template, control_tokens)):
        return ProfileName.PLAIN
    return ProfileName.R1_0528 if "0528" in name or "is_last_user" in template else ProfileName.R1


def _thinks(template: str, control_tokens: frozenset[str]) -> bool:
    return THINK_CLOSE in template or THINK_CLOSE in control_tokens


def _reads_thoughts(template: str) -> bool:
    """Whether the template has a place for the thoughts of earlier turns. It is filled along a chain of tool calls."""
    return "reasoning_content" in template


def _without_thoughts(profile: ModelProfile, messages: Sequence[ChatMessage]) -> tuple[ChatMessage, ...]:
    last_user = max((place for place, message in enumerate(messages) if message.role == "user"), default=-1)
    kept = []
    for place, message in enumerate(messages):
        thought, content = None, message.content
        if message.role == "assistant":
            inline, content = split_thought(message.content)
            if profile.keeps_chain_thoughts and message.tool_calls and place > last_user:
                thought = message.reasoning or inline or None
        kept.append(replace(message, content=content, reasoning=thought))
    return tuple(kept)


def _lost_a_thought(before: ChatMessage, after: ChatMessage) -> bool:
    had_one = before.reasoning is not None or before.content != after.content
    return had_one and after.reasoning is None


def _fold_system(messages: Iterable[ChatMessage]) -> tuple[ChatMessage, ...]:
    """Each system prompt in the user's turn that follows it, or at the end of the last one when none follows.

    The first turn has the first one, and a later instruction stays where the client put it.
    """
    folded: list[ChatMessage] = []
    waiting: list[str] = []
    for message in messages:
        if message.role in SYSTEM_ROLES:
            waiting += [message.content] if message.content.strip() else []
        elif message.role == "user" and waiting:
            folded.append(replace(message, content=_delimited(waiting) + message.content))
            waiting = []
        else:
            folded.append(message)
    if waiting or not folded:
        last_user = max((place for place, message in enumerate(folded) if message.role == "user"), default=None)
        if last_user is None:
            folded.append(ChatMessage(role="user", content="\n\n".join(waiting)))
        else:
            said = folded[last_user]
            content = f"{said.content}\n\n{_delimited(waiting).rstrip()}"
            folded[last_user] = replace(said, content=content)
    return tuple(folded)


def _delimited(prompts: Iterable[str]) -> str:
    return FOLD_OPEN + "\n\n".join(prompts) + FOLD_CLOSE
