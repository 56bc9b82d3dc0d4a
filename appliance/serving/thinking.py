"""How long a thought may be, and how it is ended: from what a client asks for to what the engine watches.

Budgets of an effort are in tokens of thought. DeepSeek's cards tell the scale: R1 thinks some 3,000 to 4,000 tokens on
school mathematics and 12,000 on a competition problem, R1-0528 about twice as much (AIME 2025: 12K and 23K on average).
HIGH is the profile's own: no limit but the room that is kept for the answer.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from weakref import WeakKeyDictionary

from appliance.engine.base import Engine
from appliance.engine.request import TextSegment, ThinkingControl
from appliance.errors import InvalidRequest
from appliance.serving.reasoning import THINK_CLOSE, THINK_OPEN
from appliance.serving.template import RenderedPrompt
from appliance.serving.types import ChatMessage, Effort, ModelProfile, ProfileName, ThinkingOptions

_R1_BUDGETS = {Effort.MINIMAL: 512, Effort.LOW: 2_048, Effort.MEDIUM: 8_192, Effort.HIGH: None}
_R1_0528_BUDGETS = {Effort.MINIMAL: 1_024, Effort.LOW: 4_096, Effort.MEDIUM: 16_384, Effort.HIGH: None}
EFFORT_BUDGETS: dict[ProfileName, dict[Effort, int | None]] = {
    ProfileName.R1: _R1_BUDGETS,
    ProfileName.R1_0528: _R1_0528_BUDGETS,
    ProfileName.PLAIN: _R1_BUDGETS,
}
"""Tokens that a thought may have, by profile and effort; None is no limit of its own."""

ANSWER_TOKENS = 1_024
"""Of ``max_tokens`` so many are kept for the answer, a quarter at most."""

SMALLEST_SPLIT_TOKENS = 128
"""A smaller ``max_tokens`` is not divided: a thought may take all of it, as it always could."""

LANDINGS = {
    "en": f"\n\nI have thought long enough. I will answer now.\n{THINK_CLOSE}\n\n",
    "zh": f"\n\n我已经想得够久了，现在给出答案。\n{THINK_CLOSE}\n\n",
}
"""What is written for the model at the end of a thought, by language. The empty line is what R1 writes itself."""

EMPTY_THOUGHT = f"{THINK_OPEN}\n\n{THINK_CLOSE}\n\n"
"""What stands for a thought in the prompt of a model that is not to think."""

STAYS_ON = "thinking=stays-on"
NOT_A_THINKER = "thinking=not-a-thinking-model"

_HAN = re.compile(r"[\u4e00-\u9fff]")
_KANA_OR_HANGUL = re.compile(r"[\u3040-\u30ff\uac00-\ud7af]")
_LATIN_WORD = re.compile(r"[A-Za-z]+")
_LANGUAGE_CHARS = 4_000
_R1_ASSISTANT = "<｜Assistant｜>"


@dataclass(frozen=True, slots=True, kw_only=True)
class ThinkingDefaults:
    """The operator's: the ``effort`` of requests that ask for none, the most tokens of any thought, and whether what
    goes in circles is ended."""

    effort: Effort = Effort.HIGH
    most_tokens: int | None = None
    breaks_loops: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class ThinkingPlan:
    """What was decided for one request. ``enabled`` None leaves it to the template; ``changes`` as in
    ``serving.profile``."""

    enabled: bool | None = None
    budget_tokens: int | None = None
    answer_tokens: int | None = None
    breaks_loops: bool = True
    changes: tuple[str, ...] = ()


def plan_thinking(profile: ModelProfile, options: ThinkingOptions, defaults: ThinkingDefaults) -> ThinkingPlan:
    """The request's own budget, else its effort's, else the default effort's; at most what the operator allows.

    A budget of 0 is thinking switched off. Raises InvalidRequest for a negative budget, and one without thinking.
    """
    _check(options)
    if not profile.splits_reasoning:
        asked = options.effort or options.budget_tokens or options.enabled
        return ThinkingPlan(answer_tokens=options.answer_tokens, changes=(NOT_A_THINKER,) if asked else ())
    if options.enabled is False or options.budget_tokens == 0:
        return ThinkingPlan(
            enabled=False, budget_tokens=0, answer_tokens=options.answer_tokens, breaks_loops=defaults.breaks_loops
        )
    changes: tuple[str, ...] = ()
    asked_tokens = options.budget_tokens
    if asked_tokens is None:
        effort = options.effort or defaults.effort
        asked_tokens = EFFORT_BUDGETS[profile.name][effort]
        if options.effort is not None and asked_tokens is not None:
            changes = (f"effort={effort.value}:{asked_tokens}",)
    most = defaults.most_tokens
    budget = asked_tokens if most is None else min(most, most if asked_tokens is None else asked_tokens)
    if asked_tokens is not None and budget is not None and budget < asked_tokens:
        changes += (f"thinking-budget={asked_tokens}->{budget}",)
    return ThinkingPlan(
        enabled=options.enabled,
        budget_tokens=budget,
        answer_tokens=options.answer_tokens,
        breaks_loops=defaults.breaks_loops,
        changes=changes,
    )


def budget_within(
    budget_tokens: int | None, *, max_tokens: int, landing_tokens: int, answer_tokens: int | None
) -> int | None:
    """The budget, or less, so that of ``max_tokens`` something is left for the landing and an answer.

    For the answer ``ANSWER_TOKENS`` are kept, or as many as it may have, a quarter of ``max_tokens`` at most.
    """
    if max_tokens < SMALLEST_SPLIT_TOKENS:
        return budget_tokens
    kept = min(answer_tokens or ANSWER_TOKENS, max_tokens // 4)
    most = max(0, max_tokens - landing_tokens - kept)
    return most if budget_tokens is None else min(budget_tokens, most)


def close_thought(profile: ModelProfile, prompt: RenderedPrompt) -> tuple[RenderedPrompt, tuple[str, ...]]:
    """The prompt of a model that is not to think, with an empty thought at its end unless the template wrote one, and
    ``STAYS_ON`` where there is no way to say it."""
    last = prompt.segments[-1]
    text = last.text.rstrip()
    if last.trusted and text.endswith(THINK_CLOSE):
        return replace(prompt, opens_reasoning=False), ()
    if last.trusted and text.endswith(THINK_OPEN):
        closed = text.removesuffix(THINK_OPEN) + EMPTY_THOUGHT
    elif last.trusted and text.endswith(_R1_ASSISTANT):
        closed = last.text + EMPTY_THOUGHT
    elif profile.name is ProfileName.PLAIN:
        return prompt, (STAYS_ON,)
    else:
        # R1's template goes on after the results of tools within the same turn, without a thought.
        return prompt, ()
    # One segment, so that it becomes the tokens that a template's own ending becomes.
    return replace(prompt, segments=(*prompt.segments[:-1], TextSegment(closed)), opens_reasoning=False), ()


def language_of(messages: Iterable[ChatMessage]) -> str:
    """``zh`` when the user's last message is mostly Chinese, else ``en``."""
    said = next((message.content for message in reversed(list(messages)) if message.role == "user"), "")
    text = said[-_LANGUAGE_CHARS:]
    if _KANA_OR_HANGUL.search(text):
        return "en"
    return "zh" if len(_HAN.findall(text)) > len(_LATIN_WORD.findall(text)) else "en"


