"""The model's own chat template: messages in, prompt segments out.

Templates follow Hugging Face's dialect (``apply_chat_template``): trimmed blocks, loop controls, ``raise_exception``,
``strftime_now``, ``tojson`` without HTML escapes. They run metered (``sandbox``) and a client's text is fenced
(``fence``).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from jinja2.exceptions import SecurityError, TemplateAssertionError, TemplateError, TemplateSyntaxError

from appliance.engine.request import TextSegment
from appliance.errors import InvalidRequest
from appliance.serving.errors import ChatTemplateUnusable
from appliance.serving.fence import ControlTokens, Fence
from appliance.serving.meter import RenderLimitExceeded, RenderMeter
from appliance.serving.reasoning import THINK_OPEN
from appliance.serving.sandbox import ChatTemplateEnvironment
from appliance.serving.types import ChatMessage, Tool

MAX_TEMPLATE_CHARS = 131_072  # the longest known ones have some 30,000
MAX_CPU_S = 2.0
AT_ONCE_STEPS, AT_ONCE_CPU_S = 20_000, 0.004
"""What a rendering may take that the event loop waits for. R1's template takes six steps and 10 us a message."""
_BASE_STEPS, _STEPS_PER_MESSAGE = 500_000, 1_000
_BASE_CHARS, _CHARS_PER_INPUT_CHAR = 16_000_000, 32
_MAX_REASON_CHARS = 500
_MAX_DATE_FORMAT_CHARS = 100
_NO_PARAMETERS = '{"type": "object", "properties": {}}'


@dataclass(frozen=True, slots=True)
class RenderedPrompt:
    """A prompt to tokenise. ``add_bos`` is False when the template wrote the BOS itself; otherwise the tokenizer does
    as the model's own setting says. ``opens_reasoning``: it ends with ``<think>``, so the model starts in its thought.
    """

    segments: tuple[TextSegment, ...]
    add_bos: bool
    opens_reasoning: bool


@dataclass(frozen=True, slots=True)
class MessageStyle:
    """What a template expects of a message with tool calls: ``arguments`` as JSON text, or parsed; an empty ``content``
    as null, or as an empty text."""

    arguments_as_text: bool = True
    empty_content_is_null: bool = True


DEFAULT_STYLE = MessageStyle()


class NotAtOnce(Exception):
    """The rendering takes longer than the event loop can wait: do it in a thread."""


class _Raised(Exception):
    """The template called ``raise_exception``."""


