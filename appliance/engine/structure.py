"""From the form that an answer must have to a grammar for llguidance, and why one cannot be had.

Pure and bounded by ``limits``; a hostile schema can still take a second of processor time, so nothing that serves calls
``problem_of`` in its own process (``appliance.serving.structured`` has a child for it).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from llguidance import LLMatcher, LLParserLimits, grammar_from, regex_to_lark

from appliance.engine.request import Structure, StructureKind

MAX_TEXT_BYTES = 256 * 1024
"""Longest schema, pattern or grammar."""

MAX_SCHEMA_DEPTH = 48
"""Deepest nesting of a schema's JSON."""

MAX_SCHEMA_VALUES = 20_000
"""Values of all kinds in a schema, such as those of an enum."""

ANY_OBJECT = '{"type":"object"}'

_OPTIONS: Any = {
    # One blank, or one line break and its indentation: a model that may write blanks for ever sometimes does.
    "whitespace_pattern": r"[\x20\x09]|\x0A[\x20\x09]{0,32}",
    # What a schema says must hold; a schema must not say otherwise itself ("x-guidance").
    "lenient": False,
    "coerce_one_of": False,
}

_FORMATS = frozenset(("date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uri", "uuid"))
"""Formats of strings that are made sure of. Any other is an annotation, as JSON Schema has it (2020-12, 7.2.1)."""

_VALUES = frozenset(("const", "default", "enum", "example", "examples"))
"""Keywords whose value is no schema, whatever it looks like."""

_KEYWORD_OF_SCHEMAS = ("properties", "patternProperties", "$defs", "definitions")
_KEYWORD_OF_SCHEMA = ("additionalProperties", "items", "additionalItems", "contains", "not", "if", "then", "else")
_KEYWORD_OF_LIST = ("anyOf", "oneOf", "allOf", "prefixItems", "items")


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a structure cannot be had, and where in it: keys and indices from its root, none for the whole."""

    message: str
    path: tuple[str | int, ...] = ()


def limits() -> LLParserLimits:
    """Bounds for compiling and for each mask: about 20 ms to compile a pattern, 15 ms and 50 MB for a mask at worst.

    Figures by llguidance's documentation: initial fuel 50,000/ms, step fuel 14,000/ms, a lexer state 1 to 2 kB.
    """
    return LLParserLimits(
        initial_lexer_fuel=1_000_000,
        step_lexer_fuel=200_000,
        step_max_items=50_000,
        max_items_in_row=2_000,
        max_lexer_states=25_000,
        max_grammar_size=100_000,
        verbose_errors=False,
    )


def grammar_of(structure: Structure) -> str:
    """The grammar as llguidance takes it, not yet compiled. Raises ValueError with one plain line."""
    text = structure.text
    if len(text.encode(errors="surrogatepass")) > MAX_TEXT_BYTES:
        raise ValueError(f"it is longer than {MAX_TEXT_BYTES:,} bytes")
    match structure.kind:
        case StructureKind.JSON_OBJECT:
            return LLMatcher.grammar_from_json_schema(ANY_OBJECT, overrides=_OPTIONS)
        case StructureKind.JSON_SCHEMA:
            return LLMatcher.grammar_from_json_schema(without_annotations(text), overrides=_OPTIONS)
        case StructureKind.REGEX:
            return LLMatcher.grammar_from_lark(f"start: /{regex_to_lark(unanchored(text), 'd')}/")
        case StructureKind.GRAMMAR:
            try:
                return grammar_from("grammar", text)
            except RecursionError as error:
                raise ValueError("it is nested too deeply") from error


def problem_of(structure: Structure) -> Problem | None:
    """What is wrong with a structure, None for one that an engine can follow."""
    if structure.kind is StructureKind.JSON_SCHEMA:
        return _schema_problem(structure)
    message = _refusal(structure)
    return None if message is None else Problem(message)


def _schema_problem(structure: Structure) -> Problem | None:
    if len(structure.text.encode(errors="surrogatepass")) > MAX_TEXT_BYTES:
        return Problem(f"it is longer than {MAX_TEXT_BYTES:,} bytes")
    try:
        schema = json.loads(structure.text)
    except RecursionError:
        return Problem(f"it is nested deeper than {MAX_SCHEMA_DEPTH} levels")
    except ValueError as error:
        return Problem(f"it is not JSON: {error}")
    size = _size_problem(schema)
    if size is not None:
        return size
    message = _refusal(structure)
    return None if message is None else _narrowed(schema, message)


def _refusal(structure: Structure) -> str | None:
    """llguidance's reason in one line, None when it compiles."""
    try:
        grammar = grammar_of(structure)
    except ValueError as error:
        return _one_line(str(error))
    failed, messages = LLMatcher.validate_grammar_with_warnings(grammar, None, limits=limits())
    return _one_line(messages[0]) if failed else None