@dataclass(frozen=True, slots=True)
class _Tags:
    """The tokens of one engine's vocabulary."""

    opening: tuple[int, ...]
    closing: tuple[int, ...]
    landings: dict[str, tuple[int, ...]]


class ThinkingControls:
    """Makes the engine's orders. Keeps each engine's tokens of tags and landings."""

    def __init__(self) -> None:
        self._tags: WeakKeyDictionary[Engine, _Tags] = WeakKeyDictionary()

    async def control(
        self, plan: ThinkingPlan, engine: Engine, messages: Iterable[ChatMessage], *, opened: bool, max_tokens: int
    ) -> ThinkingControl:
        """What the engine is to watch. Raises EngineLost."""
        tags = self._tags.get(engine)
        if tags is None:
            tags = self._tags[engine] = await _read_tags(engine)
        landing = tags.landings[language_of(messages)]
        return ThinkingControl(
            opened=opened,
            open_tokens=tags.opening,
            close_tokens=tags.closing,
            landing_tokens=landing,
            budget_tokens=budget_within(
                plan.budget_tokens,
                max_tokens=max_tokens,
                landing_tokens=len(landing),
                answer_tokens=plan.answer_tokens,
            ),
            breaks_loops=plan.breaks_loops,
        )


async def _read_tags(engine: Engine) -> _Tags:
    async def tokens(text: str) -> tuple[int, ...]:
        return tuple(await engine.tokenize([TextSegment(text)], add_bos=False))

    landings = {language: await tokens(text) for language, text in LANDINGS.items()}
    return _Tags(await tokens(THINK_OPEN), await tokens(THINK_CLOSE), landings)


def _check(options: ThinkingOptions) -> None:
    if options.budget_tokens is not None and options.budget_tokens < 0:
        raise InvalidRequest("A thinking budget is at least 0.", param="thinking")
    if options.answer_tokens is not None and options.answer_tokens < 1:
        raise InvalidRequest("An answer has at least one token.", param="max_answer_tokens")
    if options.enabled is False and (options.budget_tokens or options.effort is not None):
        raise InvalidRequest("Thinking is switched off and given a budget; ask for one of them.", param="thinking")
    if options.enabled and options.budget_tokens == 0:
        raise InvalidRequest("Thinking is switched on with a budget of 0; ask for one of them.", param="thinking")
