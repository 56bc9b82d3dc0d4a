"""From the body of a response's request to a chat request."""

from __future__ import annotations

import json
from typing import Any

from pydantic import TypeAdapter

from appliance.api.errors import UnsupportedParameter
from appliance.api.exchange import to_model_id
from appliance.api.openai.responses.items import FindItem, to_messages
from appliance.api.openai.responses.store import PreviousResponseNotFound, ResponseNotFound, ResponseStore
from appliance.api.openai.thinking import to_thinking
from appliance.api.openai.translate import ignored_of, refuse_wrong
from appliance.engine.request import Structure, StructureKind
from appliance.errors import InvalidRequest
from appliance.schemas.openai_responses import (
    INCLUDES,
    RESPONSE_IGNORED,
    RESPONSE_UNSUPPORTED,
    AllowedFunctionTools,
    InputItem,
    JsonSchemaTextFormat,
    NamedFunctionTool,
    ResponseRequest,
)
from appliance.schemas.openai_thinking import ThinkingFields
from appliance.schemas.openai_tools import JsonObjectFormat
from appliance.serving.types import ChatMessage, ChatRequest, SamplingOverrides, Tool, ToolChoice, ToolMode

_ITEM: TypeAdapter[InputItem] = TypeAdapter(InputItem)


def to_chat(
    body: ResponseRequest, request_id: str, owner: str, store: ResponseStore
) -> tuple[ChatRequest, tuple[ChatMessage, ...]]:
    """What the serving layer gets, and the conversation in it without instructions.

    Raises UnsupportedParameter, InvalidRequest, PreviousResponseNotFound.
    """
    refuse_wrong(body, RESPONSE_UNSUPPORTED)
    for index, name in enumerate(body.include or ()):
        if name not in INCLUDES:
            raise UnsupportedParameter(f"include[{index}]", detail=f": there is no '{name[:60]}' here")
    messages = (*_earlier(body, owner, store), *to_messages(body.input, _finder(owner, store)))
    instructions = (ChatMessage(role="system", content=body.instructions),) if body.instructions else ()
    tools, choice = _tools(body)
    chat = ChatRequest(
        request_id=request_id,
        model=to_model_id(body.model),
        messages=(*instructions, *messages),
        max_tokens=body.max_output_tokens,
        sampling=SamplingOverrides(temperature=body.temperature, top_p=body.top_p),
        trim_turns=body.truncation == "auto",
        deadline_s=body.deadline_s,
        owner=owner,
        thinking=to_thinking(ThinkingFields(reasoning_effort=body.reasoning.effort if body.reasoning else None)),
        tools=tools,
        tool_choice=choice,
        parallel_tool_calls=body.parallel_tool_calls is not False,
        structure=_structure(body),
        logprobs=(body.top_logprobs or 0) if wants_logprobs(body) else None,
    )
    return chat, messages


def wants_logprobs(body: ResponseRequest) -> bool:
    """Whether log probabilities go into the output."""
    return "message.output_text.logprobs" in (body.include or ()) or bool(body.top_logprobs)


def wants_seals(body: ResponseRequest) -> bool:
    """Whether thoughts come sealed as well."""
    return "reasoning.encrypted_content" in (body.include or ())


def ignored(body: ResponseRequest) -> tuple[str, ...]:
    """Accepted fields without effect that the client set."""
    names = ignored_of(body, RESPONSE_IGNORED)
    if body.reasoning and (body.reasoning.summary or body.reasoning.generate_summary):
        names += ("reasoning.summary",)
    return names


def _earlier(body: ResponseRequest, owner: str, store: ResponseStore) -> tuple[ChatMessage, ...]:
    if body.previous_response_id is None:
        return ()
    try:
        return store.get(owner, body.previous_response_id).messages
    except ResponseNotFound as error:
        raise PreviousResponseNotFound(body.previous_response_id) from error


def _finder(owner: str, store: ResponseStore) -> FindItem:
    def find(item_id: str) -> InputItem | None:
        item = store.item(owner, item_id)
        return None if item is None else _ITEM.validate_json(json.dumps(item))

    return find


def _tools(body: ResponseRequest) -> tuple[tuple[Tool, ...], ToolChoice]:
    tools = tuple(
        Tool(
            name=tool.name,
            description=tool.description,
            parameters=None if tool.parameters is None else _json(tool.parameters),
            strict=bool(tool.strict),
        )
        for tool in body.tools or ()
    )
    choice = body.tool_choice
    if isinstance(choice, NamedFunctionTool):
        return tools, ToolChoice(ToolMode.NAMED, choice.name)
    if isinstance(choice, AllowedFunctionTools):
        allowed = {tool.name for tool in choice.tools}
        if unknown := sorted(allowed - {tool.name for tool in tools}):
            raise InvalidRequest(
                f"tool_choice allows '{unknown[0]:.128}', which is not among the tools.", param="tool_choice"
            )
        return tuple(tool for tool in tools if tool.name in allowed), ToolChoice(ToolMode(choice.mode))
    return tools, ToolChoice(ToolMode(choice or "auto"))


def _structure(body: ResponseRequest) -> Structure | None:
    form = body.text.format if body.text else None
    if isinstance(form, JsonSchemaTextFormat):
        return Structure(kind=StructureKind.JSON_SCHEMA, text=_json(form.schema_))
    return Structure(kind=StructureKind.JSON_OBJECT) if isinstance(form, JsonObjectFormat) else None


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
