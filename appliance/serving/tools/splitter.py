"""Tells tool calls from text while a model writes.

A call is passed on as soon as its name is known and its arguments begin; then its arguments follow as they come, always
the beginning of a valid JSON object. What looked like a call and is none (a name that nobody offered, no arguments, an
end in the middle) is dropped with a ``ToolCallDropped`` that holds its whole text: no text is lost, and half a call is
never counted as one.
"""

from __future__ import annotations

import json
import re
import secrets
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

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
from appliance.serving.tools.json_scan import JsonObjectScanner
from appliance.serving.types import ContentDelta, ToolCallDelta, ToolCallDropped

MAX_HEADER_CHARS = 400
"""Where a call's arguments must have begun, counted from its opening mark."""

_MAX_UNORDERED_CHARS = 1_000_000
_SPACE = " \t\r\n"
_FENCE = re.compile(r"```[a-z]*")
_NAME = re.compile(r"[A-Za-z0-9_.:/-]{1,128}")
_HERMES_HEAD = re.compile(
    r'\s*\{\s*"name"\s*:\s*(?P<name>"(?:[^"\\]|\\.)*")\s*,\s*"(?:arguments|parameters)"\s*:\s*(?=\{)', re.DOTALL
)

ToolEvent = ContentDelta | ToolCallDelta | ToolCallDropped


@dataclass(frozen=True, slots=True)
class Head:
    """A call's beginning: ``used`` characters were it. ``arguments`` is set when all of it came at once."""

    name: str
    used: int
    arguments: str | None = None


class NoCall(Exception):
    """What was read cannot become a call."""


