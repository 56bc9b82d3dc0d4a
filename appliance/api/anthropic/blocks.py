"""Blocks of content, from Anthropic's wire types to the turns of the serving layer."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from appliance.api.errors import UnsupportedParameter
from appliance.chats.prompt import with_files
from appliance.errors import InvalidRequest
from appliance.schemas.anthropic_request import Block, MessageBody, Source
from appliance.serving.types import ChatMessage, ToolCall

_FIELDS = {
    "text": {"text", "citations"},
    "thinking": {"thinking", "signature"},
    "redacted_thinking": {"data"},
    "tool_use": {"id", "name", "input", "caller"},
    "tool_result": {"tool_use_id", "content", "is_error"},
    "document": {"source", "title", "context", "citations"},
}
"""The types that are read, with their fields beside ``type`` and ``cache_control``. ``caller`` is of an answer that is
sent back."""

_OF_ROLE = {
    "user": {"text", "tool_result", "document"},
    "assistant": {"text", "thinking", "redacted_thinking", "tool_use"},
    "system": {"text"},
}
_OF_RESULT = {"text", "document"}
_ERROR_MARK = "Error: "


def to_messages(system: str | Sequence[Block] | None, messages: Sequence[MessageBody]) -> tuple[ChatMessage, ...]:
    """The conversation. Results of tools become turns of their own, before what the user says in the same message.
    Raises InvalidRequest, UnsupportedParameter."""
    turns = []
    if system:
        turns.append(ChatMessage(role="system", content=_text(system, "system", _OF_ROLE["system"])))
    for index, message in enumerate(messages):
        turns += _turns(message, f"messages[{index}]")
    return tuple(turns)


def _turns(message: MessageBody, where: str) -> Iterator[ChatMessage]:
    content, where = message.content, f"{where}.content"
    if isinstance(content, str):
        yield ChatMessage(role=message.role, content=content)
        return
    for index, block in enumerate(content):
        _check(block, f"{where}[{index}]", _OF_ROLE[message.role])
    if message.role == "assistant":
        yield _assistant(content, where)
        return
    for index, block in enumerate(content):
        if block.type == "tool_result":
            yield _result(block, f"{where}[{index}]")
    said = [block for block in content if block.type != "tool_result"]
    if said or not content:
        yield ChatMessage(role=message.role, content=_text(said, where, _OF_ROLE[message.role]))


def _assistant(content: Sequence[Block], where: str) -> ChatMessage:
    thoughts = [block.thinking or "" for block in content if block.type == "thinking"]
    redacted = any(block.type == "redacted_thinking" for block in content)
    calls = tuple(_call(block, f"{where}[{index}]") for index, block in enumerate(content) if block.type == "tool_use")
    return ChatMessage(
        role="assistant",
        content="".join(_given(block.text, f"{where}.text") for block in content if block.type == "text"),
        reasoning="".join(thoughts) if thoughts or redacted else None,
        tool_calls=calls or None,
    )


def _call(block: Block, where: str) -> ToolCall:
    arguments = json.dumps(block.input or {}, ensure_ascii=False)
    return ToolCall(id=_given(block.id, f"{where}.id"), name=_given(block.name, f"{where}.name"), arguments=arguments)


def _result(block: Block, where: str) -> ChatMessage:
    mark = _ERROR_MARK if block.is_error else ""
    return ChatMessage(
        role="tool",
        content=mark + _text(block.content or "", f"{where}.content", _OF_RESULT),
        tool_call_id=_given(block.tool_use_id, f"{where}.tool_use_id"),
    )


def _text(content: str | Sequence[Block], where: str, types: set[str]) -> str:
    if isinstance(content, str):
        return content
    texts = []
    for index, block in enumerate(content):
        place = f"{where}[{index}]"
        _check(block, place, types)
        if block.type == "document":
            texts.append(_document(block, place))
        else:
            texts.append(_given(block.text, f"{place}.text"))
    return "\n".join(texts)


def _document(block: Block, where: str) -> str:
    source, where = block.source, f"{where}.source"
    if source is None:
        raise InvalidRequest(f"'{where}' is missing.", param=where)
    title = (block.title or "document").replace("\n", " ")
    return with_files(f"{block.context}\n" if block.context else "", [(title, _of_source(source, where))])


def _of_source(source: Source, where: str) -> str:
    if source.type == "text":
        return _given(source.data, f"{where}.data")
    if source.type == "content":
        return _text(source.content or "", f"{where}.content", {"text"})
    raise UnsupportedParameter(f"{where}", detail=f": a document is read as text, not from '{source.type[:40]}'")


def _check(block: Block, where: str, types: set[str]) -> None:
    if block.type not in types:
        if block.type in _FIELDS:
            raise InvalidRequest(f"A block of the type '{block.type}' has no place at {where}.", param=where)
        raise UnsupportedParameter(where, detail=f": the model reads text, not '{block.type[:40]}'")
    unknown = block.model_fields_set - _FIELDS[block.type] - {"type", "cache_control"}
    # Answers that are sent back have fields that are null.
    if unknown := {name for name in unknown if getattr(block, name) is not None}:
        raise UnsupportedParameter(f"{where}.{min(unknown)[:40]}")
    citations = block.citations
    if block.type == "document" and isinstance(citations, dict) and citations.get("enabled"):
        raise UnsupportedParameter(f"{where}.citations", detail=": the model does not cite")


def _given(value: str | None, where: str) -> str:
    if value is None:
        raise InvalidRequest(f"'{where}' is missing.", param=where)
    return value


def is_marked(system: str | Sequence[Block] | None, messages: Sequence[MessageBody]) -> bool:
    """Whether any block has a mark of Anthropic's cache. The box caches prompts by itself."""
    contents = [system, *(message.content for message in messages)]
    return any(
        block.cache_control is not None
        for content in contents
        if isinstance(content, Sequence)
        for block in content
        if isinstance(block, Block)
    )
