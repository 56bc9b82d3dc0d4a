"""A conversation as the template gets it: tools described, history prepared, rounds of calls in turns it can write, an
answer that the client began left open."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from appliance.serving.fence import Fence
from appliance.serving.history import SYSTEM_ROLES, split_thought
from appliance.serving.profile import prepared_history
from appliance.serving.reasoning import THINK_CLOSE, THINK_OPEN
from appliance.serving.tools.describe import describe_tools
from appliance.serving.tools.plan import ToolPlan
from appliance.serving.tools.rounds import has_rounds, plain_turns
from appliance.serving.tools.support import ToolSupport
from appliance.serving.types import ChatMessage, ChatRequest, ModelProfile, ServedModel


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedTurns:
    """``continues``: the prompt ends within the last message's turn. ``in_thought`` says whether that is within its
    thought, None where the template's own ending tells. ``changes`` as in ``serving.profile``."""

    messages: tuple[ChatMessage, ...]
    continues: bool = False
    in_thought: bool | None = None
    changes: tuple[str, ...] = ()


def prepared_turns(
    model: ServedModel,
    request: ChatRequest,
    messages: Sequence[ChatMessage],
    support: ToolSupport,
    plan: ToolPlan,
    fence: Fence,
) -> PreparedTurns:
    """1. tools into the system prompt, unless the template writes them; 2. the history by the profile; 3. rounds as
    plain turns, unless the template gets them right; 4. the answer that is to be continued."""
    begun = messages[-1] if request.continues else None
    past = messages[:-1] if begun else messages
    changes: tuple[str, ...] = ()
    if plan.offered and not support.writes_tools:
        described = describe_tools(
            plan.offered, request.tool_choice, plan.format, fence.trust, parallel=request.parallel_tool_calls
        )
        past = _with_system(past, described)
        changes += ("tools=prompted",)
    changes += plan.changes
    history = prepared_history(model.profile, past)
    changes = history.changes + changes
    past = history.messages
    continues = False
    if support.style is None and has_rounds(past):
        plain = plain_turns(past, support.format, fence.trust, eos_token=model.eos_token)
        past, continues = plain.messages, plain.continues
        changes += ("tool-turns=rewritten",)
    if begun is None:
        return PreparedTurns(messages=tuple(past), continues=continues, changes=changes)
    written, in_thought = _begun(begun, model.profile, fence)
    if continues:  # the results of tools and the answer to them are one turn
        written = replace(past[-1], content=past[-1].content + written.content)
        past = past[:-1]
    return PreparedTurns(messages=(*past, written), continues=True, in_thought=in_thought, changes=changes)


def _with_system(messages: Sequence[ChatMessage], text: str) -> tuple[ChatMessage, ...]:
    """The first system prompt goes before ``text``; many templates take one alone."""
    first = messages[0]
    if first.role in SYSTEM_ROLES:
        content = f"{first.content}\n\n{text}" if first.content.strip() else text
        return (replace(first, content=content), *messages[1:])
    return (ChatMessage(role="system", content=text), *messages)


def _begun(message: ChatMessage, profile: ModelProfile, fence: Fence) -> tuple[ChatMessage, bool]:
    """The message with its thought written as the model writes it, and whether the thought is still open."""
    inline, content = split_thought(message.content) if profile.splits_reasoning else ("", message.content)
    thought = message.reasoning or inline
    if not thought:
        return replace(message, content=content, reasoning=None), False
    text = f"{fence.trust(THINK_OPEN)}\n{thought}"
    if content:
        text += f"\n{fence.trust(THINK_CLOSE)}\n\n{content}"
    return replace(message, content=text, reasoning=None), not content
