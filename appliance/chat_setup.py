"""The settings' part in answering: what holds for requests that say nothing, and what one user of the page may."""

from __future__ import annotations

from appliance.chats.service import ChatLimits
from appliance.serving.thinking import ThinkingDefaults
from appliance.serving.types import Effort
from appliance.settings import Settings


def thinking_defaults(settings: Settings) -> ThinkingDefaults:
    """How long models think."""
    return ThinkingDefaults(
        effort=Effort(settings.thinking_effort),
        most_tokens=settings.thinking_max_tokens,
        breaks_loops=settings.loop_breaker,
    )


def chat_limits(settings: Settings) -> ChatLimits:
    """What the page keeps of one user, and does for them at the same time."""
    return ChatLimits(
        answers=settings.chat_user_answers,
        most_bytes=settings.chat_user_bytes,
        keep_days=settings.chat_keep_days,
    )