class ChatTemplate:
    """One compiled template. Rendering keeps no state, so one object serves any number of threads.

    Raises ChatTemplateUnusable when ``source`` cannot be compiled. Compiling and rendering may take up to
    ``MAX_CPU_S``: call them in a worker thread.
    """

    def __init__(
        self,
        source: str,
        *,
        control_tokens: frozenset[str] = frozenset(),
        bos_token: str | None = None,
        eos_token: str | None = None,
        now: Callable[[], datetime] = lambda: datetime.now().astimezone(),
    ) -> None:
        if len(source) > MAX_TEMPLATE_CHARS:
            raise _unusable(f"it has more than {MAX_TEMPLATE_CHARS:,} characters")
        self.source = source
        self._bos_token = bos_token
        self._eos_token = eos_token
        self._now = now
        self._environment = ChatTemplateEnvironment(
            {"raise_exception": _raise_exception, "strftime_now": self._strftime_now}
        )
        try:
            self._template = self._environment.from_string(source)
            self._control_tokens = ControlTokens(control_tokens)
        except (TemplateSyntaxError, TemplateAssertionError) as error:
            raise _unusable(f"line {error.lineno}: {error.message}") from error
        except (TemplateError, SyntaxError, RecursionError, MemoryError, ValueError, OverflowError) as error:
            raise _unusable(str(error) or type(error).__name__) from error

    def fence(self) -> Fence:
        """A fence for one rendering, for those who write control tokens of their own into the messages."""
        return Fence(self._control_tokens)

    def render(
        self,
        messages: Sequence[ChatMessage],
        *,
        add_generation_prompt: bool = True,
        tools: Sequence[Tool] = (),
        style: MessageStyle = DEFAULT_STYLE,
        fence: Fence | None = None,
        continues: bool = False,
        thinking: bool | None = None,
        at_once: bool = False,
    ) -> RenderedPrompt:
        """The prompt for ``messages``; with ``continues`` it ends where the last message ends, within its turn.
        ``thinking`` is told to templates that can switch it. ``at_once`` is for the event loop: bounds of milliseconds.

        Raises InvalidRequest when the template refuses them (with its own words) or cannot cope with them, and
        ChatTemplateUnusable when it exceeds its bounds; NotAtOnce when it does those of ``at_once``.
        """
        fence = fence or self.fence()
        if continues:
            text = self._continued(messages, fence, tools, style, at_once)
        else:
            text = self._render(messages, fence.guard, add_generation_prompt, tools, style, thinking, at_once)
        segments = tuple(fence.segments(text))
        if not segments:
            raise InvalidRequest("The model's chat template makes an empty prompt of these messages.", param="messages")
        first, last = segments[0], segments[-1]
        writes_bos = bool(self._bos_token) and first.trusted and first.text.startswith(self._bos_token or "")
        return RenderedPrompt(
            segments=segments,
            add_bos=not writes_bos,
            opens_reasoning=last.trusted and last.text.rstrip().endswith(THINK_OPEN),
        )

    def render_unfenced(self, messages: Sequence[ChatMessage], fence: Fence | None = None) -> str:
        """The prompt's text without looking for forged tokens: quick for huge messages, only good for measuring.
        ``fence`` is the one whose trusted texts are in the messages."""
        text = self._render(messages, lambda text: text, add_generation_prompt=True)
        return text if fence is None else "".join(segment.text for segment in fence.segments(text))

    def _continued(
        self,
        messages: Sequence[ChatMessage],
        fence: Fence,
        tools: Sequence[Tool],
        style: MessageStyle,
        at_once: bool,
    ) -> str:
        """Cut behind the last message's text: what the template writes after it would end the turn."""
        end = fence.trust("")
        last = replace(messages[-1], content=messages[-1].content + end)
        text = self._render([*messages[:-1], last], fence.guard, False, tools, style, at_once=at_once)
        if text.count(end) != 1:
            raise InvalidRequest("The model's chat template has no way to continue the last message.", param="messages")
        return text.partition(end)[0]

    def _render(
        self,
        messages: Sequence[ChatMessage],
        guard: Callable[[str], str],
        add_generation_prompt: bool,
        tools: Sequence[Tool] = (),
        style: MessageStyle = DEFAULT_STYLE,
        thinking: bool | None = None,
        at_once: bool = False,
    ) -> str:
        size = sum(_chars(message) for message in messages) + sum(len(tool.parameters or "") for tool in tools)
        variables = {
            "messages": [self._message(message, guard, style) for message in messages],
            "tools": [_tool(tool, guard) for tool in tools] or None,
            "documents": None,
            "add_generation_prompt": add_generation_prompt,
            "bos_token": self._bos_token or "",
            "eos_token": self._eos_token or "",
        }
        if thinking is not None:
            # Qwen3 and many others call it so; DeepSeek-V3.1 and later "thinking".
            variables |= {"enable_thinking": thinking, "thinking": thinking}
        most_steps = _BASE_STEPS + _STEPS_PER_MESSAGE * (len(messages) + len(tools)) + size
        meter = RenderMeter(
            max_steps=AT_ONCE_STEPS if at_once else most_steps,
            max_chars=_BASE_CHARS + _CHARS_PER_INPUT_CHAR * size,
            max_cpu_s=AT_ONCE_CPU_S if at_once else MAX_CPU_S,
        )
        try:
            return self._environment.render_metered(self._template, variables, meter)
        except _Raised as refusal:
            raise InvalidRequest(
                f"The model's chat template refuses these messages: {_one_line(str(refusal))}", param="messages"
            ) from refusal
        except (RenderLimitExceeded, SecurityError, OverflowError) as error:
            if at_once and isinstance(error, RenderLimitExceeded):
                raise NotAtOnce from error
            raise _unusable(str(error)) from error
        except (RecursionError, MemoryError) as error:
            raise _unusable("it never comes to an end") from error
        except (TemplateError, TypeError, ValueError, ArithmeticError, LookupError, AttributeError) as error:
            raise InvalidRequest(
                f"The model's chat template cannot be filled with these messages: {_one_line(str(error))}",
                param="messages",
            ) from error

    def _message(self, message: ChatMessage, guard: Callable[[str], str], style: MessageStyle) -> dict[str, Any]:
        role = message.role
        if role == "developer" and "developer" not in self.source:
            role = "system"  # OpenAI's newer name for it
        # As OpenAI and Hugging Face have it, a turn of calls alone has no content; R1's template looks for None.
        is_null = style.empty_content_is_null and message.tool_calls and not message.content
        fields: dict[str, Any] = {"role": role, "content": None if is_null else guard(message.content)}
        if message.reasoning is not None:
            fields["reasoning_content"] = guard(message.reasoning)
        if message.tool_calls:
            fields["tool_calls"] = [
                {
                    "id": guard(call.id),
                    "type": "function",
                    "function": {
                        "name": guard(call.name),
                        "arguments": guard(call.arguments)
                        if style.arguments_as_text
                        else _guarded(_parsed(call.arguments), guard),
                    },
                }
                for call in message.tool_calls
            ]
        if message.tool_call_id is not None:
            fields["tool_call_id"] = guard(message.tool_call_id)
        if message.name is not None:
            fields["name"] = guard(message.name)
        return fields

    def _strftime_now(self, date_format: str) -> str:
        # glibc pads to any width ("%1000000000d"), so widths and flags are refused.
        if len(date_format) > _MAX_DATE_FORMAT_CHARS or re.search(r"%[^A-Za-z%-]", date_format):
            raise SecurityError("strftime_now takes plain formats only")
        return self._now().strftime(date_format)


