"""An object is followed as Python's parser reads it, for any cut of the text."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.serving.tools.json_scan import MAX_DEPTH, JsonObjectScanner

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=5), children, max_size=3),
    max_leaves=10,
)
OBJECTS = st.dictionaries(st.text(max_size=5), VALUES, max_size=4)


def scan(text: str, sizes: list[int] | None = None) -> tuple[str, str, JsonObjectScanner]:
    """(passed on, left over, scanner) of ``text`` fed in pieces of ``sizes``, which repeat."""
    scanner, out, position, turn = JsonObjectScanner(), "", 0, 0
    while position < len(text) and not scanner.done and not scanner.broken:
        size = sizes[turn % len(sizes)] if sizes else len(text)
        turn += 1
        piece, used = scanner.feed(text[position : position + size])
        out += piece
        position += used
    return out, text[position:], scanner


@given(value=OBJECTS, indent=st.sampled_from([None, 0, 2]), ascii_only=st.booleans(), sizes=st.lists(st.integers(1, 7)))
def test_every_object_is_followed_to_its_end(
    value: dict[str, Any], indent: int | None, ascii_only: bool, sizes: list[int]
) -> None:
    text = json.dumps(value, indent=indent, ensure_ascii=ascii_only)
    out, rest, scanner = scan(text + ' ```} "more"', sizes or None)
    assert (out, rest) == (text, ' ```} "more"')
    assert scanner.done


@given(text=st.text(alphabet='{}[]",:1-.e tnul\\a\n', max_size=30))
def test_what_is_done_is_what_python_can_read(text: str) -> None:
    out, rest, scanner = scan("{" + text)
    if scanner.done:
        assert isinstance(json.loads(out), dict)
    else:
        with pytest.raises(ValueError):
            json.loads("{" + text)
    assert scanner.done or scanner.broken or not rest


def test_line_breaks_in_strings_are_escaped() -> None:
    out, _, scanner = scan('{"code": "a\nb\tc\x01",\n "x": 1}')
    assert scanner.done
    assert json.loads(out) == {"code": "a\nb\tc\x01", "x": 1}
    assert '",\n "x"' in out


@pytest.mark.parametrize(
    "text",
    ["[1]", "x", '{"a" 1}', '{"a":}', '{"a":1,}', "{,}", '{"a":01}', '{"a":tru}', '{"a":[1}', "{'a':1}", '{"a":"\\x"}'],
)
def test_what_is_no_object_is_broken_at_once(text: str) -> None:
    assert scan(text)[2].broken


def test_endless_depth_is_broken() -> None:
    assert scan('{"a":' * (MAX_DEPTH + 1))[2].broken
    assert not scan('{"a":' * MAX_DEPTH)[2].broken
