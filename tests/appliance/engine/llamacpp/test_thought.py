"""The watch over one sequence: where thoughts begin and end, and where they land."""

from __future__ import annotations

import pytest

from appliance.engine.llamacpp.loops import ANSWER_LIMITS, THOUGHT_LIMITS
from appliance.engine.llamacpp.thought import (
    ASKED_WINDOW,
    BLANK,
    ENDS_PARAGRAPH,
    ENDS_SENTENCE,
    ENDS_WORD,
    LEAST_ANSWER_TOKENS,
    LOOP_WINDOW,
    STARTS_WORD,
    ThoughtEnd,
    ThoughtRules,
    ThoughtWatch,
    Verdict,
    word_marks,
)

OPEN, CLOSE, BREAK, STOP, WORD, PART = range(6)
MARKS = word_marks([b"<think>", b"</think>", b"\n\n", b".", b" word", b"part"])
LANDING = (9, 9, CLOSE, BREAK)
PLENTY = 100_000


def watch(marks: bytes = b"", **changes: object) -> ThoughtWatch:
    rules = {"opened": True, "open_tokens": (OPEN,), "close_tokens": (CLOSE,), "landing_tokens": LANDING, **changes}
    return ThoughtWatch(ThoughtRules(**rules), marks)  # type: ignore[arg-type]


def feed(subject: ThoughtWatch, tokens: list[int], room: int = PLENTY) -> int | None:
    """Takes the tokens; how many were taken before the thought landed, None when it did not."""
    for count, token in enumerate(tokens):
        verdict = subject.take(token, room - count)
        if verdict is Verdict.LAND:
            assert subject.land() == LANDING
            return count
        assert verdict is Verdict.TAKE
    return None


def test_pieces_are_marked_by_what_they_do_to_words_and_sentences() -> None:
    pieces = {
        b"": 0,
        b" ": BLANK | STARTS_WORD | ENDS_WORD,
        b"\n\n": BLANK | STARTS_WORD | ENDS_SENTENCE | ENDS_WORD | ENDS_PARAGRAPH,
        b" word": STARTS_WORD,
        b"part": 0,
        b".": ENDS_SENTENCE,
        b'."': ENDS_SENTENCE,
        b"?)": ENDS_SENTENCE,
        b".\n\n": ENDS_SENTENCE | ENDS_WORD | ENDS_PARAGRAPH,
        b"3.1": 0,
        "。".encode(): STARTS_WORD | ENDS_SENTENCE,
        "我".encode(): STARTS_WORD,
        "é".encode(): 0,
    }
    assert list(word_marks(pieces)) == list(pieces.values())


def test_a_thought_that_closes_itself_is_natural() -> None:
    subject = watch(budget_tokens=10)
    assert feed(subject, [WORD] * 4 + [CLOSE, BREAK, WORD]) is None
    assert (subject.end, subject.thought_tokens, subject.answer_tokens) == (ThoughtEnd.NATURAL, 4, 2)
    assert not subject.thinking


@pytest.mark.parametrize("budget", [0, 1, 7, 100, 1000])
def test_without_marks_a_thought_has_exactly_its_budget(budget: int) -> None:
    subject = watch(budget_tokens=budget, breaks_loops=False)
    assert feed(subject, [WORD] * 2000) == budget
    assert (subject.end, subject.thought_tokens) == (ThoughtEnd.BUDGET, budget)


def test_closing_at_the_budget_is_still_natural() -> None:
    subject = watch(budget_tokens=5)
    assert feed(subject, [WORD] * 5 + [CLOSE, WORD]) is None
    assert subject.end is ThoughtEnd.NATURAL


def test_a_landing_prefers_the_end_of_a_sentence_then_of_a_word_and_never_passes_the_budget() -> None:
    def lands(tokens: list[int]) -> int | None:
        return feed(watch(MARKS, budget_tokens=400, breaks_loops=False), tokens)

    sentence = [WORD] * 9 + [STOP]
    assert lands(sentence * 100) == 360  # the first of the window, which begins 48 tokens before
    assert lands([WORD] * 1000) == 388  # no sentence ends: a word in the window's last quarter
    assert lands([WORD] * 380 + [PART] * 100) == 400  # not even a word
    # At the beginning of a line a word has no space before it.
    assert lands(([WORD] * 8 + [BREAK, PART]) * 100) == 359
    # A point within a number ends no sentence.
    assert lands(([WORD] * 8 + [STOP, PART]) * 100) == 390


def test_at_the_beginning_of_a_paragraph_a_landing_needs_no_break() -> None:
    landing = (BREAK, BREAK, WORD, CLOSE, BREAK)
    for last, expected in ((BREAK, landing[2:]), (STOP, landing)):
        subject = watch(MARKS, budget_tokens=0, landing_tokens=landing)
        subject.ask()
        subject._last = last
        assert subject.take(WORD, PLENTY) is Verdict.LAND
        assert subject.land() == expected


