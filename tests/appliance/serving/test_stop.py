"""Stop strings against a naive search over the whole text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.errors import InvalidRequest
from appliance.serving.stop import MAX_STOP_CHARS, MAX_STOP_STRINGS, StopFilter, check_stop_strings

STOPS = st.lists(st.text(alphabet="ab", min_size=1, max_size=5), max_size=4)
PIECES = st.lists(st.text(alphabet="abc", max_size=7), max_size=10)


def naive(text: str, stops: list[str]) -> tuple[str, str | None]:
    """The first stop string to be complete, the longest of those that end together."""
    for end in range(1, len(text) + 1):
        ending = [stop for stop in stops if text[:end].endswith(stop)]
        if ending:
            stop = max(ending, key=len)
            return text[: end - len(stop)], stop
    return text, None


def run(pieces: list[str], stops: list[str]) -> tuple[str, str | None]:
    stop = StopFilter(stops)
    text = "".join(stop.feed(piece) for piece in pieces)
    return text + stop.finish(), stop.stop_string


@given(pieces=PIECES, stops=STOPS)
def test_same_as_naive_for_any_cut(pieces: list[str], stops: list[str]) -> None:
    text = "".join(pieces)
    expected = naive(text, stops)
    assert run(pieces, stops) == expected
    assert run([text], stops) == expected
    assert run(list(text), stops) == expected


@given(text=st.text(alphabet="abc", max_size=40), stops=STOPS)
def test_holds_back_only_what_may_become_a_stop(text: str, stops: list[str]) -> None:
    stop = StopFilter(stops)
    passed = ""
    for number, character in enumerate(text, start=1):
        passed += stop.feed(character)
        if stop.stop_string is not None:
            break
        seen = text[:number]
        longest = max((n for s in stops for n in range(len(s)) if seen.endswith(s[:n])), default=0)
        assert passed == seen[: number - longest]


def test_nothing_follows_a_stop() -> None:
    stop = StopFilter(["END"])
    assert stop.feed("aEN") == "a"
    assert stop.feed("Dmore") == ""
    assert stop.feed("more") == ""
    assert stop.finish() == ""
    assert stop.stop_string == "END"


def test_without_stops_nothing_is_held() -> None:
    stop = StopFilter([])
    assert stop.feed("anything") == "anything"
    assert stop.finish() == ""


@pytest.mark.parametrize("stops", [["x"] * (MAX_STOP_STRINGS + 1), [""], ["a", "x" * (MAX_STOP_CHARS + 1)]])
def test_absurd_stop_strings_are_refused(stops: list[str]) -> None:
    with pytest.raises(InvalidRequest) as caught:
        check_stop_strings(stops)
    assert caught.value.details["param"] == "stop"


def test_the_most_that_is_taken() -> None:
    check_stop_strings(["x" * MAX_STOP_CHARS] * MAX_STOP_STRINGS)
    check_stop_strings([])
