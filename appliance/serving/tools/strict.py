"""Strict tools that the model may call or leave: a grammar of the whole answer, free until a call begins.

An answer is text, calls between it, text. In the text everything may come, and the mark that opens a call, spelled or
as the vocabulary's own token, ends it: from there on the name of a tool, its arguments by its schema, and the closing
mark are all that can be written. The grammar binds the answer, so a thought before it is free (``engine.structure``).

The marks' spellings are those that ``tools.splitter`` reads as calls, so that there is no way around the schema: a call
that is not written by this grammar is not read as one.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any
from weakref import WeakKeyDictionary

from appliance.engine.base import Engine
from appliance.engine.request import Structure, StructureKind, TextSegment
from appliance.engine.structure import embedded_schema
from appliance.serving.tools.format import (
    CALL_BEGIN,
    CALL_END,
    CALLS_BEGIN,
    CALLS_END,
    HERMES_CLOSE,
    HERMES_OPEN,
    SEPARATOR,
    ToolFormat,
    spellings,
)
from appliance.serving.tools.schemas import arguments_schema, call_schema
from appliance.serving.types import Tool

MarkIds = Mapping[str, int]
"""The tokens of marks that are one token of a vocabulary."""

_MARKS = (CALLS_BEGIN, CALLS_END, CALL_BEGIN, CALL_END, SEPARATOR, HERMES_OPEN, HERMES_CLOSE)
_ANY_ARGUMENTS = '{"type": "object"}'
_HEAD = """%llguidance {}
start: called* TEXT
TEXT: /(.|\\n)*/
SPACE: /[ \\t\\r\\n]{1,8}/
"""


class MarkTokens:
    """Finds the marks' tokens; keeps each engine's."""

    def __init__(self) -> None:
        self._known: WeakKeyDictionary[Engine, MarkIds] = WeakKeyDictionary()

    async def of(self, engine: Engine) -> MarkIds:
        """Raises EngineLost."""
        known = self._known.get(engine)
        if known is None:
            tokens = {mark: await engine.tokenize([TextSegment(mark)], add_bos=False) for mark in _MARKS}
            known = {mark: found[0] for mark, found in tokens.items() if len(found) == 1}
            self._known[engine] = known
        return known


def strict_structure(tools: Sequence[Tool], tool_format: ToolFormat, marks: MarkIds) -> Structure:
    """The form of an answer in which each call is one of ``tools``; the arguments of strict ones follow their schemas,
    those of others are any object."""
    lark = _deepseek(tools, marks) if tool_format is ToolFormat.DEEPSEEK else _hermes(tools, marks)
    return Structure(kind=StructureKind.GRAMMAR, text=_HEAD + lark)


def _hermes(tools: Sequence[Tool], marks: MarkIds) -> str:
    definitions: dict[str, Any] = {}
    calls = [call_schema(number, _as_bound(tool), definitions) for number, tool in enumerate(tools)]
    schema = calls[0] if len(calls) == 1 else {"anyOf": calls}
    if definitions:
        schema = {**schema, "$defs": definitions}
    return (
        _opening("opened", HERMES_OPEN, marks)
        + f"called: opened_call SPACE? call SPACE? {_mark(HERMES_CLOSE, marks)}\n"
        + f"call: {_json(schema)}\n"
    )


def _deepseek(tools: Sequence[Tool], marks: MarkIds) -> str:
    lines = [_opening("outer", CALLS_BEGIN, marks) + _opening("inner", CALL_BEGIN, marks)]
    lines.append("called: outer_call SPACE? begin one more* ended? | inner_call one more* ended?")
    lines.append("more: SPACE? begin one")
    lines.append(f"ended: SPACE? {_mark(CALLS_END, marks)}")
    lines.append(f"begin: {_mark(CALL_BEGIN, marks)}")
    named = " | ".join(f"tool_{number}" for number in range(len(tools)))
    lines.append(f'one: "function" {_mark(SEPARATOR, marks)} ({named}) SPACE? "```" SPACE? {_mark(CALL_END, marks)}')
    for number, tool in enumerate(tools):
        head = json.dumps(f"{tool.name}\n```json\n")
        lines.append(f"tool_{number}: {head} {_json(arguments_schema(_as_bound(tool)))}")
    return "\n".join(lines) + "\n"


def _opening(name: str, mark: str, marks: MarkIds) -> str:
    """The rule ``NAME_call``: text up to the mark, which ends it. Lazy, so that no text goes on beyond a mark."""
    spelled = f"{name}[lazy]: TEXT ({_literals(spellings(mark))})\n"
    token = f" | TEXT <[{marks[mark]}]>" if mark in marks else ""
    return f"{spelled}{name}_call: {name}{token}\n"


def _mark(mark: str, marks: MarkIds) -> str:
    spelled = _literals(spellings(mark))
    return f"(<[{marks[mark]}]> | {spelled})" if mark in marks else f"({spelled})"


def _literals(texts: Iterable[str]) -> str:
    return " | ".join(json.dumps(text, ensure_ascii=False) for text in texts)


def _json(schema: dict[str, Any]) -> str:
    return f"%json {embedded_schema(json.dumps(schema))}"


def _as_bound(tool: Tool) -> Tool:
    return tool if tool.strict else replace(tool, parameters=_ANY_ARGUMENTS)
