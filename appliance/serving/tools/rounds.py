"""Rounds of tool calls written into plain turns, for templates that lose, repeat or garble them.

The template that DeepSeek-R1 and its distills were published with opens its calls once in a conversation, closes them
from the second one on, drops them when the turn also has words, and marks the results once (llama.cpp issue 14557).
With the rounds in plain turns the template has nothing to do but what it does right:

- DEEPSEEK: calls, results and the words after them are one turn of the assistant, as R1's own template has a first
  round: ``calls <｜end▁of▁sentence｜> results words``;
- HERMES: calls are text of the assistant's turn, results a turn of the user's, as with Qwen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from appliance.serving.tools.describe import Trust, calls_text
from appliance.serving.tools.format import (
    OUTPUT_BEGIN,
    OUTPUT_END,
    OUTPUTS_BEGIN,
    OUTPUTS_END,
    RESPONSE_CLOSE,
    RESPONSE_OPEN,
    ToolFormat,
)
from appliance.serving.types import ChatMessage


@dataclass(frozen=True, slots=True)
class PlainTurns:
    """Messages without tool calls and results. ``continues``: the answer goes on in the last one's turn."""

    messages: tuple[ChatMessage, ...]
    continues: bool = False


def has_rounds(messages: Sequence[ChatMessage]) -> bool:
    """Whether there is anything of tools in the conversation."""
    return any(message.tool_calls or message.role == "tool" for message in messages)


def plain_turns(
    messages: Sequence[ChatMessage], tool_format: ToolFormat, trust: Trust, *, eos_token: str | None
) -> PlainTurns:
    """The conversation with its rounds as text."""
    if not has_rounds(messages):
        return PlainTurns(tuple(messages))
    if tool_format is ToolFormat.DEEPSEEK:
        return _one_turn_per_chain(messages, trust, trust(eos_token) if eos_token else "")
    return PlainTurns(_results_as_users(messages, trust))


def _one_turn_per_chain(messages: Sequence[ChatMessage], trust: Trust, end_of_turn: str) -> PlainTurns:
    plain: list[ChatMessage] = []
    chain: list[str] = []
    results = 0

    def end_results() -> None:
        nonlocal results
        if results:
            chain.append(trust(OUTPUTS_END))
        results = 0

    def end_chain() -> None:
        end_results()
        if chain:
            # The template ends the turn itself.
            plain.append(ChatMessage(role="assistant", content="".join(chain).removesuffix(end_of_turn or "\0")))
            chain.clear()

    for message in messages:
        if message.role == "tool":
            chain.append("\n" if results else trust(OUTPUTS_BEGIN))
            chain.append(f"{trust(OUTPUT_BEGIN)}{message.content}{trust(OUTPUT_END)}")
            results += 1
        elif message.role == "assistant" and message.tool_calls:
            end_results()
            chain += [message.content, calls_text(message.tool_calls, ToolFormat.DEEPSEEK, trust), end_of_turn]
        elif message.role == "assistant" and results:
            end_results()
            chain.append(message.content)
            end_chain()
        else:
            end_chain()
            plain.append(message)
    continues = results > 0
    end_chain()
    return PlainTurns(tuple(plain), continues)


def _results_as_users(messages: Sequence[ChatMessage], trust: Trust) -> tuple[ChatMessage, ...]:
    plain: list[ChatMessage] = []
    results: list[str] = []

    def end_results(then: str = "") -> None:
        if results:
            plain.append(ChatMessage(role="user", content="\n".join(results) + then))
            results.clear()

    for message in messages:
        if message.role == "tool":
            results.append(f"{trust(RESPONSE_OPEN)}\n{message.content}\n{trust(RESPONSE_CLOSE)}")
        elif message.role == "user" and results:  # some templates refuse two turns of the user in a row
            end_results(f"\n\n{message.content}")
        else:
            end_results()
            if message.tool_calls:
                written = calls_text(message.tool_calls, ToolFormat.HERMES, trust)
                content = f"{message.content}\n{written}" if message.content else written
                message = replace(message, content=content, tool_calls=None)
            plain.append(message)
    end_results()
    return tuple(plain)
