"""The splitter: states, tags in pieces, line breaks, counts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.serving.reasoning import ReasoningSplitter
from appliance.serving.types import ContentDelta, ReasoningDelta


def split(pieces: list[str], *, opened: bool, enabled: bool = True) -> tuple[str, str]:
    """Thought and answer; checks that no piece is empty and that no thought follows an answer."""
    splitter = ReasoningSplitter(opened=opened, enabled=enabled)
    deltas = [delta for piece in pieces for delta in splitter.feed(piece)] + splitter.finish()
    assert all(delta.text for delta in deltas)
    kinds = [type(delta) for delta in deltas]
    assert kinds == sorted(kinds, key=lambda kind: kind is ContentDelta)
    assert splitter.finish() == []
    return (
        "".join(delta.text for delta in deltas if isinstance(delta, ReasoningDelta)),
        "".join(delta.text for delta in deltas if isinstance(delta, ContentDelta)),
    )


def oracle(text: str, *, opened: bool) -> tuple[str, str]:
    """The same on the whole text, written without states."""
    if opened:
        body = text.lstrip("\n")
        body = body.removeprefix("<think>")
    elif text.lstrip().startswith("<think>"):
        body = text.lstrip().removeprefix("<think>")
    else:
        return "", text
    thought, closing, answer = body.lstrip("\n").partition("</think>")
    return (thought.rstrip("\n"), answer.lstrip("\n")) if closing else (thought, "")


@pytest.mark.parametrize(
    ("text", "opened", "thought", "answer"),
    [
        ("Let me see.\n</think>\n\nParis.", True, "Let me see.", "Paris."),
        ("\nLet me see.</think>Paris.", True, "Let me see.", "Paris."),
        ("\n</think>\n\nParis.", True, "", "Paris."),
        ("</think>Paris.", True, "", "Paris."),
        ("Let me\n\n", True, "Let me\n\n", ""),
        ("Let me</thi", True, "Let me</thi", ""),
        ("", True, "", ""),
        ("<think>\nagain</think>x", True, "again", "x"),
        ("<thin ice</think>x", True, "<thin ice", "x"),
        ("a <think> b</think>x", True, "a <think> b", "x"),
        ("a</think>x</think>y<think>z", True, "a", "x</think>y<think>z"),
        ("a</think>\n\n    code\n", True, "a", "    code\n"),
        ("a</</think>b", True, "a</", "b"),
        ("<think>\na\n\nb\n\n</think>\n\nc", False, "a\n\nb", "c"),
        ("\n <think>a</think>b", False, "a", "b"),
        ("<think>a", False, "a", ""),
        ("Paris.", False, "", "Paris."),
        ("\n\nParis.", False, "", "\n\nParis."),
        ("<thi", False, "", "<thi"),
        ("  ", False, "", "  "),
        ("<thing> </think>", False, "", "<thing> </think>"),
        ("a</think>\n\n", True, "a", ""),
    ],
)
def test_split(text: str, opened: bool, thought: str, answer: str) -> None:
    assert split([text], opened=opened) == (thought, answer)
    assert split(list(text), opened=opened) == (thought, answer)
    assert oracle(text, opened=opened) == (thought, answer)


def test_disabled_passes_everything_on() -> None:
    assert split(["<think>", "a</think>", "\n\nb"], opened=False, enabled=False) == ("", "<think>a</think>\n\nb")
    assert split(["x"], opened=True, enabled=False) == ("", "x")


PIECES = st.lists(
    st.one_of(
        st.sampled_from(["<think>", "</think>", "<", "</", "think>", "<thi", "nk>", "\n", "\n\n", " ", "", "é", "答"]),
        st.text(alphabet="<think>/a\n", max_size=6),
    ),
    max_size=12,
)


@given(pieces=PIECES, opened=st.booleans())
def test_cutting_makes_no_difference(pieces: list[str], opened: bool) -> None:
    text = "".join(pieces)
    expected = oracle(text, opened=opened)
    assert split(pieces, opened=opened) == expected
    assert split([text], opened=opened) == expected
    assert split(list(text), opened=opened) == expected


@given(text=st.text(alphabet="</think>ab", max_size=40))
def test_holds_back_less_than_a_tag(text: str) -> None:
    splitter = ReasoningSplitter(opened=True)
    splitter.feed("x")
    seen = 1
    for number, character in enumerate(text, start=2):
        seen += sum(len(delta.text) for delta in splitter.feed(character))
        if splitter.in_reasoning:
            assert number - seen < len("</think>")


def test_counts_when_the_prompt_opened_the_thought() -> None:
    splitter = ReasoningSplitter(opened=True)
    for piece in ("\n", "Let", " me", "</", "think", ">"):
        splitter.feed(piece)
        assert splitter.reasoning_tokens > 0
    assert splitter.reasoning_tokens == 6
    for piece in ("\n\n", "", "Paris", "</think>"):
        splitter.feed(piece)
    assert splitter.reasoning_tokens == 6
    assert not splitter.in_reasoning


def test_counts_when_the_model_opens_the_thought() -> None:
    splitter = ReasoningSplitter(opened=False)
    splitter.feed("\n")
    splitter.feed("<thi")
    assert splitter.reasoning_tokens == 0
    splitter.feed("nk>")
    assert splitter.reasoning_tokens == 3
    splitter.feed("</think>x", count=4)
    splitter.feed("y", count=2)
    assert splitter.reasoning_tokens == 7


def test_counts_a_whole_thought_in_one_delta() -> None:
    splitter = ReasoningSplitter(opened=False)
    splitter.feed("<think></think>x", count=9)
    assert splitter.reasoning_tokens == 9


def test_counts_nothing_when_there_is_no_thought() -> None:
    splitter = ReasoningSplitter(opened=False)
    splitter.feed("<thi")
    splitter.feed("s")
    splitter.finish()
    assert splitter.reasoning_tokens == 0


def test_incomplete_characters_count_where_they_stand() -> None:
    splitter = ReasoningSplitter(opened=True)
    assert splitter.feed("", count=2) == []
    assert splitter.feed("答") == [ReasoningDelta("答")]
    assert splitter.reasoning_tokens == 3
