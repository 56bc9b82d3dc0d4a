"""Which structures are refused, why and where; and that none can hang or kill whoever asks."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest

from appliance.engine import structure_check
from appliance.engine.request import Structure, StructureKind
from appliance.engine.structure import Problem, grammar_of, problem_of
from appliance.engine.structure_check import StructureChecker


def schema(value: Any) -> Structure:
    return Structure(kind=StructureKind.JSON_SCHEMA, text=json.dumps(value))


def nested(levels: int) -> Any:
    inner: Any = {"type": "string"}
    for _ in range(levels):
        inner = {"type": "array", "items": inner}
    return inner


REFUSED: list[tuple[Any, str, tuple[str | int, ...]]] = [
    ({"type": "strin"}, "strin", ()),
    ({"type": "object", "properties": {"a": {"type": "strin"}}}, "strin", ("properties", "a")),
    (
        {"properties": {"q": {"items": {"anyOf": [{"type": "null"}, {"type": "array", "contains": {}}]}}}},
        "not supported here: contains",
        ("properties", "q", "items", "anyOf", 1),
    ),
    ({"$defs": {"z": {"pattern": "(?=a)"}}, "items": {"$ref": "#/$defs/z"}}, "look-ahead", ("$defs", "z")),
    ({"anyOf": [{"type": "integer", "minimum": 5, "maximum": 3}]}, "minimum", ("anyOf", 0)),
    ({"$ref": "#/nowhere"}, "nowhere", ()),
    ({"properties": {"a": {"$ref": "https://example.org/x"}}}, "example.org", ("properties", "a")),
    ({"properties": []}, "properties", ()),
    (["no", "schema"], "a schema is an object", ()),
    (nested(60), "nested deeper", ("items",) * 49),
    ({"enum": list(range(30_000))}, "more than 20,000 values", ()),
]


@pytest.mark.parametrize(("value", "words", "path"), REFUSED, ids=range(len(REFUSED)))
def test_what_is_refused_is_found_where_it_is(value: Any, words: str, path: tuple[str | int, ...]) -> None:
    problem = problem_of(schema(value))
    assert problem is not None
    assert words in problem.message
    assert "\n" not in problem.message
    assert problem.path == path


@pytest.mark.parametrize(
    "value",
    [
        True,
        {},
        nested(20),
        {"$defs": {"a": {"type": "object", "properties": {"next": {"$ref": "#/$defs/a"}}}}, "$ref": "#/$defs/a"},
        {"type": "string", "format": "password"},
        {"properties": {"format": {"type": "string", "format": "int32"}}, "const": {"format": "kept"}},
        {"oneOf": [{"type": "string"}, {"type": "null"}], "title": "t", "description": "d", "default": 1},
    ],
)
def test_usual_schemas_are_taken(value: Any) -> None:
    assert problem_of(schema(value)) is None


def test_a_schema_cannot_loosen_itself() -> None:
    problem = problem_of(schema({"x-guidance": {"lenient": True}, "not": {"type": "string"}}))
    assert problem is not None
    assert "not supported" in problem.message


@pytest.mark.parametrize("text", ['{"a":', "[" * 100_000, "nan nan"])
def test_what_is_no_json_is_refused(text: str) -> None:
    assert problem_of(Structure(kind=StructureKind.JSON_SCHEMA, text=text)) is not None
    with pytest.raises(ValueError, match="not JSON"):
        grammar_of(Structure(kind=StructureKind.JSON_SCHEMA, text=text))


@pytest.mark.parametrize(
    ("kind", "text", "words"),
    [
        ("regex", "(x", "unclosed group"),
        ("regex", "(?=a)b", "look-ahead"),
        ("regex", r"(a)\1", "backreferences"),
        ("grammar", "root ::= foo", "foo"),
        ("grammar", "start: foo", "foo"),
        ("grammar", "root ::= " + "(" * 50_000, "recursion"),
        ("grammar", "", "root"),
        ("regex", "a" * 300_000, "longer than"),
    ],
)
def test_patterns_and_grammars_are_refused_with_a_reason(kind: str, text: str, words: str) -> None:
    problem = problem_of(Structure(kind=StructureKind(kind), text=text))
    assert problem is not None
    assert words in problem.message


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("json_object", ""),
        ("regex", r"^\d{4}-[01]\d$"),
        ("regex", "a/b|c"),
        ("grammar", 'root ::= "yes" | "no"'),
        ("grammar", 'start: "yes" | "no"'),
    ],
)
def test_patterns_and_grammars_are_taken(kind: str, text: str) -> None:
    assert problem_of(Structure(kind=StructureKind(kind), text=text)) is None


# -- in a child ---------------------------------------------------------------------------------------------------


async def test_the_child_gives_the_same_verdicts_and_each_once() -> None:
    checker = StructureChecker()
    good, bad = schema({"type": "object"}), schema({"properties": {"a": {"type": "strin"}}})
    for _ in range(3):
        assert await checker.problem_of(good) is None
        assert await checker.problem_of(bad) == Problem("Invalid type: strin", ("properties", "a"))
        assert await checker.problem_of(Structure(kind=StructureKind.JSON_OBJECT)) is None
    assert checker.children == 2


def choices(row: int) -> Any:
    return {"anyOf": [{"properties": {f"p{row}{i}": {}}, "required": [f"p{row}{i}"]} for i in range(6)]}


def crossing() -> Any:
    everything = [{"$ref": f"#/$defs/d{number}"} for number in range(60)]
    return {"$defs": {f"d{number}": {"anyOf": everything} for number in range(60)}, "$ref": "#/$defs/d0"}


HOSTILE: dict[str, Structure] = {
    "products": schema({"allOf": [choices(row) for row in range(12)]}),
    "powers": Structure(kind=StructureKind.REGEX, text="(" * 10 + "a" + "{1,99})" * 10),
    "large": schema({"type": "array", "minItems": 10**9, "items": {"type": "string", "minLength": 10**9}}),
    "patterns": schema({"properties": {f"p{i}": {"type": "string", "pattern": "(a|b)*c{1,500}"} for i in range(900)}}),
    "crossing references": schema(crossing()),
}


@pytest.mark.parametrize("name", HOSTILE)
async def test_hostile_structures_get_a_verdict_in_time(name: str) -> None:
    """Any verdict will do: that there is one is the point, the test's own limit is the bound."""
    problem = await StructureChecker().problem_of(HOSTILE[name])
    assert problem is None or problem.message


async def test_a_child_that_takes_too_long_or_dies_is_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    def child(code: str) -> None:
        monkeypatch.setattr(structure_check, "child_command", lambda: [sys.executable, "-c", code])

    structure = schema({})
    child("import sys; sys.stdin.read()\nwhile True: pass")
    assert await StructureChecker(timeout_s=0.5).problem_of(structure) == Problem("it takes too long to compile")
    child("import os, sys; sys.stdin.read(); os.abort()")
    died = await StructureChecker().problem_of(structure)
    assert died is not None
    assert "killed by SIGABRT" in died.message
