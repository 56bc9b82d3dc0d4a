"""Every code that a finding can have is explained in docs/drivers.md, and no other."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

import pytest

import drivers
from tests.drivers.finding_codes import CODE, Sources

PACKAGE = Path(drivers.__file__).parent
DOCUMENT = PACKAGE.parent / "docs" / "drivers.md"
_ROW = re.compile(r"^\| `([a-z0-9_]+)` \| (.+?) \| (.+?) \|$", re.MULTILINE)


def table() -> dict[str, tuple[str, str]]:
    """The table "Findings" of the document: code to meaning and what to do."""
    section = DOCUMENT.read_text("utf-8").partition("\n## Findings\n")[2].partition("\n## ")[0]
    rows = _ROW.findall(section)
    assert len(rows) == len({code for code, _, _ in rows}), "a code stands there twice"
    return {code: (meaning, action) for code, meaning, action in rows}


@pytest.fixture(scope="module")
def sources() -> Sources:
    data = tuple(tomllib.loads(path.read_text("utf-8")) for path in sorted(PACKAGE.glob("*.toml")))
    return Sources({path.stem: ast.parse(path.read_text("utf-8")) for path in sorted(PACKAGE.glob("*.py"))}, data)


def test_every_code_is_in_the_table(sources: Sources) -> None:
    codes = sources.codes()
    assert sources.unresolved == [], "codes that this test cannot follow to their words"
    assert len(codes) > 20
    missing = {code: sorted(modules) for code, modules in codes.items() if code not in table()}
    assert missing == {}


def test_the_table_has_no_code_that_is_gone(sources: Sources) -> None:
    assert set(table()) - set(sources.codes()) == set()


def test_every_row_says_what_it_means_and_what_to_do() -> None:
    for code, (meaning, action) in table().items():
        assert CODE.fullmatch(code), code
        assert meaning.endswith("."), code
        assert action.endswith("."), code


EXAMPLE = """
from drivers.other import TABLE as RENAMED
_CODES = {1: ("in_table", "a text", None), 2: ("in_table_too", "more", "hint")}

def direct():
    return Finding("direct_code", "The message has_a_word.")

def keyword():
    return Finding(message="x", code="by_keyword")

def either(flag):
    code = "one_way" if flag else "other_way"
    return Finding(code, "x")

def unpacked(number):
    name, message, hint = _CODES[number]
    return Finding(name, message, hint)

def looked_up(kind):
    codes = {TIMED_OUT: "timed_out_x", SIGNALLED: "crashed_x"}
    return Finding(codes.get(kind, "failed_x"), "x")

def inner():
    def add(code, message):
        findings.append(Finding(code, message))
    add("added_inside", "x")

def stranger(names):
    names.add("not_a_code")
    add("not_a_code_either", "x")

class Table:
    def report(self, code, message):
        self.findings.append(Finding(code, message))

def reader(table):
    table.report("reported_code", "x")

def imported(key):
    return Finding(RENAMED[key], "x")

def through(code):
    return Finding(code, "x")

def looped():
    for code, text in (("looped_one", "x"), ("looped_two", "y")):
        yield Finding(code, text)

def word():
    return Finding("singleword", "x")

def data(row):
    return Finding(row.finding if row else "without_data", "x")
"""
OTHER = """
from drivers.example import through
TABLE = {1: "from_elsewhere"}

def caller():
    return through("given_elsewhere")
"""
STRANGER = """
def talk(channel):
    channel.report("no_code", "x")
    through("nor_this")
"""


def test_codes_are_followed() -> None:
    sources = Sources(
        {"example": ast.parse(EXAMPLE), "other": ast.parse(OTHER), "stranger": ast.parse(STRANGER)},
        ({"rows": [{"finding": "from_data"}]},),
    )
    assert set(sources.codes()) == {
        "direct_code",
        "by_keyword",
        "one_way",
        "other_way",
        "in_table",
        "in_table_too",
        "timed_out_x",
        "crashed_x",
        "failed_x",
        "added_inside",
        "reported_code",
        "from_elsewhere",
        "given_elsewhere",
        "looped_one",
        "looped_two",
        "singleword",
        "from_data",
        "without_data",
    }
    assert sources.unresolved == []


def test_what_cannot_be_followed_is_told() -> None:
    sources = Sources({"example": ast.parse('def lost(row):\n    return Finding(row.code + "x", "y")\n')})
    assert sources.codes() == {}
    assert "example:2: row.code + 'x'" in sources.unresolved
    partly = Sources({"example": ast.parse('def lost(row):\n    return Finding(row.code if row else "known", "y")\n')})
    assert set(partly.codes()) == {"known"}
    assert partly.unresolved == ["example:2: row.code"]
