"""Messages in the database: answers as they grow, what a crash leaves, limits, attachments."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine

from appliance.chats import messages as messages_module
from appliance.chats.attachments import AttachmentRepository
from appliance.chats.errors import BadParent, ChatFull, ChatNotFound, ChatSpaceUsed, MessageNotFound
from appliance.chats.extract import Extracted
from appliance.chats.messages import NewQuestion
from appliance.chats.prompt import conversation
from appliance.chats.repository import utc_now
from appliance.chats.tree import by_id, path_to
from appliance.chats.types import AnswerState, AttachmentKind, MessageState, NewAnswer
from appliance.errors import AppError
from tests.appliance.chats.notes import OWNER, PLENTY, Notes


def asked(notes: Notes, chat_id: int, content: str, parent_id: int | None = None) -> int:
    """The id of an answer that was begun."""
    question = NewQuestion(parent_id=parent_id, content=content)
    return notes.messages.ask(OWNER, chat_id, question, model="m", effort=None, thinking=None)[1].id


def growing(message_id: int, content: str) -> AnswerState:
    return AnswerState(message_id=message_id, state=MessageState.STREAMING, content=content, reasoning="so far")


def test_what_a_crash_leaves_is_marked_and_can_be_found(engine: Engine) -> None:
    notes = Notes(engine)
    chat_id = notes.chats.create(OWNER).id
    answer_id = asked(notes, chat_id, "question")
    notes.messages.write([growing(answer_id, "half a needle")])
    assert notes.found("needle") == []
    assert notes.messages.recover() == 1
    answer = notes.messages.get(OWNER, chat_id, answer_id)
    assert (answer.state, answer.content, answer.reasoning) == (MessageState.INTERRUPTED, "half a needle", "so far")
    assert notes.found("needle") == [chat_id]
    assert notes.messages.recover() == 0


def test_an_ending_is_never_written_over(engine: Engine) -> None:
    notes = Notes(engine)
    chat_id = notes.chats.create(OWNER).id
    answer_id = asked(notes, chat_id, "question")
    notes.end(answer_id, "whole")
    notes.messages.write([growing(answer_id, "who")])
    notes.end(answer_id, "other", MessageState.STOPPED)
    answer = notes.messages.get(OWNER, chat_id, answer_id)
    assert (answer.state, answer.content) == (MessageState.DONE, "whole")
    notes.chats.delete(OWNER, [chat_id])
    notes.end(answer_id, "of a chat that is gone")


def test_limits(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    notes = Notes(engine, most_bytes=2_000)
    chat = notes.chat("q" * 1000, "a" * 1000)
    assert chat.size_bytes == 2002
    with pytest.raises(ChatSpaceUsed):
        asked(notes, chat.id, "more", chat.leaf_id)
    assert len(notes.messages.tree(OWNER, chat.id)[1]) == 2
    roomy = Notes(engine)
    monkeypatch.setattr(messages_module, "MOST_MESSAGES", 4)
    roomy.end(asked(roomy, chat.id, "more", chat.leaf_id), "ok")
    with pytest.raises(ChatFull, match="4 messages"):
        asked(roomy, chat.id, "more")
    monkeypatch.undo()
    monkeypatch.setattr(messages_module, "MOST_CHAT_BYTES", 10)
    with pytest.raises(ChatFull, match="bytes"):
        asked(roomy, chat.id, "more")


def test_files_are_a_chats_and_go_with_it(engine: Engine) -> None:
    notes, files = Notes(engine), AttachmentRepository(engine, most_bytes=PLENTY)
    extracted = Extracted(AttachmentKind.TEXT, "the text")
    one, two, unused = (files.add(OWNER, f"{name}.txt", 8, extracted).id for name in "abc")
    chat_id = notes.chats.create(OWNER).id
    question = NewQuestion(parent_id=None, content="?", attachment_ids=(two, one, two))
    stored, answer = notes.messages.ask(OWNER, chat_id, question, model="m", effort=None, thinking=None)
    assert [file.name for file in stored.attachments] == ["b.txt", "a.txt"]
    notes.end(answer.id, "!")
    branch = notes.messages.branch(OWNER, chat_id, answer.id)
    turns = conversation(branch.messages, branch.texts)
    assert turns[0].content.startswith("[file name]: b.txt\n[file content begin]\nthe text\n[file content end]\n[file")
    assert turns[0].content.endswith("[file content end]\n?")
    assert notes.chats.get(OWNER, chat_id).title == "b.txt", "a question that says nothing is called after its file"
    assert files.expire(utc_now() - timedelta(days=1)) == 0
    assert files.expire(utc_now() + timedelta(days=1)) == 1
    notes.chats.delete(OWNER, [chat_id])
    for file_id in (one, two, unused):
        with pytest.raises(AppError, match="no attachment"):
            files.get(OWNER, file_id)


def test_answers_without_text_leave_questions_that_belong_together(engine: Engine) -> None:
    notes = Notes(engine)
    chat_id = notes.chats.create(OWNER).id
    failed = asked(notes, chat_id, "one")
    notes.end(failed, " ", MessageState.ERROR)
    last = asked(notes, chat_id, "two", failed)
    branch = notes.messages.branch(OWNER, chat_id, last)
    assert [(turn.role, turn.content) for turn in conversation(branch.messages, {})] == [("user", "one\n\ntwo")]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 30)), max_size=15))
def test_whatever_people_do_a_chat_stays_a_tree(engine: Engine, steps: list[tuple[bool, int]]) -> None:
    """Asking and regenerating anywhere: what is refused changes nothing, what is not has its one path."""
    notes = Notes(engine)
    chat_id, other_id = notes.chats.create(OWNER).id, notes.chat("other").id
    for is_question, choice in steps:
        before = notes.messages.tree(OWNER, chat_id)[1]
        places = [None, *[message.id for message in before], notes.chats.get(OWNER, other_id).leaf_id]
        parent_id = places[choice % len(places)]
        try:
            if is_question:
                answer_id = asked(notes, chat_id, f"q{choice}", parent_id)
            else:
                new = NewAnswer(parent_id=parent_id or 0, model="m", effort=None, thinking=None)
                answer_id = notes.messages.ask_again(OWNER, chat_id, new).id
        except (BadParent, MessageNotFound):
            assert notes.messages.tree(OWNER, chat_id)[1] == before
            continue
        notes.end(answer_id, f"a{answer_id}")
        after = by_id(notes.messages.tree(OWNER, chat_id)[1])
        assert notes.chats.get(OWNER, chat_id).leaf_id == answer_id
        assert len(after) == len(before) + (2 if is_question else 1)
        branch = notes.messages.branch(OWNER, chat_id, answer_id).messages
        assert branch == path_to(after, answer_id)
        assert [message.role for message in branch] == ["user", "assistant"] * (len(branch) // 2)
    chat, messages = notes.messages.tree(OWNER, chat_id)
    assert chat.messages == len(messages)
    assert chat.size_bytes == sum(len(one.content) + len(one.reasoning) for one in messages)


def test_whose_chat_it_is_counts_everywhere(engine: Engine) -> None:
    notes = Notes(engine)
    chat = notes.chat("mine")
    for read in (notes.messages.tree, notes.chats.get):
        with pytest.raises(ChatNotFound):
            read("user:8", chat.id)
    with pytest.raises(ChatNotFound):
        notes.chats.change("user:8", chat.id, title="x")
    assert notes.chats.delete("user:8", [chat.id]) == 0
