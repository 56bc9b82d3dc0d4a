"""Search finds exactly what is there, in any language, of its owner alone."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, create_engine

from appliance.chats.errors import BadSearch
from appliance.chats.messages import NewQuestion
from appliance.chats.search import owner_tag, snippet, words_of
from appliance.store.database import open_database
from appliance.store.upgrade import upgrade
from tests.appliance.chats.notes import OWNER, Notes

LETTERS = st.text(alphabet="abAB \n\"'*-:^()%_!合同到期éÉ😀", min_size=1, max_size=30)


def test_words_must_be_in_one_message(engine: Engine) -> None:
    notes = Notes(engine)
    one = notes.chat("The lease of the north wing", "It ends in May.").id
    two = notes.chat("The lease", "of the south wing ends").id
    assert notes.found("lease") == [two, one]
    assert notes.found("lease wing") == [one]
    assert notes.found("SOUTH ends") == [two]
    assert notes.found("eas orth") == [one], "parts of words count"
    assert notes.found("lease eastern") == []


def test_chinese(engine: Engine) -> None:
    notes = Notes(engine)
    one = notes.chat("请总结这份合同", "合同将于五月到期").id
    two = notes.chat("到期日是哪天", "五月三日").id
    assert notes.found("合同") == [one]
    assert notes.found("到期") == [two, one]
    assert notes.found("合同 到期") == [one]
    assert notes.found("五月三日") == [two]
    assert notes.found("期") == [two, one]
    assert notes.found("同") == [one], "the last character of a message counts too"
    assert notes.found("期同") == []


def test_titles_are_found_too(engine: Engine) -> None:
    notes = Notes(engine)
    chat = notes.chat("one", "two", title="Rent 100% of 2019_a!")
    for query in ("rent", "100%", "2019_a", "a!", "%", "_"):
        assert notes.found(query) == [chat.id], query
    assert notes.found("200%") == []
    page = notes.chats.search(OWNER, "rent", limit=1)
    assert page.items[0].snippet is None


def test_operators_are_just_text(engine: Engine) -> None:
    notes = Notes(engine)
    chat = notes.chat('Say "NEAR(a b)" AND owner_tag: x* NOT y', "ok").id
    for query in ('"near(a', "and", "owner_tag:", "x*", "not y", '"'):
        assert notes.found(query) == [chat], query
    assert notes.found("a OR zzz") == []


def test_a_character_that_ends_texts_for_sqlite_is_left_out(engine: Engine) -> None:
    notes = Notes(engine)
    chat = notes.chat("before\0after", "answer\0ed")
    assert [message.content for message in notes.messages.tree(OWNER, chat.id)[1]] == ["beforeafter", "answered"]
    assert notes.found("after") == notes.found("answered") == [chat.id]


def test_many_hits_come_in_pages(engine: Engine) -> None:
    notes = Notes(engine)
    ids = [notes.chat(f"needle {number}").id for number in range(5)]
    first = notes.chats.search(OWNER, "needle", limit=2)
    second = notes.chats.search(OWNER, "needle", limit=2, cursor=first.next_cursor)
    third = notes.chats.search(OWNER, "needle", limit=2, cursor=second.next_cursor)
    shown = [item.chat.id for page in (first, second, third) for item in page.items]
    assert shown == ids[::-1]
    assert third.next_cursor is None


def test_an_answer_is_found_when_it_has_ended(engine: Engine) -> None:
    notes = Notes(engine)
    chat = notes.chats.create(OWNER)
    question = NewQuestion(parent_id=None, content="question")
    _, answer = notes.messages.ask(OWNER, chat.id, question, model="m", effort=None, thinking=None)
    assert notes.found("question") == [chat.id]
    notes.end(answer.id, "unfinished needle")
    assert notes.found("needle") == [chat.id]


@pytest.mark.parametrize("query", ["x" * 201, "a b c d e f g h i", "\ud800bc"])
def test_what_cannot_be_searched(query: str) -> None:
    with pytest.raises(BadSearch):
        words_of(query)


def test_owner_tags_are_one_trigram_each() -> None:
    tags = {owner_tag(f"{kind}:{number}") for kind in ("user", "key") for number in range(1, 9000, 7)}
    assert len(tags) == 2 * len(range(1, 9000, 7))
    assert {len(tag) for tag in tags | {owner_tag("local")}} == {3}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Notes]:
    """One database for many examples, each of which has owners of its own."""
    engine = open_database(tmp_path_factory.mktemp("search") / "box.db")
    yield Notes(engine)
    engine.dispose()


_owners = itertools.count(1)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.booleans(), LETTERS), min_size=1, max_size=4), st.data())
def test_as_a_plain_look_would_find(shared: Notes, messages: list[tuple[bool, str]], data: st.DataObject) -> None:
    """Against reading every message, with words cut out of them."""
    source = data.draw(st.sampled_from(messages))[1]
    start = data.draw(st.integers(0, len(source) - 1))
    query = source[start : start + data.draw(st.integers(1, 8))]
    one, other = f"user:{next(_owners)}", f"user:{next(_owners)}"
    chats = [
        (shared.chat(text, title="title", owner=one if whose else other).id, whose, text) for whose, text in messages
    ]
    words = words_of(query).all
    wanted = {
        chat_id
        for chat_id, whose, text in chats
        if whose and (all(word in text.lower() for word in words) or all(word in "title" for word in words))
    }
    assert set(shared.found(query, owner=one)) == wanted


@given(st.text(max_size=300), st.text(alphabet="abc合同İß", min_size=1, max_size=6))
def test_marks_are_where_the_words_are(content: str, word: str) -> None:
    words = words_of(word)
    text = content + word + content
    made = snippet(1, text, words)
    assert len(made.text) <= 162
    for start, length in made.marks:
        assert made.text[start : start + length].lower() in words.all or length == len(words.all[0])
    ends = [start + length for start, length in made.marks]
    assert all(start >= end for (start, _), end in zip(made.marks[1:], ends, strict=False))


def test_what_was_indexed_before_the_view_is_found_after_it(tmp_path: Path) -> None:
    """The database of the revision in which the index read the table itself."""
    old = create_engine(f"sqlite:///{tmp_path / 'box.db'}")
    upgrade(old, "0005")
    notes = Notes(old)
    chat = notes.chat("请总结这份合同", "needle")
    old.dispose()
    engine = open_database(tmp_path / "box.db")
    after = Notes(engine)
    assert after.found("合同") == after.found("needle") == [chat.id]
    with engine.connect() as connection:
        connection.exec_driver_sql("INSERT INTO chat_search(chat_search, rank) VALUES ('integrity-check', 1)")
    assert after.chats.delete(OWNER, [chat.id]) == 1
    assert after.found("needle") == []
    engine.dispose()