def _size_problem(schema: Any) -> Problem | None:
    """A schema that is nested too deeply or has too many values, found without recursion."""
    waiting: list[tuple[Any, tuple[str | int, ...]]] = [(schema, ())]
    count = 0
    while waiting:
        value, path = waiting.pop()
        count += 1
        if count > MAX_SCHEMA_VALUES:
            return Problem(f"it has more than {MAX_SCHEMA_VALUES:,} values")
        if len(path) > MAX_SCHEMA_DEPTH:
            return Problem(f"it is nested deeper than {MAX_SCHEMA_DEPTH} levels", path)
        if isinstance(value, dict):
            waiting.extend((item, (*path, key)) for key, item in value.items())
        elif isinstance(value, list):
            waiting.extend((item, (*path, index)) for index, item in enumerate(value))
    return None


def _narrowed(schema: Any, message: str) -> Problem:
    """The innermost part of a schema that is refused for the same reason as the whole."""
    path: tuple[str | int, ...] = ()
    shared = {key: schema[key] for key in ("$defs", "definitions") if isinstance(schema, dict) and key in schema}
    part = schema
    while True:
        for step, inner in _parts(part):
            whole = {**shared, **inner} if isinstance(inner, dict) else inner
            if _refusal(Structure(kind=StructureKind.JSON_SCHEMA, text=json.dumps(whole))) == message:
                path, part = (*path, *step), inner
                break
        else:
            return Problem(message, path)


def without_annotations(text: str) -> str:
    """The schema without formats that say nothing about its strings, which llguidance would refuse."""
    try:
        schema = json.loads(text)
    except (RecursionError, ValueError) as error:
        raise ValueError("the schema is not JSON") from error
    if schema is True:
        schema = {}
    if not isinstance(schema, dict):
        raise ValueError("a schema is an object")
    waiting: list[Any] = [schema]
    while waiting:
        value = waiting.pop()
        if isinstance(value, list):
            waiting.extend(value)
        elif isinstance(value, dict):
            if isinstance(format_ := value.get("format"), str) and format_ not in _FORMATS:
                del value["format"]
            waiting.extend(inner for keyword, inner in value.items() if keyword not in _VALUES)
    return json.dumps(schema)


def embedded_schema(text: str) -> str:
    """A JSON schema as it stands in a grammar of ours, after ``%json``: with the same rules as one alone. Raises
    ValueError."""
    return json.dumps({**json.loads(without_annotations(text)), "x-guidance": _OPTIONS})


def _parts(schema: Any) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    """The schemas right inside of one, with where they are."""
    if not isinstance(schema, dict):
        return
    for keyword in _KEYWORD_OF_SCHEMAS:
        if isinstance(inner := schema.get(keyword), dict):
            yield from (((keyword, name), value) for name, value in inner.items())
    for keyword in _KEYWORD_OF_SCHEMA:
        if isinstance(inner := schema.get(keyword), dict):
            yield (keyword,), inner
    for keyword in _KEYWORD_OF_LIST:
        if isinstance(inner := schema.get(keyword), list):
            yield from (((keyword, index), value) for index, value in enumerate(inner))


def unanchored(pattern: str) -> str:
    """The pattern without ``^`` and ``$`` around it: it is always the whole answer that must match."""
    pattern = pattern.removeprefix("^")
    if re.search(r"(?<!\\)(?:\\\\)*\$\Z", pattern):
        pattern = pattern[:-1]
    return pattern


def _one_line(message: str) -> str:
    """What a person needs of llguidance's message, which may be many lines that draw where."""
    unknown = re.fullmatch(r"Unimplemented keys: \[(.*)\]", message.strip())
    if unknown:
        return f"this is not supported here: {unknown[1].replace(chr(34), '')}"
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    reason = next((line for line in lines if line.startswith("error:")), None)
    first = lines[0] if lines else "it cannot be compiled"
    return (f"{first.removesuffix('regex parse error:').rstrip()} {reason}".strip() if reason else first)[:300]