@pytest.mark.parametrize(("first", "taken"), [(OPEN, 1), (BREAK, 2)])
def test_a_thought_that_the_prompt_did_not_open_begins_with_its_tag(first: int, taken: int) -> None:
    subject = watch(MARKS, opened=False, budget_tokens=8)
    assert feed(subject, ([first] if first is BREAK else []) + [OPEN] + [PART] * 50) == taken + 8
    assert subject.end is ThoughtEnd.BUDGET


def test_a_tag_within_an_answer_opens_nothing() -> None:
    subject = watch(MARKS, opened=False, budget_tokens=2)
    assert feed(subject, [WORD, OPEN, *[PART] * 50]) is None
    assert (subject.end, subject.answer_tokens) == (None, 52)


def test_tags_of_several_tokens_are_understood() -> None:
    subject = watch(opened=False, open_tokens=(20, 21), close_tokens=(22, 23), budget_tokens=6)
    # A half tag is part of the thought.
    assert feed(subject, [20, 21, 5, 22, 5, 22, 23, 5]) is None
    assert (subject.end, subject.thought_tokens, subject.answer_tokens) == (ThoughtEnd.NATURAL, 3, 1)
    assert feed(watch(opened=False, open_tokens=(20, 21), budget_tokens=6), [20, 5, 5, 5, 5, 5, 5, 5, 5]) is None


def test_asked_it_lands_soon_where_a_sentence_ends_and_asking_again_changes_nothing() -> None:
    subject = watch(MARKS)
    feed(subject, [WORD] * 100)
    subject.ask()
    subject.ask()
    assert feed(subject, [WORD, STOP, WORD]) == 2
    subject.ask()
    assert feed(subject, [WORD] * 100) is None
    assert subject.end is ThoughtEnd.ASKED


def test_asked_it_lands_after_a_few_tokens_at_the_latest() -> None:
    subject = watch(MARKS)
    feed(subject, [WORD] * 100)
    subject.ask()
    assert feed(subject, [PART] * 100) == ASKED_WINDOW


def test_asked_before_the_first_token_it_thinks_hardly_at_all() -> None:
    for subject in (watch(MARKS), watch(MARKS, opened=False)):
        subject.ask()
        feed(subject, [OPEN] + [WORD] * 100)
        assert subject.end is ThoughtEnd.ASKED
        assert subject.thought_tokens <= ASKED_WINDOW + 1


def test_a_loop_lands_and_the_answer_is_watched_anew() -> None:
    cycle = list(range(100, 124))
    subject = watch()
    taken = feed(subject, cycle * 100)
    assert taken is not None
    assert THOUGHT_LIMITS.run_tokens <= taken <= THOUGHT_LIMITS.run_tokens + LOOP_WINDOW + len(cycle)
    assert subject.end is ThoughtEnd.LOOP
    assert feed(subject, cycle * 20) is None


def test_an_answer_in_circles_ends_with_the_token_that_shows_it() -> None:
    subject = watch()
    feed(subject, [CLOSE])
    cycle = list(range(100, 124))
    verdicts = [subject.take(token, PLENTY) for token in cycle * 100]
    last = verdicts.index(Verdict.LAST)
    assert ANSWER_LIMITS.run_tokens - 1 <= last <= ANSWER_LIMITS.run_tokens + len(cycle)
    assert subject.answer_looped


def test_where_loops_are_not_broken_they_go_on() -> None:
    assert feed(watch(breaks_loops=False), [WORD] * 5000) is None


def test_an_answer_has_its_own_limit() -> None:
    subject = watch(answer_tokens=3)
    feed(subject, [WORD] * 50 + [CLOSE])
    assert [subject.take(WORD, PLENTY) for _ in range(3)] == [Verdict.TAKE, Verdict.TAKE, Verdict.LAST]
    assert not subject.answer_looped
    direct = watch(opened=False, answer_tokens=2)
    assert [direct.take(WORD, PLENTY) for _ in range(2)] == [Verdict.TAKE, Verdict.LAST]


def test_room_is_kept_for_the_landing_and_some_answer() -> None:
    room = 200
    taken = feed(watch(budget_tokens=PLENTY), [WORD] * room, room)
    assert taken == room - len(LANDING) - LEAST_ANSWER_TOKENS
    # Without a budget nothing is promised: what max_tokens ends is the thought itself.
    assert feed(watch(), [WORD] * room, room) is None


def test_without_room_for_the_landing_nothing_lands() -> None:
    assert feed(watch(budget_tokens=0), [WORD] * len(LANDING), len(LANDING)) is None
    assert feed(watch(budget_tokens=0), [WORD] * 9, len(LANDING) + 1) == 0
