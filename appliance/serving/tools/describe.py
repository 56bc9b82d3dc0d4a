"""Tools and calls as text, for models whose template has no place for them.

What the tools are and how to call them then stands in the system prompt, or, with a model that has none, in the user's
turn, where system prompts of such a model go.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from appliance.serving.tools.format import (
    CALL_BEGIN,
    CALL_END,
    CALLS_BEGIN,
    CALLS_END,
    HERMES_CLOSE,
    HERMES_OPEN,
    SEPARATOR,
    ToolFormat,
)
from appliance.serving.types import Tool, ToolCall, ToolChoice, ToolMode

Trust = Callable[[str], str]
"""``Fence.trust``: makes a mark of ours stand in a message as the mark it is."""

_EXAMPLE = ToolCall(id="", name="TOOL_NAME", arguments='{"parameter": "value"}')


def describe_tools(
    tools: Sequence[Tool], choice: ToolChoice, tool_format: ToolFormat, trust: Trust, *, parallel: bool
) -> str:
    """The text for the system prompt."""
    parts = ["You can use tools. " + _how_to_call(tool_format, trust, parallel=parallel), _when_to_call(choice)]
    parts += ["## Tools", *(_tool(tool) for tool in tools)]
    return "\n\n".join(parts)


def calls_text(calls: Sequence[ToolCall], tool_format: ToolFormat, trust: Trust) -> str:
    """Calls as the model writes them."""
    if tool_format is ToolFormat.DEEPSEEK:
        written = "\n".join(
            f"{trust(CALL_BEGIN)}function{trust(SEPARATOR)}{call.name}\n```json\n{call.arguments}\n```{trust(CALL_END)}"
            for call in calls
        )
        return f"{trust(CALLS_BEGIN)}{written}{trust(CALLS_END)}"
    if tool_format is ToolFormat.FORCED:
        return ", ".join(_object(call) for call in calls)
    return "\n".join(f"{trust(HERMES_OPEN)}\n{_object(call)}\n{trust(HERMES_CLOSE)}" for call in calls)


def _object(call: ToolCall) -> str:
    return f'{{"name": "{call.name}", "arguments": {call.arguments}}}'


def _how_to_call(tool_format: ToolFormat, trust: Trust, *, parallel: bool) -> str:
    example = calls_text([_EXAMPLE], tool_format, trust)
    if tool_format is ToolFormat.FORCED:
        many = " Several calls are a JSON list of such objects." if parallel else ""
        return f"A call is a JSON object of this form:\n\n{example}\n\nAnswer with that alone.{many}"
    many = (
        "Several calls may follow one another in this form."
        if parallel
        else "Call one tool at a time and wait for its result."
    )
    return (
        f"To call one, write exactly this and end your answer there:\n\n{example}\n\n{many} You get the results before "
        "you go on; never make one up."
    )


def _when_to_call(choice: ToolChoice) -> str:
    if choice.mode is ToolMode.NAMED:
        return f"Now you must call the tool {choice.name}."
    if choice.mode is ToolMode.REQUIRED:
        return "Now you must call a tool."
    return "Call a tool only when you need it; else answer in words."


def _tool(tool: Tool) -> str:
    about = f"\n{tool.description}" if tool.description else ""
    takes = f"Parameters (JSON schema): {tool.parameters}" if tool.parameters else "It takes no parameters: {}"
    return f"### {tool.name}{about}\n{takes}"
