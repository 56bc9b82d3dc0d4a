"""Refuses what a request asks for in vain: of any model, or of the engine that runs this one."""

from __future__ import annotations

import math
from collections.abc import Iterator

from appliance.engine.base import EngineInfo, Feature
from appliance.errors import InvalidRequest
from appliance.serving.completion import CompletionRequest
from appliance.serving.context import reserved_tokens
from appliance.serving.errors import EngineCannot
from appliance.serving.stop import check_stop_strings
from appliance.serving.tools.plan import check_tools
from appliance.serving.types import ChatMessage, ChatRequest, ToolMode

ROLES = frozenset(("system", "developer", "user", "assistant", "tool"))


def check_chat(request: ChatRequest) -> None:
    """Raises InvalidRequest for what no model could serve."""
    if not request.messages:
        raise InvalidRequest("A conversation has at least one message.", param="messages")
    for number, message in enumerate(request.messages):
        if message.role not in ROLES:
            raise InvalidRequest(
                f"messages[{number}] has the role '{message.role:.40}'; known are {', '.join(sorted(ROLES))}.",
                param="messages",
            )
        for text in _texts(message):
            try:
                if not text.isascii():
                    text.encode("utf-8")
            except UnicodeEncodeError as error:
                raise InvalidRequest(
                    f"messages[{number}] holds half a surrogate pair, which is not text.", param="messages"
                ) from error
    check_stop_strings(request.stop)
    check_tools(request)
    last = request.messages[-1]
    if request.continues and (last.role != "assistant" or last.tool_calls):
        raise InvalidRequest("Only the last message of the assistant, without tool calls, can go on.", param="messages")
    if request.deadline_s is not None and not 0 <= request.deadline_s < math.inf:
        raise InvalidRequest("A deadline is a number of seconds from 0 on.", param="deadline_s")
    reserved_tokens(request.max_tokens)


def check_features(request: ChatRequest, info: EngineInfo) -> None:
    """Raises EngineCannot for what this model's engine does not do."""
    demands_call = request.tool_choice.mode in (ToolMode.REQUIRED, ToolMode.NAMED)
    if demands_call and Feature.STRUCTURE not in info.features:
        raise EngineCannot(what="make sure that a tool is called", engine=info.engine, param="tool_choice")
    check_output(request, info)
    thinking = request.thinking
    if Feature.THINKING not in info.features and (thinking.budget_tokens or thinking.answer_tokens or thinking.effort):
        raise EngineCannot(what="keep a thought or an answer to a length", engine=info.engine, param="thinking")


def check_output(request: ChatRequest | CompletionRequest, info: EngineInfo) -> None:
    """The same of the answer's form alone."""
    if request.structure is not None and Feature.STRUCTURE not in info.features:
        raise EngineCannot(what="keep an answer to a given form", engine=info.engine, param="response_format")
    if request.logprobs is not None and Feature.LOGPROBS not in info.features:
        raise EngineCannot(what="tell log probabilities", engine=info.engine, param="logprobs")


def _texts(message: ChatMessage) -> Iterator[str]:
    yield message.content
    yield from (text for text in (message.reasoning, message.tool_call_id, message.name) if text)
    for call in message.tool_calls or ():
        yield from (call.id, call.name, call.arguments)
