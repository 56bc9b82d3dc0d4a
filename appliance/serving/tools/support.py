"""What a model's template can do with tools, found out by rendering: no template is believed by its name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from appliance.errors import AppError
from appliance.serving.template import ChatTemplate, MessageStyle
from appliance.serving.tools.format import CALLS_BEGIN, HERMES_OPEN, ToolFormat, format_of
from appliance.serving.types import ChatMessage, Tool, ToolCall

_PROBE = Tool(name="probe_name_k7", description="probe_words_k7", parameters='{"properties": {"probe_field_k7": {}}}')
_STYLES = (
    MessageStyle(),
    MessageStyle(empty_content_is_null=False),
    MessageStyle(arguments_as_text=False),
    MessageStyle(arguments_as_text=False, empty_content_is_null=False),
)


@dataclass(frozen=True, slots=True)
class ToolSupport:
    """``writes_tools``: the template describes tools by itself. ``style``: how it takes rounds of calls and results;
    None when it does not get them right, so that they become plain turns."""

    format: ToolFormat
    writes_tools: bool
    style: MessageStyle | None


def support_of(template: ChatTemplate, control_tokens: frozenset[str]) -> ToolSupport:
    """Tries the template. Takes a few milliseconds, up to seconds for a hostile one: call it in a worker thread."""
    tool_format = format_of(template.source, control_tokens)
    mark = CALLS_BEGIN if tool_format is ToolFormat.DEEPSEEK else HERMES_OPEN
    if mark not in template.source:  # it may know tools, but of a format that nobody here reads
        return ToolSupport(tool_format, writes_tools=False, style=None)
    style = next((style for style in _STYLES if _keeps_rounds(template, style)), None)
    return ToolSupport(tool_format, writes_tools=_writes_tools(template), style=style)


def _writes_tools(template: ChatTemplate) -> bool:
    text = _rendered(template, [_user("hello")], MessageStyle(), (_PROBE,))
    return all(word in text for word in ("probe_name_k7", "probe_words_k7", "probe_field_k7"))


def _keeps_rounds(template: ChatTemplate, style: MessageStyle) -> bool:
    """Three rounds, one of them with words: everything is there once, in its order and verbatim, and the second round
    looks like the first."""
    first = [_call("a1"), _call("b1")]
    messages = [
        _user("user-k7"),
        ChatMessage(role="assistant", content="", tool_calls=tuple(first)),
        _result("a1"),
        _result("b1"),
        ChatMessage(role="assistant", content="words-k7", tool_calls=(_call("a2"), _call("b2"))),
        _result("a2"),
        _result("b2"),
        ChatMessage(role="assistant", content="answer-k7"),
        _user("again-k7"),
        ChatMessage(role="assistant", content="", tool_calls=(_call("a3"),)),
        _result("a3"),
    ]
    text = _rendered(template, messages, style)
    words = ["user-k7", *_round_words("a1", "b1"), "words-k7", *_round_words("a2", "b2"), "answer-k7", "again-k7"]
    words += _round_words("a3")
    if any(text.count(word) != 1 for word in words):
        return False
    places = [text.index(word) for word in words]
    return places == sorted(places) and _shape(text, "1") == _shape(text, "2")


def _shape(text: str, number: str) -> str:
    """What the template writes from a round's first call to its last result, without what is the round's own."""
    start, end = text.index(f"name_a{number}_k7"), text.index(f"result-b{number}-k7")
    return text[start:end].replace(f"a{number}", "a").replace(f"b{number}", "b")


def _round_words(*keys: str) -> list[str]:
    calls = [word for key in keys for word in (f"name_{key}_k7", f'{{"value": "argument-{key}-k7"}}')]
    return [*calls, *(f"result-{key}-k7" for key in keys)]


def _rendered(
    template: ChatTemplate, messages: Sequence[ChatMessage], style: MessageStyle, tools: Sequence[Tool] = ()
) -> str:
    try:
        prompt = template.render(messages, style=style, tools=tools)
    except AppError:
        return ""
    return "".join(segment.text for segment in prompt.segments)


def _user(text: str) -> ChatMessage:
    return ChatMessage(role="user", content=text)


def _call(key: str) -> ToolCall:
    return ToolCall(id=f"id_{key}", name=f"name_{key}_k7", arguments=f'{{"value": "argument-{key}-k7"}}')


def _result(key: str) -> ChatMessage:
    return ChatMessage(role="tool", content=f"result-{key}-k7", tool_call_id=f"id_{key}", name=f"name_{key}_k7")