def _tool(tool: Tool, guard: Callable[[str], str]) -> dict[str, Any]:
    """As Hugging Face's templates know tools. Texts that are not there are empty: many templates join them."""
    return {
        "type": "function",
        "function": {
            "name": guard(tool.name),
            "description": guard(tool.description or ""),
            "parameters": _guarded(_parsed(tool.parameters or _NO_PARAMETERS), guard),
        },
    }


def _parsed(text: str) -> Any:
    """JSON's value, or the text itself when it is none: a client may send back what a model wrote."""
    try:
        return json.loads(text, strict=False)
    except (ValueError, RecursionError):
        return text


def _guarded(value: Any, guard: Callable[[str], str]) -> Any:
    """``value`` with every text in it guarded."""
    if isinstance(value, str):
        return guard(value)
    if isinstance(value, list):
        return [_guarded(item, guard) for item in value]
    if isinstance(value, dict):
        return {guard(key): _guarded(item, guard) for key, item in value.items()}
    return value


def _raise_exception(message: str) -> None:
    raise _Raised(message)


def _unusable(cause: str) -> ChatTemplateUnusable:
    return ChatTemplateUnusable(cause=_one_line(cause).rstrip("."))


def _chars(message: ChatMessage) -> int:
    calls = sum(len(call.name) + len(call.arguments) for call in message.tool_calls or ())
    return len(message.content) + len(message.reasoning or "") + calls


def _one_line(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _MAX_REASON_CHARS else line[:_MAX_REASON_CHARS] + " ..."
