"""The stamp: what it covers, what it does not, and what is not one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from installer.bootstrap import stamp

STAMP = stamp.Stamp(stamp.FORM, "run", "aa", "k1", "3.11.2", "/src")


def test_what_was_written_is_read(tmp_path: Path) -> None:
    stamp.write(tmp_path, STAMP)
    assert stamp.read(tmp_path) == STAMP
    assert [path.name for path in tmp_path.iterdir()] == ["r1box-setup.json"]
    stamp.remove(tmp_path)
    stamp.remove(tmp_path)
    assert stamp.read(tmp_path) is None


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", '"text"', "{}", '{"form": 1}', "\udcff"],
)
def test_anything_else_is_no_stamp(tmp_path: Path, content: str) -> None:
    (tmp_path / "r1box-setup.json").write_text(content, encoding="utf-8", errors="surrogateescape")
    assert stamp.read(tmp_path) is None


@pytest.mark.parametrize("change", [{"level": "all"}, {"form": stamp.FORM + 1}])
def test_a_stamp_of_another_form_is_none_of_ours(tmp_path: Path, change: dict[str, object]) -> None:
    stamp.write(tmp_path, replace(STAMP, **change))  # type: ignore[arg-type]
    assert stamp.read(tmp_path) is None


def test_the_tests_extras_cover_what_runs_and_not_the_other_way_round() -> None:
    dev = replace(STAMP, level="dev")
    assert dev.covers(STAMP)
    assert dev.covers(dev)
    assert STAMP.covers(STAMP)
    assert not STAMP.covers(dev)


@pytest.mark.parametrize("change", [{"requirements": "bb"}, {"build": "k2"}, {"python": "3.12.1"}, {"root": "/other"}])
def test_any_change_is_not_covered(change: dict[str, str]) -> None:
    assert not STAMP.covers(replace(STAMP, **change))


def test_fingerprint_follows_contents_and_names(tmp_path: Path) -> None:
    one, two = tmp_path / "one.txt", tmp_path / "two.txt"
    one.write_text("a")
    two.write_text("a")
    assert stamp.fingerprint([one]) == stamp.fingerprint([one])
    assert stamp.fingerprint([one]) != stamp.fingerprint([two])
    before = stamp.fingerprint([one, two])
    two.write_text("b")
    assert stamp.fingerprint([one, two]) != before
    with pytest.raises(FileNotFoundError):
        stamp.fingerprint([tmp_path / "none.txt"])


def test_contents_follow_names_places_and_bytes(tmp_path: Path) -> None:
    one, two = tmp_path / "a" / "x.py", tmp_path / "b" / "x.py"
    for path in (one, two):
        path.parent.mkdir()
        path.write_text("1", encoding="utf-8")
    first = stamp.contents(tmp_path, [one])
    assert first != stamp.contents(tmp_path, [two])
    assert first == stamp.contents(tmp_path, [one])
    one.write_text("2", encoding="utf-8")
    assert first != stamp.contents(tmp_path, [one])
