"""Prompt lookup: the longest earlier place of a sequence's end, found without reading the sequence again."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.engine.llamacpp.lookup import LONGEST, SHORTEST, Lookup, Match, continuation


def found(tokens: list[int]) -> Match | None:
    lookup = Lookup()
    lookup.extend(tokens, len(tokens))
    return lookup.find(tokens)


def longest_by_reading(tokens: list[int]) -> int:
    """The length of the longest earlier match, the slow way."""
    best = 0
    for position in range(SHORTEST, len(tokens)):
        length = 0
        while length < min(position, LONGEST) and tokens[position - 1 - length] == tokens[-1 - length]:
            length += 1
        best = max(best, length)
    return best if best >= SHORTEST else 0


def test_the_end_of_a_copy_is_found_where_it_was_copied_from() -> None:
    assert found([*range(10, 30), 1, 2, 14, 15, 16, 17]) == Match(8, 4)


def test_a_longer_match_wins_over_a_later_one() -> None:
    assert found([9, 1, 2, 3, 50, 7, 1, 2, 3, 60, 9, 1, 2, 3]) == Match(4, 4)


def test_of_equal_ones_the_latest_wins() -> None:
    assert found([5, 1, 2, 3, 50, 7, 1, 2, 3, 60, 9, 1, 2, 3]) == Match(9, 3)


def test_nothing_new_and_nothing_short_is_found() -> None:
    assert found([1, 2, 3, 4, 5, 6, 1, 2]) is None
    assert found([1, 2]) is None
    assert found([]) is None


def test_a_guess_that_runs_into_the_end_goes_on_with_itself() -> None:
    tokens = [1, 2, 3, 4, 1, 2, 3, 4, 1, 2, 3]
    match = found(tokens)
    assert match is not None
    assert continuation(tokens, match.position, 9) == [4, 1, 2, 3, 4, 1, 2, 3, 4]
    assert continuation([7, 7, 7, 7], 3, 3) == [7, 7, 7]


def test_an_index_that_lags_behind_finds_nothing_until_it_is_there() -> None:
    tokens = [*range(10, 30), 14, 15, 16]
    lookup = Lookup()
    assert lookup.extend(tokens, 10) == 10
    assert lookup.find(tokens) is None
    assert (lookup.extend(tokens, 100), lookup.indexed) == (13, 23)
    assert lookup.find(tokens) == Match(7, 3)
    assert lookup.extend(tokens, 100) == 0


@settings(deadline=None)
@given(
    st.lists(st.integers(0, 2), max_size=30),
    st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=6), max_size=10),
)
def test_growing_in_any_steps_finds_real_matches_and_no_shorter_ones_than_there_are(
    prompt: list[int], steps: list[list[int]]
) -> None:
    lookup, tokens = Lookup(), list(prompt)
    for step in [[], *steps]:
        tokens += step
        lookup.extend(tokens, len(tokens))
        match = lookup.find(tokens)
        best = longest_by_reading(tokens)
        assert (match is None) == (best == 0)
        if match is not None:
            assert SHORTEST <= match.position < len(tokens)
            assert tokens[match.position - match.length : match.position] == tokens[len(tokens) - match.length :]
            # Only so many earlier places are looked at; in these short texts the best is nearly always among them.
            assert match.length <= best


@settings(deadline=None)
@given(st.lists(st.integers(0, 50), min_size=4, max_size=60), st.integers(4, 40))
def test_a_text_without_crowded_places_gives_its_longest_match(tokens: list[int], copied: int) -> None:
    text = [*tokens, *tokens[:copied]]
    match = found(text)
    assert (match.length if match is not None else 0) == longest_by_reading(text)
