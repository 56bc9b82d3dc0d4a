"""Items of a response's input as messages of a conversation, and the messages of its output."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from appliance.api.errors import UnsupportedParameter
from appliance.errors import InvalidRequest
from appliance.schemas.openai_responses import (
    FunctionCallItem,
    FunctionCallOutputItem,
    InputItem,
    InputPart,
    MessageItem,
    OtherItem,
    ReasoningItem,
    ReferenceItem,
)
from appliance.serving.types import ChatMessage, ToolCall

_SEAL = "r1b1."
_TEXT_PARTS = frozenset(("input_text", "output_text", "text", "reasoning_text", "summary_text"))

FindItem = Callable[[str], InputItem | None]
"""An item of a stored response by its id."""


def seal(thought: str) -> str:
    """A thought as ``encrypted_content``: a program that keeps no state sends it back with its next request. It is not
    secret, the thought stands beside it."""
    return _SEAL + base64.b64encode(thought.encode()).decode()


def unseal(sealed: str) -> str:
    """Raises ValueError for what this box did not write."""
    if not sealed.startswith(_SEAL):
        raise ValueError("not of this box")
    try:
        return base64.b64decode(sealed.removeprefix(_SEAL), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError) as error:
        raise ValueError("damaged") from error


def to_messages(items: str | Sequence[InputItem], find: FindItem) -> tuple[ChatMessage, ...]:
    """The conversation. Items that a model writes in one go (thought, words, calls) are one turn.

    Raises InvalidRequest, UnsupportedParameter.
    """
    if isinstance(items, str):
        return (ChatMessage(role="user", content=items),)
    turns = _Turns()
    for index, item in enumerate(items):
        where = f"input[{index}]"
        if isinstance(item, ReferenceItem):
            found = find(item.id)
            if found is None:
                raise InvalidRequest(f"There is no stored item '{item.id:.80}'.", param=f"{where}.id")
            turns.add(found, where)
        else:
            turns.add(item, where)
    return turns.messages()


def to_turn(output: Iterable[dict[str, Any]]) -> ChatMessage:
    """The output of a response as the turn that the next one goes on from."""
    turns = _Turns()
    for item in output:
        match item["type"]:
            case "reasoning":
                turns.thought("".join(part["text"] for part in item["content"]))
            case "message":
                turns.say("".join(part["text"] for part in item["content"]))
            case "function_call" if item["status"] == "completed":
                turns.call(ToolCall(item["call_id"], item["name"], item["arguments"]))
    messages = turns.messages()
    if len(messages) == 1:
        return messages[0]
    return ChatMessage(
        role="assistant",
        content="\n\n".join(message.content for message in messages if message.content),
        tool_calls=tuple(call for message in messages for call in message.tool_calls or ()) or None,
    )


class _Turns:
    """Puts items together to turns."""

    def __init__(self) -> None:
        self._done: list[ChatMessage] = []
        self._thought: list[str] = []
        self._said: list[str] = []
        self._calls: list[ToolCall] = []

    def add(self, item: InputItem, where: str) -> None:
        match item:
            case MessageItem(role="assistant"):
                self.say(_text(item.content, f"{where}.content"))
            case MessageItem():
                self._flush()
                self._done.append(ChatMessage(role=item.role, content=_text(item.content, f"{where}.content")))
            case FunctionCallItem():
                self.call(ToolCall(item.call_id, item.name, item.arguments))
            case FunctionCallOutputItem():
                self._flush()
                output = _text(item.output, f"{where}.output")
                self._done.append(ChatMessage(role="tool", content=output, tool_call_id=item.call_id))
            case ReasoningItem():
                self.thought(_thought(item, where))
            case OtherItem():
                raise UnsupportedParameter(where, detail=f": its type is '{item.type[:40]}'")

    def thought(self, text: str) -> None:
        if self._said or self._calls:
            self._flush()
        self._thought.append(text)

    def say(self, text: str) -> None:
        if self._said or self._calls:
            self._flush()
        self._said.append(text)

    def call(self, call: ToolCall) -> None:
        self._calls.append(call)

    def messages(self) -> tuple[ChatMessage, ...]:
        self._flush()
        return tuple(self._done)

    def _flush(self) -> None:
        if self._said or self._calls or self._thought:
            self._done.append(
                ChatMessage(
                    role="assistant",
                    content="".join(self._said),
                    reasoning="\n".join(self._thought) or None,
                    tool_calls=tuple(self._calls) or None,
                )
            )
        self._thought, self._said, self._calls = [], [], []


def _text(content: str | Sequence[InputPart], where: str) -> str:
    if isinstance(content, str):
        return content
    texts = []
    for index, part in enumerate(content):
        text = part.refusal if part.type == "refusal" else part.text
        if part.type != "refusal" and part.type not in _TEXT_PARTS:
            raise UnsupportedParameter(f"{where}[{index}]", detail=f": the model reads text, not '{part.type[:40]}'")
        if text is None:
            raise InvalidRequest(f"The text of {where}[{index}] is missing.", param=f"{where}[{index}].text")
        texts.append(text)
    return "".join(texts)


def _thought(item: ReasoningItem, where: str) -> str:
    if item.content:
        return _text(item.content, f"{where}.content")
    if item.encrypted_content:
        try:
            return unseal(item.encrypted_content)
        except ValueError as error:
            raise InvalidRequest(
                f"{where} holds the sealed thought of another service; leave the item out.",
                param=f"{where}.encrypted_content",
            ) from error
    return _text(item.summary or (), f"{where}.summary")