class ToolCallSplitter(ABC):
    """The part that all formats share. ``names`` are the tools that may be called; ``only_one`` ends after a first call
    (``satisfied``). ``new_id`` makes the ids."""

    openings: tuple[str, ...]
    """Marks that begin a call."""
    fillers: tuple[str, ...]
    """What may stand between and after calls beside white space."""

    def __init__(self, names: frozenset[str], *, new_id: Callable[[], str], only_one: bool = False) -> None:
        self._names = names
        self._new_id = new_id
        self._only_one = only_one
        self._held = ""
        self._space = ""
        """White space before the present call; it belongs to the text only if that is no call."""
        self._raw = ""
        """What was read of the present call."""
        self._index = -1
        self._scanner: JsonObjectScanner | None = None
        self._in_call = False
        self._after_call = False
        self._places: list[int] = []
        self.completed = 0
        self.position = 0
        """Characters that came so far."""

    @property
    def satisfied(self) -> bool:
        """The one call that was allowed is there; whatever follows is not wanted."""
        return self._only_one and self.completed > 0

    def feed(self, text: str) -> list[ToolEvent]:
        """What ``text`` lets us pass on."""
        self._held += text
        self.position += len(text)
        out: list[ToolEvent] = []
        while self._held and not self.satisfied:
            before = (self._held, self._in_call, self._scanner)
            try:
                if self._scanner is not None:
                    self._arguments(out)
                elif self._in_call:
                    self._begin(out)
                else:
                    self._text(out)
            except NoCall:
                self._drop(out)
            if (self._held, self._in_call, self._scanner) == before:
                break
        return out

    def finish(self) -> list[ToolEvent]:
        """What is left when the model has ended."""
        held, self._held, self._space = self._space + self._held, "", ""
        if self.satisfied:
            return []
        if self._scanner is not None:
            return [ToolCallDropped(index=self._index, text=self._raw + held)]
        if self._after_call and (not held.strip(_SPACE) or any(one.startswith(held) for one in self.fillers)):
            return []
        out: list[ToolEvent] = []
        self._say(out, held, self.position - len(held))
        return out

    def take_places(self) -> list[int]:
        """Where in all that came each ``ContentDelta`` begins that was given since the last call."""
        places, self._places = self._places, []
        return places

    @abstractmethod
    def head(self, held: str) -> Head | None:
        """A call's beginning in ``held``, None when it takes more text to say. Raises NoCall."""

    def _say(self, out: list[ToolEvent], text: str, place: int) -> None:
        if text:
            out.append(ContentDelta(text))
            self._places.append(place)

    def _text(self, out: list[ToolEvent]) -> None:
        """Pass text on up to the next opening mark, what stands around calls left out."""
        if self._after_call and self._skip_fillers():
            return
        place, opening = _first(self._held, self.openings)
        if opening:
            said = self._held[:place].rstrip(_SPACE)
            self._say(out, said, self.position - len(self._held))
            self._space = self._held[len(said) : place]
            self._held = self._held[place:]
            self._in_call = True
            return
        keep = _may_begin(self._held, self.openings)
        sure = self._held[: len(self._held) - keep].rstrip(_SPACE)
        if sure:
            self._say(out, sure, self.position - len(self._held))
            self._held = self._held[len(sure) :]
            self._after_call = False

    def _skip_fillers(self) -> bool:
        """Whether everything that may stand after a call has been taken, and more has to come."""
        while True:
            self._held = self._held.lstrip(_SPACE)
            filler = next((one for one in self.fillers if self._held.startswith(one)), None)
            if filler is None:
                break
            self._held = self._held[len(filler) :]
        return not self._held or any(
            one.startswith(self._held) for one in (*self.fillers, *self.openings) if one != self._held
        )

    def _begin(self, out: list[ToolEvent]) -> None:
        head = self.head(self._held)
        if head is None:
            return
        if head.name not in self._names:
            raise NoCall
        self._index += 1
        self._space = ""
        out.append(ToolCallDelta(index=self._index, id=self._new_id(), name=head.name))
        self._raw = self._held[: head.used]
        self._held = self._held[head.used :]
        if head.arguments is None:
            self._scanner = JsonObjectScanner()
        else:
            out.append(ToolCallDelta(index=self._index, arguments=head.arguments))
            self._complete()

    def _arguments(self, out: list[ToolEvent]) -> None:
        assert self._scanner is not None
        text, used = self._scanner.feed(self._held)
        self._raw += self._held[:used]
        self._held = self._held[used:]
        if text:
            out.append(ToolCallDelta(index=self._index, arguments=text))
        if self._scanner.done:
            self._complete()
        elif self._scanner.broken:
            raise NoCall

    def _complete(self) -> None:
        self.completed += 1
        self._in_call, self._scanner, self._after_call = False, None, True

    def _drop(self, out: list[ToolEvent]) -> None:
        """Not a call after all. Of one that was begun the client hears; else its mark is text like any other, and the
        search goes on behind it."""
        if self._scanner is not None:
            out.append(ToolCallDropped(index=self._index, text=self._raw))
        else:
            opening = next(one for one in self.openings if self._held.startswith(one))
            self._say(out, self._space + opening, self.position - len(self._held) - len(self._space))
            self._space = ""
            self._held = self._held[len(opening) :]
        self._in_call, self._scanner, self._after_call = False, None, False


class DeepSeekSplitter(ToolCallSplitter):
    """DEEPSEEK. A call may also come without its outer marks, and with its name before the separator, as in V3.1."""

    openings = spellings(CALLS_BEGIN) + spellings(CALL_BEGIN)
    fillers = ("```", *spellings(CALL_END), *spellings(CALLS_END))
    _begins = spellings(CALL_BEGIN)
    _ends = spellings(CALL_END)
    _separators = spellings(SEPARATOR)

    def head(self, held: str) -> Head | None:
        place, opening = _first(held, self._begins)
        separator_place, separator = _first(held, self._separators)
        if not opening or not separator:
            return _wait(held)
        kind = held[place + len(opening) : separator_place].strip()
        start = separator_place + len(separator)
        end_place, end = _first(held, self._ends)
        brace = held.find("{", start)
        if brace < 0 and not end:
            return _wait(held)
        without_arguments = end and (brace < 0 or end_place < brace)
        used = end_place if without_arguments else brace
        told = _FENCE.sub(" ", held[start:used]).strip()
        name = told if kind in ("function", "") else "" if told else kind
        if _NAME.fullmatch(name) is None:
            raise NoCall
        return Head(name, used, "{}" if without_arguments else None)


