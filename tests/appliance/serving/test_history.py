"""Thoughts of earlier turns in every form that clients send them back, and the turns of a conversation."""

from __future__ import annotations

import html

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.serving.history import split_thought, turns_to_drop, without_oldest
from appliance.serving.profile import prepared_history, strip_reasoning
from appliance.serving.reasoning_format import ReasoningShaper
from appliance.serving.types import ChatMessage, ContentDelta, ReasoningDelta, ReasoningFormat
from tests.appliance.serving.samples import R1, R1_0528, assistant, system, user

THOUGHT = (
    '<details type="reasoning" done="true" duration="5">\n<summary>Thought for 5 seconds</summary>\n&gt; a\n</details>'
)


@pytest.mark.parametrize(
    ("content", "left"),
    [
        ("Paris.", "Paris."),
        ("", ""),
        ("\n\nParis.", "\n\nParis."),
        ("<think>\na\n</think>\n\nParis.", "Paris."),
        ("  <think></think>Paris.", "Paris."),
        ("<think>\nnever ended", ""),
        ("a\n</think>\n\nParis.", "Paris."),
        ("</think>Paris.", "Paris."),
        ("<think>a</think>Write <think>b</think>.", "Write <think>b</think>."),
        ("Write <think>b</think> first.", "Write <think>b</think> first."),
        ("<think>a</think>\n\n    code", "    code"),
        (f"{THOUGHT}\nParis.", "Paris."),
        (f"{THOUGHT}\n\nA\n{THOUGHT}\nB", "A\n\nB"),
        ('<details type="reasoning" done="false">\n> never ended', ""),
        ("<details TYPE='reasoning'>x</DETAILS >\nParis.", "Paris."),
        ("<details><summary>s</summary>x</details>", "<details><summary>s</summary>x</details>"),
    ],
)
def test_strip_reasoning(content: str, left: str) -> None:
    assert strip_reasoning(content) == left


@given(st.text(alphabet="<think>/details type=reasoning\n'", max_size=200))
def test_strip_reasoning_never_fails_and_only_removes(content: str) -> None:
    assert len(strip_reasoning(content)) <= len(content)


def test_strip_reasoning_is_linear() -> None:
    for text in (
        "<details " * 100_000,
        '<details type="reasoning">' * 40_000,
        "<think>" * 100_000,
        "<think></think>\n" * 100_000,
    ):
        strip_reasoning(text)


@pytest.mark.parametrize(
    ("content", "thought"),
    [
        ("Paris.", ""),
        ("<think>\na\n</think>\n\nParis.", "a"),
        ("a\n</think>\n\nParis.", "a"),
        ("<think>a</think>\n<think>b</think>Paris.", "a\nb"),
        ("a</think>\n<think>b</think>Paris.", "a\nb"),
        ("<think>\nnever ended", "never ended"),
    ],
)
def test_the_thought_itself(content: str, thought: str) -> None:
    assert split_thought(content)[0] == thought


@given(st.lists(st.sampled_from(("<think>", "</think>", "\n", " ", "x", THOUGHT)), max_size=12).map("".join))
def test_thoughts_at_the_beginning_are_gone_however_many(content: str) -> None:
    answer = strip_reasoning(content)
    assert "duration" not in answer
    assert not (content.lstrip().startswith("<think>") and answer.lstrip().startswith("<think>"))


MARK = "q7-secret-q7"
PLAIN = st.text(alphabet=st.characters(exclude_characters="<>", exclude_categories=("Cs",)), max_size=30)


def inline(thought: str, answer: str) -> str:
    """As the box itself writes it for ``reasoning_format`` inline."""
    shaper = ReasoningShaper(ReasoningFormat.INLINE)
    events = [shaped for event in (ReasoningDelta(thought), ContentDelta(answer)) for shaped in shaper.shape(event)]
    return "".join(event.text for event in events if isinstance(event, ContentDelta))


@given(thought=PLAIN, answer=PLAIN.map(str.strip).filter(bool), model=st.sampled_from((R1, R1_0528)))
def test_no_thought_of_an_earlier_turn_is_left(thought: str, answer: str, model: object) -> None:
    thought = f"{thought}{MARK}{thought}"
    details = f'<details type="reasoning" done="true">\n<summary>s</summary>\n&gt; {html.escape(thought)}\n</details>'
    forms = [
        assistant(answer, reasoning=thought),
        assistant(inline(thought, answer)),
        assistant(f"<think>{thought}</think>{answer}"),
        assistant(f"\n <think>\n{thought}\n</think>\n\n{answer}", reasoning=thought),
        assistant(f"{thought}</think>\n\n{answer}"),
        assistant(f"{thought}</think><think>{thought}</think>{answer}"),
        assistant(f"{details}\n{answer}"),
        assistant(f"{details}<think>{thought}</think>{answer}"),
        assistant(f"<think>{thought}</think>\n<think>{thought}</think>{answer}"),
    ]
    assert model in (R1, R1_0528)
    profile = (R1 if model is R1 else R1_0528).profile
    prepared = prepared_history(profile, [user("a"), *forms, user("b")])
    assert [message.content for message in prepared.messages[1:-1]] == [answer] * len(forms)
    assert all(message.reasoning is None for message in prepared.messages)
    assert prepared.changes == (f"history-reasoning=stripped:{len(forms)}",)


@given(
    st.lists(
        st.builds(
            ChatMessage,
            role=st.sampled_from(("system", "developer", "user", "assistant", "tool")),
            content=st.text(alphabet="<think>/ \nx", max_size=40),
            reasoning=st.none() | st.text(max_size=5),
        ),
        min_size=1,
        max_size=8,
    )
)
def test_any_history_can_be_prepared(messages: list[ChatMessage]) -> None:
    for profile in (R1.profile, R1_0528.profile):
        prepared = prepared_history(profile, messages).messages
        assert prepared
        assert all(message.reasoning is None for message in prepared)
        again = prepared_history(R1_0528.profile, prepared).messages
        assert [message.role for message in again] == [message.role for message in prepared]
    assert not any(
        message.role in ("system", "developer") for message in prepared_history(R1.profile, messages).messages
    )


# -- turns ------------------------------------------------------------------------------------------------------------

TOOL = ChatMessage(role="tool", content="5", tool_call_id="c")


@pytest.mark.parametrize(
    ("messages", "kept"),
    [
        ([user("a")], []),
        ([system("s")], []),
        ([], []),
        ([user("a"), user("b")], []),
        ([assistant("a")], []),
        ([user("a"), assistant("b"), TOOL, assistant("c"), user("d")], [[user("d")]]),
        ([assistant("hello"), user("a")], [[user("a")]]),
        (
            [system("s"), user("a"), assistant("b"), user("c"), user("d"), assistant("e"), system("t"), user("f")],
            [
                [system("s"), user("c"), user("d"), assistant("e"), system("t"), user("f")],
                [system("s"), system("t"), user("f")],
            ],
        ),
        ([user("a"), assistant("b"), user("c"), assistant("d"), TOOL], [[user("c"), assistant("d"), TOOL]]),
    ],
)
def test_turns_are_dropped_whole_and_the_last_one_stays(
    messages: list[ChatMessage], kept: list[list[ChatMessage]]
) -> None:
    assert turns_to_drop(messages) == len(kept)
    assert without_oldest(messages, 0) == tuple(messages)
    for turns, left in enumerate(kept, start=1):
        assert without_oldest(messages, turns) == tuple(left)
