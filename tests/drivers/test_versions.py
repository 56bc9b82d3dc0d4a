"""Versions of drivers, CANN, CUDA and packages: one order for all, and nothing that makes the reader stumble."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.versions import Version, parse_range, parse_version

ORDERED = [
    ["23.0.5", "23.0.6", "24.1.rc1", "24.1.rc1.b030", "24.1.rc2", "24.1.rc3", "24.1.0", "24.1.0.3"],
    ["25.0.rc1", "25.0.rc1.1", "25.2.0", "25.2.3", "25.3.rc1", "25.3.0", "25.7.rc1.6", "26.0.rc1"],
    ["8.0.RC3", "8.0.0.beta1", "8.0.0", "8.2.RC1.alpha002", "8.2.RC1", "8.3.RC1", "8.5.0", "9.1.0-beta.3", "9.1.0"],
    ["2.5.1.dev20250320", "2.5.1", "2.5.1.post1.dev20250619", "2.5.1.post1", "2.7.1", "2.7.1.post8", "2.10.0"],
    ["450.80.02", "525.60.13", "535.104.05", "550.54.14", "550.54.15", "570.26", "570.124.06"],
    ["0.9.1rc1", "0.9.1rc2", "0.9.1", "0.11.0rc0", "0.11.0"],
    ["7.7.0.1.231", "7.7.0.6.236", "7.7.0.10.220", "7.8.0.6.201"],
]

PIECES = st.sampled_from(
    ["1", "0", "25", "030", ".", "-", "+", "rc", "RC", "b", "beta", "post", "dev", "alpha", "B", "v", "cu121", " ", "é"]
)
TEXTS = st.one_of(st.text(max_size=130), st.lists(PIECES, max_size=12).map("".join))


def version(text: str) -> Version:
    parsed = parse_version(text)
    assert parsed is not None, text
    return parsed


@pytest.mark.parametrize("texts", ORDERED, ids=lambda texts: texts[0])
def test_the_makers_order(texts: list[str]) -> None:
    for earlier, later in itertools.combinations(texts, 2):
        assert version(earlier) < version(later)
        assert not version(later) < version(earlier)
        assert version(earlier) != version(later)


@pytest.mark.parametrize(
    ("one", "other"),
    [("2.9", "2.9.0"), ("8.2.RC1", "8.2.rc1"), ("v0.9.1", "0.9.1"), ("2.9.0+cu128", "2.9.0"), (" 25.2.0\n", "25.2.0")],
)
def test_the_same_version_written_differently(one: str, other: str) -> None:
    assert version(one) == version(other)
    assert hash(version(one)) == hash(version(other))


@pytest.mark.parametrize("text", ["", "unknown", "N/A", ".5", "é1", "1" * 101])
def test_what_is_no_version(text: str) -> None:
    assert parse_version(text) is None


def test_a_version_is_equal_to_no_text() -> None:
    assert version("1.0") != "1.0"


@given(st.lists(TEXTS, min_size=3, max_size=3))
def test_any_text_has_its_place_in_one_order(texts: list[str]) -> None:
    versions = [parsed for parsed in map(parse_version, texts) if parsed is not None]
    for one, other in itertools.product(versions, repeat=2):
        assert [one < other, one == other, one > other].count(True) == 1
    for a, b, c in itertools.permutations(versions, 3):
        assert not (a <= b <= c) or a <= c


@given(TEXTS, TEXTS)
def test_any_specification_can_be_asked(spec: str, text: str) -> None:
    parsed, asked = parse_range(spec), parse_version(text)
    if parsed is not None and asked is not None:
        assert parsed.contains(asked) in (True, False)


@pytest.mark.parametrize(
    ("spec", "inside", "outside"),
    [
        ("8.5.0", ["8.5.0", "8.5"], ["8.5.1", "8.5.0.beta1"]),
        ("25.3.*", ["25.3.rc1", "25.3.0", "25.3.1.2"], ["25.2.9", "25.30.0", "25"]),
        (">=525.60.13", ["525.60.13", "580.65.06"], ["525.60.11", "470.82.01"]),
        (">=3.10,<3.14", ["3.10", "3.13.9"], ["3.9.18", "3.14.0"]),
        (">=24.1.rc2,<24.2", ["24.1.rc2", "24.1.rc3.b010", "24.1.0.3"], ["24.1.rc1.b030", "25.0.rc1"]),
        ("<=2.0", ["1.9", "2.0.0"], ["2.0.1"]),
    ],
)
def test_specifications(spec: str, inside: list[str], outside: list[str]) -> None:
    parsed = parse_range(spec)
    assert parsed is not None
    assert [text for text in inside if not parsed.contains(version(text))] == []
    assert [text for text in outside if parsed.contains(version(text))] == []


@pytest.mark.parametrize("spec", ["", "*", "rc1.*", "8.rc1.*", ">=", ">=1,<x", "newest"])
def test_what_is_no_specification(spec: str) -> None:
    assert parse_range(spec) is None


def test_a_minimum_is_open_above() -> None:
    ranges = {spec: parse_range(spec) for spec in (">=1.0", "1.0", "1.*", ">=1,<2", "<2")}
    assert {spec: found.is_minimum for spec, found in ranges.items() if found is not None} == {
        ">=1.0": True,
        "1.0": False,
        "1.*": False,
        ">=1,<2": False,
        "<2": False,
    }