class HermesSplitter(ToolCallSplitter):
    """HERMES. Keys in another order than usual are read once the object is complete."""

    openings: tuple[str, ...] = (HERMES_OPEN,)
    fillers: tuple[str, ...] = ("}", HERMES_CLOSE)

    def __init__(self, names: frozenset[str], *, new_id: Callable[[], str], only_one: bool = False) -> None:
        super().__init__(names, new_id=new_id, only_one=only_one)
        self._object = JsonObjectScanner()
        self._looked_at = 0

    def head(self, held: str) -> Head | None:
        start = held.find("{")
        if start < 0:
            return _wait(held)
        begun = _HERMES_HEAD.match(held, start)
        if begun:
            self._forget()
            return Head(str(_loads(begun["name"])), begun.end())
        self._looked_at = max(self._looked_at, start)
        self._looked_at += self._object.feed(held[self._looked_at :])[1]
        end, ended = self._looked_at, self._object.done
        if not ended and not self._object.broken and len(held) < _MAX_UNORDERED_CHARS:
            return None
        self._forget()
        if not ended:
            raise NoCall
        name, arguments = _call(held[start:end])
        return Head(name, end, arguments)

    def _forget(self) -> None:
        self._object, self._looked_at = JsonObjectScanner(), 0


class ForcedSplitter(HermesSplitter):
    """FORCED."""

    openings = ("{",)
    fillers = ("}", "[", "]", ",")

    def __init__(self, names: frozenset[str], *, new_id: Callable[[], str], only_one: bool = False) -> None:
        super().__init__(names, new_id=new_id, only_one=only_one)
        self._after_call = True


_SPLITTERS: dict[ToolFormat, type[ToolCallSplitter]] = {
    ToolFormat.DEEPSEEK: DeepSeekSplitter,
    ToolFormat.HERMES: HermesSplitter,
    ToolFormat.FORCED: ForcedSplitter,
}


def splitter_for(
    tool_format: ToolFormat, names: frozenset[str], *, only_one: bool = False, new_id: Callable[[], str] | None = None
) -> ToolCallSplitter:
    """A splitter of this format."""
    return _SPLITTERS[tool_format](names, only_one=only_one, new_id=new_id or new_call_id)


def new_call_id() -> str:
    """As OpenAI's look."""
    return f"call_{secrets.token_hex(12)}"


def _first(text: str, marks: Iterable[str]) -> tuple[int, str]:
    """Place and mark of the first one in ``text``; (-1, "") when there is none."""
    found = [(place, mark) for mark in marks if (place := text.find(mark)) >= 0]
    return min(found, default=(-1, ""))


def _may_begin(text: str, marks: Iterable[str]) -> int:
    """Length of the longest end of ``text`` that may become one of ``marks``."""
    return max((_overlap(text, mark) for mark in marks), default=0)


def _overlap(text: str, mark: str) -> int:
    for length in range(min(len(text), len(mark) - 1), 0, -1):
        if mark.startswith(text[-length:]):
            return length
    return 0


def _wait(held: str) -> Head | None:
    """More text is wanted; not without end."""
    if len(held) > MAX_HEADER_CHARS:
        raise NoCall
    return None


def _call(text: str) -> tuple[str, str]:
    """Name and arguments of a whole JSON object."""
    call = _loads(text)
    name = call.get("name")
    arguments: Any = next((call[key] for key in ("arguments", "parameters") if call.get(key) is not None), {})
    if isinstance(arguments, str):  # JSON as text, as OpenAI's API has it
        arguments = _loads(arguments)
    if not isinstance(name, str) or not isinstance(arguments, dict):
        raise NoCall
    return name, json.dumps(arguments, ensure_ascii=False)


def _loads(text: str) -> Any:
    try:
        return json.loads(text, strict=False)
    except ValueError as error:
        raise NoCall from error
