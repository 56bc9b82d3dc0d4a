"""How a model writes tool calls, and the texts that mark them.

- DEEPSEEK: R1, R1-0528 and their distills (chat templates of DeepSeek-R1 and R1-0528):
  ``<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>NAME\\n```json\\n{...}\\n```<｜tool▁call▁end｜>
  <｜tool▁calls▁end｜>``; a distill, whose vocabulary has no such tokens, spells them also with ``_`` or spaces;
- HERMES: Hermes, Qwen and many others: ``<tool_call>\\n{"name": ..., "arguments": {...}}\\n</tool_call>``. A model
  whose template knows no tools is asked for this one;
- FORCED: a call was demanded, and nothing but it can be written: the JSON of HERMES, or a list of it, without marks.
"""

from __future__ import annotations

from enum import StrEnum

CALLS_BEGIN, CALLS_END = "<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>"
CALL_BEGIN, CALL_END, SEPARATOR = "<｜tool▁call▁begin｜>", "<｜tool▁call▁end｜>", "<｜tool▁sep｜>"
OUTPUTS_BEGIN, OUTPUTS_END = "<｜tool▁outputs▁begin｜>", "<｜tool▁outputs▁end｜>"
OUTPUT_BEGIN, OUTPUT_END = "<｜tool▁output▁begin｜>", "<｜tool▁output▁end｜>"
HERMES_OPEN, HERMES_CLOSE = "<tool_call>", "</tool_call>"
RESPONSE_OPEN, RESPONSE_CLOSE = "<tool_response>", "</tool_response>"

_SPACERS = ("▁", "_", " ", "\\_")


class ToolFormat(StrEnum):
    """See the module."""

    DEEPSEEK = "deepseek"
    HERMES = "hermes"
    FORCED = "forced"


_MARKERS = {
    ToolFormat.DEEPSEEK: (
        *(CALLS_BEGIN, CALLS_END, CALL_BEGIN, CALL_END, SEPARATOR),
        *(OUTPUTS_BEGIN, OUTPUTS_END, OUTPUT_BEGIN, OUTPUT_END),
    ),
    ToolFormat.HERMES: (HERMES_OPEN, HERMES_CLOSE, RESPONSE_OPEN, RESPONSE_CLOSE),
    ToolFormat.FORCED: (),
}


def markers(tool_format: ToolFormat) -> frozenset[str]:
    """The marks of the format. A client's text must not forge them, also where they are no tokens."""
    return frozenset(_MARKERS[tool_format])


def spellings(marker: str) -> tuple[str, ...]:
    """The ways in which models write a mark, the right one first."""
    return tuple(dict.fromkeys(marker.replace("▁", spacer) for spacer in _SPACERS))


def format_of(template: str, control_tokens: frozenset[str]) -> ToolFormat:
    """The format of the model with this template and vocabulary."""
    if CALLS_BEGIN in template or (CALLS_BEGIN in control_tokens and HERMES_OPEN not in template):
        return ToolFormat.DEEPSEEK
    return ToolFormat.HERMES
