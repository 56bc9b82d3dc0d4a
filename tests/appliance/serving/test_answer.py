"""Log probabilities come with exactly the tokens that the answer's text came from."""

from __future__ import annotations

from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from appliance.engine.request import TokenDelta, TokenLogprob
from appliance.serving.answer import AnswerPart, AnswerReader
from appliance.serving.tools.format import ToolFormat
from appliance.serving.tools.plan import NO_TOOLS, ToolPlan
from appliance.serving.types import ContentDelta, ReasoningDelta, Tool, ToolCallDelta

WEATHER = ToolPlan(offered=(Tool(name="weather"),), format=ToolFormat.HERMES)


def read(pieces: list[str], *, opened: bool = False, stop: tuple[str, ...] = (), **more: Any) -> list[AnswerPart]:
    """Each piece is a token whose name is its number; empty ones hold a part of the next character."""
    reader = AnswerReader(
        splits_reasoning=more.get("splits", True),
        opens_reasoning=opened,
        stop=stop,
        tools=more.get("tools", NO_TOOLS),
    )
    parts: list[AnswerPart] = []
    for number, piece in enumerate(pieces):
        parts += reader.feed(TokenDelta(piece, 1, (TokenLogprob(b"%d" % number, -1.0),)))
        if reader.over:
            break
    return [*parts, *reader.finish()]


def numbers(parts: list[AnswerPart]) -> list[int]:
    return [int(one.token) for part in parts if isinstance(part, ContentDelta) for one in part.logprobs]


def content(parts: list[AnswerPart]) -> str:
    return "".join(part.text for part in parts if isinstance(part, ContentDelta))


def covering(pieces: list[str], start: int, end: int) -> list[int]:
    """Numbers of the tokens that have a character in the range; those without text go with the next one."""
    found: list[int] = []
    waiting: list[int] = []
    position = 0
    for number, piece in enumerate(pieces):
        waiting.append(number)
        if not piece:
            continue
        if position < end and position + len(piece) > start:
            found += waiting
        waiting = []
        position += len(piece)
    return found


PIECES = ("a", "b", " ", "\n", "<", "think", ">", "</", "<think>", "</think>", "ab", "END", "E", "", "日")
texts = st.lists(st.sampled_from(PIECES), max_size=25)


@example(pieces=["<think>", "a", "</think>\n\nb", "a"], opened=False, stop=(), splits=True)
@example(pieces=["a", "</thi", "nk>", "\n", "", "日", "aE", "NDb"], opened=True, stop=("END",), splits=True)
@given(pieces=texts, opened=st.booleans(), stop=st.sampled_from([(), ("END",), ("ab", "b\n")]), splits=st.booleans())
def test_tokens_of_the_answer_and_no_others(
    pieces: list[str], opened: bool, stop: tuple[str, ...], splits: bool
) -> None:
    whole = "".join(pieces)
    # Without a stop string the answer is the end of the output, which says where it begins.
    start = len(whole) - len(content(read([whole], opened=opened, splits=splits)))
    parts = read(pieces, opened=opened, stop=stop, splits=splits)
    said = content(parts)
    assert whole[start : start + len(said)] == said
    assert numbers(parts) == covering(pieces, start, start + len(said))


@given(pieces=texts)
def test_each_piece_of_text_has_the_tokens_that_began_it(pieces: list[str]) -> None:
    """No log probability comes later than the first of its token's characters."""
    position = 0
    for part in read(pieces, splits=False):
        assert isinstance(part, ContentDelta)
        begun = covering(pieces, position, position + len(part.text))
        ahead = covering(pieces, 0, position)
        assert [int(one.token) for one in part.logprobs] == [number for number in begun if number not in ahead]
        position += len(part.text)


def test_tokens_of_calls_are_none_of_the_texts() -> None:
    call = ["<tool", '_call>{"name": "weather", ', '"arguments": {"city"', ': "Ulm"}}', "</tool_call>"]
    pieces = ["<think>", "?", "</think>", "\n\n", "Let ", "me", " see.\n", *call, "\n", "So", "."]
    parts = read(pieces, tools=WEATHER)
    assert [type(part) for part in parts if not isinstance(part, ToolCallDelta)] == [
        ReasoningDelta,
        *[ContentDelta] * (len(parts) - 1 - sum(isinstance(part, ToolCallDelta) for part in parts)),
    ]
    assert content(parts) == "Let me see.So."
    assert numbers(parts) == [4, 5, 6, 13, 14]


def test_what_only_looked_like_a_call_keeps_its_tokens() -> None:
    pieces = ["a ", "<tool_call>", '{"name": "other", "arguments": {', "}}", " b"]
    parts = read(pieces, tools=WEATHER)
    assert content(parts) == "".join(pieces)
    assert numbers(parts) == [0, 1, 2, 3, 4]
