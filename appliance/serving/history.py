"""Earlier turns of a conversation: their thoughts, which do not go back to the model, and where each turn begins."""

from __future__ import annotations

import re
from collections.abc import Sequence

from appliance.serving.reasoning import THINK_CLOSE, THINK_OPEN
from appliance.serving.types import ChatMessage

SYSTEM_ROLES = frozenset(("system", "developer"))
"""Whose messages are no turn: they hold for the conversation."""

_SPACE = re.compile(r"\s*")
# Bounded, so that a text of "<details" over and over is not searched again from each of them.
_DETAILS_OPEN = re.compile(r"""<details\b[^<>]{0,200}\btype=["']?reasoning["']?[^<>]{0,200}>""", re.IGNORECASE)
_DETAILS_CLOSE = re.compile(r"</details\s{0,8}>", re.IGNORECASE)


def split_thought(content: str) -> tuple[str, str]:
    """An assistant's content as its thought and its answer, without the line breaks that separated them.

    ``<think>`` counts at the beginning only, once or several times in a row, and a lone ``</think>`` ends a thought
    whose opening was in the prompt; a later ``<think>`` is part of the answer. Unclosed thoughts reach to the end.
    What Open WebUI makes of a thought (``<details type="reasoning">``) is left out of both, wherever it stands.
    """
    text = _strip_details(content)
    thoughts: list[str] = []
    thought, closing, answer = text.partition(THINK_CLOSE)
    if closing and THINK_OPEN not in thought:
        thoughts, text = [thought.strip("\n")], answer
    position, start = 0, _after_space(text, 0)
    while text.startswith(THINK_OPEN, start):
        start += len(THINK_OPEN)
        end = text.find(THINK_CLOSE, start)
        thoughts.append(text[start : len(text) if end < 0 else end].strip("\n"))
        position = len(text) if end < 0 else end + len(THINK_CLOSE)
        start = _after_space(text, position)
    if thoughts:
        return "\n".join(thoughts), text[position:].lstrip("\n")
    return "", text if text == content else text.lstrip("\n")


def turns_to_drop(messages: Sequence[ChatMessage]) -> int:
    """How many of the oldest turns could be left out: all but the last one that a user began."""
    return max((turn for turn in _turns(messages) if turn is not None), default=0)


def without_oldest(messages: Sequence[ChatMessage], turns: int) -> tuple[ChatMessage, ...]:
    """The conversation without its ``turns`` oldest turns; system messages stay, wherever they stood."""
    numbered = zip(messages, _turns(messages), strict=True)
    return tuple(message for message, turn in numbered if turn is None or turn >= turns)


def _turns(messages: Sequence[ChatMessage]) -> list[int | None]:
    """The number of each message's turn, from 0; ``None`` for system messages.

    A turn is what a user says, in one message or several in a row, and all that follows until a user speaks again:
    answers, tool calls, results. What stands before the first user, as an assistant's greeting, is a turn of its own.
    """
    numbers: list[int | None] = []
    turn, before = 0, "user"
    for message in messages:
        if message.role in SYSTEM_ROLES:
            numbers.append(None)
            continue
        if message.role == "user" and before != "user":
            turn += 1
        before = message.role
        numbers.append(turn)
    return numbers


def _after_space(text: str, position: int) -> int:
    found = _SPACE.match(text, position)
    return found.end() if found else position


def _strip_details(content: str) -> str:
    kept, position = [], 0
    while opening := _DETAILS_OPEN.search(content, position):
        kept.append(content[position : opening.start()])
        closing = _DETAILS_CLOSE.search(content, opening.end())
        if closing is None:
            return "".join(kept)
        position = closing.end()
    return "".join([*kept, content[position:]])
