"""Control tokens are found as a naive search would, never survive in one untrusted piece, and cost linear time."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.serving import fence as fence_module
from appliance.serving.fence import MAX_TOKEN_CHARS, MAX_TOKENS, ControlTokens, Fence

TOKENS = frozenset(("<a>", "<ab>", "<a><b>", "a>", "<|x|>", "｜", "<", "\n\n", "<<a>>"))
TEXT = st.text(alphabet="<>ab|x\n｜ é", max_size=60)


def naive_spans(text: str, tokens: frozenset[str]) -> list[tuple[int, int]]:
    wanted = sorted((t for t in tokens if len(t) > 1 and not t.isspace()), key=len, reverse=True)
    return [match.span() for match in re.finditer("|".join(map(re.escape, wanted)), text)] if wanted else []


@given(text=TEXT, tokens=st.frozensets(st.text(alphabet="<>ab", min_size=1, max_size=5), max_size=8))
def test_finds_what_a_naive_search_finds(text: str, tokens: frozenset[str]) -> None:
    assert ControlTokens(tokens).spans(text) == naive_spans(text, tokens)


@given(text=TEXT, window=st.integers(1, 9))
def test_windows_make_no_difference(text: str, window: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fence_module, "_WINDOW_CHARS", window)
        assert ControlTokens(TOKENS).spans(text) == naive_spans(text, TOKENS)


@given(texts=st.lists(TEXT, max_size=4))
def test_segments_give_the_text_back_and_no_piece_holds_a_token(texts: list[str]) -> None:
    fence = Fence(ControlTokens(TOKENS))
    rendered = "T".join(fence.guard(text) for text in texts)
    segments = fence.segments(rendered)
    assert "".join(segment.text for segment in segments) == "T".join(texts)
    dangerous = [token for token in TOKENS if len(token) > 1 and not token.isspace()]
    for segment in segments:
        if not segment.trusted:
            assert not any(token in segment.text for token in dangerous)
        assert segment.text
    trusted = [segment.text for segment in segments if segment.trusted]
    assert not any(token in text for token in dangerous for text in trusted)


def test_ordinary_text_is_one_trusted_segment() -> None:
    fence = Fence(ControlTokens(TOKENS))
    assert fence.guard("hello") == "hello"
    (segment,) = fence.segments("hello")
    assert segment.trusted


def test_a_client_cannot_write_a_sentinel_of_its_own() -> None:
    tokens = ControlTokens(TOKENS)
    first = Fence(tokens)
    stolen = first.guard("<a>")
    second = Fence(tokens)
    rendered = second.guard(f"{stolen}<ab>")
    untrusted = "".join(segment.text for segment in second.segments(rendered) if not segment.trusted)
    assert untrusted == "<ab>"


def test_a_sentinel_repeated_or_dropped_by_the_template() -> None:
    fence = Fence(ControlTokens(TOKENS))
    sentinel = fence.guard("<a>")
    assert "".join(segment.text for segment in fence.segments(sentinel * 3)) == "<a><a><a>"
    assert fence.segments("") == []


def test_one_character_and_blank_tokens_are_ordinary_text() -> None:
    assert ControlTokens(frozenset(("\n", "\n\n", "x", "  "))).spans("x\n\n  x") == []


@pytest.mark.parametrize(
    "tokens",
    [
        frozenset(f"<{number}>" for number in range(MAX_TOKENS + 1)),
        frozenset(("<" * (MAX_TOKEN_CHARS + 1),)),
    ],
)
def test_vocabularies_out_of_bounds(tokens: frozenset[str]) -> None:
    with pytest.raises(ValueError, match="control tokens"):
        ControlTokens(tokens)


def test_a_vocabulary_of_nested_tokens_works_or_is_refused() -> None:
    tokens = frozenset("<" + "a" * length for length in range(1, MAX_TOKEN_CHARS))
    try:
        found = ControlTokens(tokens).spans("<" + "a" * 10)
    except ValueError:
        return
    assert found == [(0, 11)]


def test_thousands_of_reserved_tokens() -> None:
    tokens = frozenset(f"<unused{number}>" for number in range(6_000))
    assert ControlTokens(tokens).spans("<unused5999><unused6000>" + "<unused" * 50_000) == [(0, 12)]
