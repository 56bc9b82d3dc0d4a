"""Follows one JSON object through a stream, so that its text can be passed on while it is being written.

What is passed on is always the beginning of a valid object (RFC 8259), never more of it than was read, and the end is
known at once, whatever follows it. Line breaks and other control characters inside a string, which models write and
JSON forbids, are passed on escaped: the client's parser would refuse a call for them.
"""

from __future__ import annotations

import re
from enum import StrEnum

MAX_DEPTH = 64
"""Deeper nesting is no call's arguments, and many clients' parsers refuse it."""

_SPACE = " \t\n\r"
_SCALAR = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?|true|false|null")
_SCALAR_CHARS = frozenset("-+.0123456789eEtrufalsn")
_MAX_SCALAR_CHARS = 400
_ESCAPED = {"\n": "\\n", "\r": "\\r", "\t": "\\t", "\b": "\\b", "\f": "\\f"}


class _Expect(StrEnum):
    """What comes next. One writer: ``JsonObjectScanner``."""

    START = "start"
    KEY_OR_END = "key_or_end"
    KEY = "key"
    COLON = "colon"
    VALUE = "value"
    VALUE_OR_END = "value_or_end"
    COMMA_OR_END = "comma_or_end"
    STRING = "string"
    ESCAPE = "escape"
    HEX = "hex"
    SCALAR = "scalar"
    DONE = "done"
    BROKEN = "broken"


class JsonObjectScanner:
    """One object. ``feed`` takes pieces of any size; the result does not depend on how the text was cut."""

    def __init__(self) -> None:
        self._expect = _Expect.START
        self._stack: list[str] = []
        self._in_key = False
        self._scalar = ""
        self._hex_left = 0

    @property
    def done(self) -> bool:
        """The object is complete."""
        return self._expect is _Expect.DONE

    @property
    def broken(self) -> bool:
        """What came is no JSON object."""
        return self._expect is _Expect.BROKEN

    def feed(self, text: str) -> tuple[str, int]:
        """What to pass on, and how many characters of ``text`` were the object's. Less than all of them when it is done
        or broken; the character that broke it is not counted."""
        out: list[str] = []
        for position, character in enumerate(text):
            if self.done or self.broken:
                return "".join(out), position
            in_string = self._expect is _Expect.STRING
            if not self._step(character):
                return "".join(out), position
            out.append(_escaped(character) if in_string and character < " " else character)
        return "".join(out), len(text)

    def _step(self, character: str) -> bool:
        """Whether the character belongs to an object."""
        if self._expect is _Expect.SCALAR:
            if character in _SCALAR_CHARS and len(self._scalar) < _MAX_SCALAR_CHARS:
                self._scalar += character
                return True
            if _SCALAR.fullmatch(self._scalar) is None:
                self._break()
                return False
            self._expect = _Expect.COMMA_OR_END  # the character after a number is seen as what follows a value
        if self._expect in (_Expect.STRING, _Expect.ESCAPE, _Expect.HEX):
            self._string(character)
        elif character not in _SPACE:
            self._structure(character)
        return not self.broken

    def _string(self, character: str) -> None:
        if self._expect is _Expect.ESCAPE:
            if character == "u":
                self._expect, self._hex_left = _Expect.HEX, 4
            else:
                self._expect = _Expect.STRING if character in '"\\/bfnrt' else _Expect.BROKEN
        elif self._expect is _Expect.HEX:
            if character not in "0123456789abcdefABCDEF":
                self._expect = _Expect.BROKEN
                return
            self._hex_left -= 1
            if self._hex_left == 0:
                self._expect = _Expect.STRING
        elif character == "\\":
            self._expect = _Expect.ESCAPE
        elif character == '"':
            self._expect = _Expect.COLON if self._in_key else _Expect.COMMA_OR_END

    def _structure(self, character: str) -> None:
        expect = self._expect
        if expect is _Expect.START:
            self._open(character) if character == "{" else self._break()
        elif character in "}]":
            self._close(character)
        elif expect in (_Expect.KEY, _Expect.KEY_OR_END):
            self._in_key = True
            self._expect = _Expect.STRING if character == '"' else _Expect.BROKEN
        elif expect is _Expect.COLON:
            self._expect = _Expect.VALUE if character == ":" else _Expect.BROKEN
        elif expect is _Expect.COMMA_OR_END:
            after = _Expect.KEY if self._stack[-1] == "{" else _Expect.VALUE
            self._expect = after if character == "," else _Expect.BROKEN
        else:
            self._value(character)

    def _value(self, character: str) -> None:
        if character in "{[":
            self._open(character)
        elif character == '"':
            self._in_key, self._expect = False, _Expect.STRING
        elif character in "-0123456789tfn":
            self._scalar, self._expect = character, _Expect.SCALAR
        else:
            self._break()

    def _open(self, character: str) -> None:
        self._stack.append(character)
        self._expect = _Expect.KEY_OR_END if character == "{" else _Expect.VALUE_OR_END
        if len(self._stack) > MAX_DEPTH:
            self._break()

    def _close(self, character: str) -> None:
        opened = "{" if character == "}" else "["
        may_end = (_Expect.COMMA_OR_END, _Expect.KEY_OR_END if opened == "{" else _Expect.VALUE_OR_END)
        if self._expect not in may_end or self._stack[-1] != opened:
            self._break()
            return
        self._stack.pop()
        self._expect = _Expect.COMMA_OR_END if self._stack else _Expect.DONE

    def _break(self) -> None:
        self._expect = _Expect.BROKEN


def _escaped(character: str) -> str:
    return _ESCAPED.get(character) or f"\\u{ord(character):04x}"
