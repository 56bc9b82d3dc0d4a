"""Between Anthropic's wire types and those of the serving layer. Values in, values out."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import replace

from fastapi import Request

from appliance.api.anthropic.blocks import is_marked, to_messages
from appliance.api.exchange import raise_if_failed, reasoning_format, refuse_unsupported, to_model_id
from appliance.engine.request import FinishReason, Structure, StructureKind
from appliance.errors import InvalidRequest
from appliance.schemas.anthropic_request import (
    COUNT_IGNORED,
    IGNORED,
    TOOL_IGNORED,
    UNSUPPORTED,
    CountTokensRequest,
    MessagesRequest,
    PromptFields,
    ThinkingAdaptive,
    ThinkingDisabled,
    ThinkingEnabled,
    ToolChoiceBody,
)
from appliance.schemas.anthropic_response import MessageUsage, OutputTokensDetails, StopReason
from appliance.schemas.openai_response import TrimmedBody
from appliance.serving.types import (
    ChatFinished,
    ChatRequest,
    Effort,
    ReasoningFormat,
    SamplingOverrides,
    ThinkingOptions,
    Tool,
    ToolChoice,
    ToolMode,
    Usage,
)

_EFFORTS = {
    "low": Effort.LOW,
    "medium": Effort.MEDIUM,
    "high": Effort.HIGH,
    "xhigh": Effort.HIGH,
    "max": Effort.HIGH,
}
_MODES = {"auto": ToolMode.AUTO, "any": ToolMode.REQUIRED, "tool": ToolMode.NAMED, "none": ToolMode.NONE}


def to_chat_request(
    body: MessagesRequest | CountTokensRequest, request_id: str, owner: str | None = None
) -> ChatRequest:
    """What the serving layer gets; ``owner`` as there. Raises UnsupportedParameter, InvalidRequest."""
    refuse_unsupported(body, UNSUPPORTED)
    messages = to_messages(body.system, body.messages)
    asked = ChatRequest(
        request_id=request_id,
        model=to_model_id(body.model),
        messages=messages,
        tools=_tools(body),
        tool_choice=_choice(body.tool_choice),
        parallel_tool_calls=not (body.tool_choice and body.tool_choice.disable_parallel_tool_use),
        structure=_structure(body),
        continues=messages[-1].role == "assistant",
        owner=owner,
        thinking=_thinking(body),
    )
    return asked if isinstance(body, CountTokensRequest) else _with_answer(asked, body)


def to_shape(body: MessagesRequest, request: Request) -> ReasoningFormat:
    """Where the thought is to go. Clients of Anthropic's that did not ask for a thought take the first block for the
    answer, so it is shown to those who did, and to whom the header or the key gives it."""
    asked = isinstance(body.thinking, ThinkingEnabled | ThinkingAdaptive)
    default = ReasoningFormat.REASONING_CONTENT if asked else ReasoningFormat.HIDDEN
    return reasoning_format(None, request, default)


def omits_thought(body: MessagesRequest) -> bool:
    """Whether the client wants the block of the thought without its text."""
    return getattr(body.thinking, "display", None) == "omitted"


def to_ignored_fields(body: MessagesRequest | CountTokensRequest) -> tuple[str, ...]:
    """Those of the accepted fields without effect that the client set, by their paths."""
    names = COUNT_IGNORED if isinstance(body, CountTokensRequest) else IGNORED
    ignored = [name for name in names if getattr(body, name) is not None]
    if "cache_control" not in ignored and is_marked(body.system, body.messages):
        ignored.append("cache_control")
    of_tools = (name for name in TOOL_IGNORED if any(getattr(tool, name) is not None for tool in body.tools or ()))
    return (*ignored, *(f"tools.{name}" for name in of_tools))


def to_stop_reason(finished: ChatFinished) -> StopReason:
    """Why the answer ended. Raises the error that ended it."""
    raise_if_failed(finished)
    if finished.reason is FinishReason.LENGTH:
        return "max_tokens"
    if finished.tool_calls:
        return "tool_use"
    return "end_turn" if finished.stop_string is None else "stop_sequence"


def to_usage(usage: Usage) -> MessageUsage:
    """The token counts in Anthropic's shape, where cached tokens are not among the input's."""
    trimmed = usage.trimmed
    return MessageUsage(
        input_tokens=usage.prompt_tokens - usage.cached_tokens,
        output_tokens=usage.completion_tokens,
        cache_read_input_tokens=usage.cached_tokens,
        output_tokens_details=OutputTokensDetails(thinking_tokens=usage.reasoning_tokens),
        thinking_end=usage.thinking_end,
        answer_looped=usage.answer_looped or None,
        trimmed=None
        if trimmed is None
        else TrimmedBody(turns=trimmed.turns, tokens=trimmed.tokens, tokens_is_minimum=trimmed.tokens_is_minimum),
    )


def message_id(request_id: str) -> str:
    """``msg_...`` for ``req_...``."""
    return f"msg_{request_id.removeprefix('req_')}"


class Signature:
    """Makes the signature of a thought that comes in pieces: ``r1box1.`` and a digest of its text. Opaque to clients;
    nobody checks it, for a thought that is sent back never reaches the model as it is."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()

    def add(self, text: str) -> None:
        self._digest.update(text.encode("utf-8", "surrogatepass"))

    def text(self) -> str:
        return "r1box1." + base64.urlsafe_b64encode(self._digest.digest()).decode().rstrip("=")


def _with_answer(asked: ChatRequest, body: MessagesRequest) -> ChatRequest:
    return replace(
        asked,
        max_tokens=body.max_tokens,
        sampling=SamplingOverrides(temperature=body.temperature, top_p=body.top_p, top_k=body.top_k),
        stop=tuple(body.stop_sequences or ()),
        trim_turns=body.trim == "turns",
        deadline_s=body.deadline_s,
    )


def _tools(body: PromptFields) -> tuple[Tool, ...]:
    return tuple(
        Tool(
            name=tool.name,
            description=tool.description,
            parameters=json.dumps(tool.input_schema, ensure_ascii=False),
            strict=bool(tool.strict),
        )
        for tool in body.tools or ()
    )


def _choice(choice: ToolChoiceBody | None) -> ToolChoice:
    if choice is None:
        return ToolChoice()
    if (choice.type == "tool") is not (choice.name is not None):
        raise InvalidRequest("'tool_choice.name' belongs to the type 'tool'.", param="tool_choice.name")
    return ToolChoice(_MODES[choice.type], choice.name)


def _structure(body: PromptFields) -> Structure | None:
    form = body.output_config.format if body.output_config else None
    if form is None:
        return None
    return Structure(kind=StructureKind.JSON_SCHEMA, text=json.dumps(form.schema_, ensure_ascii=False))


def _thinking(body: PromptFields) -> ThinkingOptions:
    thinking = body.thinking
    effort = body.output_config.effort if body.output_config else None
    if isinstance(thinking, ThinkingDisabled):
        # An effort is of the whole answer in Anthropic's API; of one without a thought nothing is left.
        return ThinkingOptions(enabled=False)
    return ThinkingOptions(
        enabled=None if thinking is None else True,
        effort=None if effort is None else _EFFORTS[effort],
        budget_tokens=thinking.budget_tokens if isinstance(thinking, ThinkingEnabled) else None,
    )
