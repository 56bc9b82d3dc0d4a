"""Answer files: a folder that must be taken, a folder that must be refused with the words beside each."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import jsonschema
import pytest

from installer.answers import parse_answers, read_answers
from installer.answers_schema import reference, schema_text
from installer.errors import InstallRefused
from tests.installer.boxes import FIXTURES, LEAST

ROOT = Path(__file__).parents[2]
ACCEPTED = sorted((FIXTURES / "accept").glob("*.toml"))
REFUSED = sorted((FIXTURES / "refuse").glob("*.toml"))


@pytest.mark.parametrize("path", ACCEPTED, ids=lambda path: path.stem)
def test_accepted_and_by_the_published_schema_too(path: Path) -> None:
    read_answers(path)
    jsonschema.validate(tomllib.loads(path.read_text("utf-8")), json.loads(schema_text()))


@pytest.mark.parametrize("path", REFUSED, ids=lambda path: path.stem)
def test_refused_with_the_words_beside_it(path: Path) -> None:
    with pytest.raises(InstallRefused) as caught:
        read_answers(path)
    for line in path.with_suffix(".txt").read_text("utf-8").splitlines():
        assert line in caught.value.message
    assert caught.value.hint
    assert "hunter2" not in caught.value.message


def test_what_the_schema_can_say_it_refuses_too() -> None:
    for name in ("mistyped-key", "mistyped-table", "no-schema", "newer-schema", "no-match", "port-as-text"):
        values = tomllib.loads((FIXTURES / f"refuse/{name}.toml").read_text("utf-8"))
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(values, json.loads(schema_text()))


def test_the_published_schema_is_the_models() -> None:
    assert (ROOT / "installer/answers.schema.json").read_text("utf-8") == schema_text()


def test_the_document_holds_the_reference_and_its_example_is_taken() -> None:
    document = (ROOT / "docs/install.md").read_text("utf-8")
    assert document.endswith(reference())
    parse_answers(document.partition("```toml\n")[2].partition("```")[0])


def test_a_file_that_is_no_answer_file(tmp_path: Path) -> None:
    for content, word in ((b"\xff\xfe", "UTF-8"), (b"#" * (1 << 20) + b"#", "too large")):
        (tmp_path / "a.toml").write_bytes(content)
        with pytest.raises(InstallRefused, match=word):
            read_answers(tmp_path / "a.toml")
    with pytest.raises(InstallRefused, match="cannot be read"):
        read_answers(tmp_path / "none.toml")


def test_a_mark_of_byte_order_is_taken() -> None:
    assert parse_answers("\ufeff" + LEAST) == parse_answers(LEAST)
