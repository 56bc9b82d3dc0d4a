"""Messages in the database: trees of questions and answers, and answers as they grow.

All methods block on SQLite: call them through ``asyncio.to_thread``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Engine, update
from sqlmodel import Session, col, select

from appliance.chats.attachments import attachment_record, take_for_message
from appliance.chats.errors import (
    AnswerRunning,
    BadParent,
    ChatFull,
    ChatSpaceUsed,
    MessageNotFound,
)
from appliance.chats.repository import chat_record, own_chat, used_bytes, utc_now
from appliance.chats.search import owner_tag
from appliance.chats.titles import title_of
from appliance.chats.tree import by_id, may_stand_below, path_to
from appliance.chats.types import (
    AnswerState,
    AttachmentRecord,
    ChatRecord,
    MessageRecord,
    MessageState,
    NewAnswer,
)
from appliance.serving.types import Effort, Usage
from appliance.store.chat_tables import Chat, ChatAttachment, ChatMessage, ChatMessageAttachment
from appliance.store.database import write_transaction

MOST_MESSAGES = 2_000
MOST_CHAT_BYTES = 32 * 1024 * 1024
"""A chat is read whole by the page; nobody reads more than that in one."""


@dataclass(frozen=True, slots=True)
class _Node:
    id: int
    parent_id: int | None


@dataclass(frozen=True, slots=True)
class Branch:
    """The way from the first message to one. ``texts`` are those of the attachments on it, by id."""

    chat: ChatRecord
    messages: tuple[MessageRecord, ...]
    texts: Mapping[int, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class NewQuestion:
    """A user's message that is about to be stored; ``parent_id`` None begins a tree."""

    parent_id: int | None
    content: str
    attachment_ids: tuple[int, ...] = ()


class MessageRepository:
    """The messages. ``most_bytes`` is what one owner's chats may hold."""

    def __init__(self, engine: Engine, *, most_bytes: int, now: Callable[[], datetime] = utc_now) -> None:
        self._engine = engine
        self._most_bytes = most_bytes
        self._now = now

    def tree(self, owner: str, chat_id: int) -> tuple[ChatRecord, tuple[MessageRecord, ...]]:
        """A chat with all its messages, the oldest first. Raises ChatNotFound."""
        with Session(self._engine) as session:
            chat = own_chat(session, owner, chat_id)
            rows = session.exec(
                select(ChatMessage).where(ChatMessage.chat_id == chat_id).order_by(col(ChatMessage.id))
            ).all()
            files = _attachments(session, chat_id)
            return chat_record(chat), tuple(_record(row, files.get(row.id or 0, ())) for row in rows)

    def branch(self, owner: str, chat_id: int, leaf_id: int | None) -> Branch:
        """The messages up to ``leaf_id`` (None: none). Raises ChatNotFound, MessageNotFound."""
        with Session(self._engine) as session:
            chat = chat_record(own_chat(session, owner, chat_id))
            if leaf_id is None:
                return Branch(chat, (), {})
            nodes = session.exec(select(ChatMessage.id, ChatMessage.parent_id).where(ChatMessage.chat_id == chat_id))
            tree = by_id(_Node(node_id or 0, parent_id) for node_id, parent_id in nodes)
            if leaf_id not in tree:
                raise MessageNotFound(message_id=leaf_id)
            ids = [node.id for node in path_to(tree, leaf_id)]
            rows = {row.id: row for row in session.exec(select(ChatMessage).where(col(ChatMessage.id).in_(ids)))}
            files = _attachments(session, chat_id)
            messages = tuple(_record(rows[node_id], files.get(node_id, ())) for node_id in ids)
            wanted = {file.id for message in messages for file in message.attachments}
            texts = session.exec(
                select(ChatAttachment.id, ChatAttachment.text).where(col(ChatAttachment.id).in_(wanted))
            )
            return Branch(chat, messages, {file_id or 0: text for file_id, text in texts})

    def get(self, owner: str, chat_id: int, message_id: int) -> MessageRecord:
        """Raises ChatNotFound, MessageNotFound."""
        with Session(self._engine) as session:
            own_chat(session, owner, chat_id)
            row = session.get(ChatMessage, message_id) if 0 < message_id < 2**63 else None
            if row is None or row.chat_id != chat_id:
                raise MessageNotFound(message_id=message_id)
            return _record(row, _attachments(session, chat_id).get(message_id, ()))

    def ask(
        self,
        owner: str,
        chat_id: int,
        question: NewQuestion,
        *,
        model: str,
        effort: Effort | None,
        thinking: bool | None,
    ) -> tuple[MessageRecord, MessageRecord]:
        """Store a question and the beginning of its answer, in one transaction.

        Raises ChatNotFound, MessageNotFound, BadParent, AnswerRunning, ChatFull, ChatSpaceUsed, AttachmentNotFound,
        AttachmentInUse, TooManyAttachments.
        """
        with write_transaction(self._engine) as session:
            chat = own_chat(session, owner, chat_id)
            _check_parent(session, chat_id, question.parent_id, "user")
            row = ChatMessage(
                chat_id=chat_id,
                parent_id=question.parent_id,
                role="user",
                state=MessageState.DONE.value,
                owner_tag=owner_tag(owner),
                indexed=True,
                content=_storable(question.content),
                created_at=self._now(),
            )
            session.add(row)
            session.flush()
            assert row.id is not None
            files = take_for_message(session, owner, chat_id, row.id, question.attachment_ids)
            chat.size_bytes += len(question.content.encode()) + sum(file.new_bytes for file in files)
            chat.messages += 1
            if not chat.title:
                chat.title = title_of(question.content, files[0].record.name if files else None)
            new = NewAnswer(parent_id=row.id, model=model, effort=effort, thinking=thinking)
            answer = self._begin_answer(session, chat, new)
            return _record(row, tuple(file.record for file in files)), answer

    def ask_again(self, owner: str, chat_id: int, new: NewAnswer) -> MessageRecord:
        """Begin another answer to a question. Raises as ``ask``."""
        with write_transaction(self._engine) as session:
            chat = own_chat(session, owner, chat_id)
            _check_parent(session, chat_id, new.parent_id, "assistant")
            return self._begin_answer(session, chat, new)

    def write(self, states: Sequence[AnswerState]) -> None:
        """Bring answers up to date, all in one transaction. One whose chat was deleted is left out."""
        with write_transaction(self._engine) as session:
            for state in states:
                self._write(session, state)

    def recover(self) -> int:
        """Mark what a daemon that is no more was writing; how many answers that were. For a start, before any other
        call."""
        with write_transaction(self._engine) as session:
            streaming = ChatMessage.state == MessageState.STREAMING.value
            rows = session.exec(select(ChatMessage).where(streaming)).all()
            for row in rows:
                row.state, row.indexed = MessageState.INTERRUPTED.value, True
                session.add(row)
                _count_bytes(session, row.chat_id, row.content, row.reasoning)
            return len(rows)

    def _begin_answer(self, session: Session, chat: Chat, new: NewAnswer) -> MessageRecord:
        assert chat.id is not None
        if chat.messages + 1 > MOST_MESSAGES:
            raise ChatFull(reason=f"it has {MOST_MESSAGES:,} messages")
        if chat.size_bytes > MOST_CHAT_BYTES:
            raise ChatFull(reason=f"it holds {chat.size_bytes:,} bytes")
        now = self._now()
        row = ChatMessage(
            chat_id=chat.id,
            parent_id=new.parent_id,
            role="assistant",
            state=MessageState.STREAMING.value,
            owner_tag=owner_tag(chat.owner),
            model=new.model,
            effort=new.effort,
            thinking=new.thinking,
            created_at=now,
        )
        session.add(row)
        chat.messages += 1
        chat.model, chat.updated_at = new.model, now
        session.flush()
        chat.leaf_id = row.id
        session.add(chat)
        session.flush()
        used = used_bytes(session, chat.owner)
        if used > self._most_bytes:
            raise ChatSpaceUsed(used_bytes=used, limit_bytes=self._most_bytes)
        return _record(row, ())

    def _write(self, session: Session, state: AnswerState) -> None:
        over, usage = state.state is not MessageState.STREAMING, state.usage
        statement = (
            update(ChatMessage)
            .where(col(ChatMessage.id) == state.message_id, col(ChatMessage.state) == MessageState.STREAMING.value)
            .values(
                state=state.state.value,
                indexed=over,
                content=_storable(state.content),
                reasoning=_storable(state.reasoning),
                finish_reason=state.finish_reason,
                thinking_end=state.thinking_end,
                prompt_tokens=None if usage is None else usage.prompt_tokens,
                completion_tokens=None if usage is None else usage.completion_tokens,
                reasoning_tokens=None if usage is None else usage.reasoning_tokens,
                cached_tokens=None if usage is None else usage.cached_tokens,
                first_token_ms=state.first_token_ms,
                thinking_ms=state.thinking_ms,
                total_ms=state.total_ms,
                error_code=state.error_code,
                error_message=state.error_message,
            )
            .returning(col(ChatMessage.chat_id))
        )
        chat_id = session.connection().execute(statement).scalar()
        if chat_id is not None and over:
            _count_bytes(session, chat_id, state.content, state.reasoning, updated_at=self._now())


def _storable(text: str) -> str:
    """Without NUL, where SQLite's functions, the search index among them, think that a text ends."""
    return text.replace("\0", "")


def _check_parent(session: Session, chat_id: int, parent_id: int | None, role: str) -> None:
    parent = None
    if parent_id is not None:
        parent = session.get(ChatMessage, parent_id) if 0 < parent_id < 2**63 else None
        if parent is None or parent.chat_id != chat_id:
            raise MessageNotFound(message_id=parent_id)
    if not may_stand_below(role, None if parent is None else parent.role):
        what = (
            "A question stands below an answer, or at the beginning."
            if role == "user"
            else "An answer stands below a question."
        )
        raise BadParent(what)
    if parent is not None and parent.state == MessageState.STREAMING.value:
        raise AnswerRunning


def _count_bytes(
    session: Session, chat_id: int, content: str, reasoning: str, updated_at: datetime | None = None
) -> None:
    size = Chat.size_bytes + len(content.encode()) + len(reasoning.encode())
    statement = update(Chat).where(col(Chat.id) == chat_id).values(size_bytes=size)
    session.connection().execute(statement if updated_at is None else statement.values(updated_at=updated_at))


def _attachments(session: Session, chat_id: int) -> dict[int, tuple[AttachmentRecord, ...]]:
    """The files of a chat's messages, by message."""
    link = ChatMessageAttachment
    statement = (
        select(link.message_id, *_FILE_COLUMNS)
        .join(ChatAttachment, col(ChatAttachment.id) == col(link.attachment_id))
        .where(ChatAttachment.chat_id == chat_id)
        .order_by(col(link.message_id), col(link.position))
    )
    found: dict[int, tuple[AttachmentRecord, ...]] = {}
    for row in session.connection().execute(statement):
        values = row._asdict()
        message_id = values.pop("message_id")
        found[message_id] = (*found.get(message_id, ()), attachment_record(values))
    return found


_FILE_COLUMNS: tuple[Any, ...] = tuple(
    getattr(ChatAttachment, name)
    for name in ("id", "owner", "chat_id", "name", "kind", "file_bytes", "pages", "characters", "created_at")
)


def _record(row: ChatMessage, attachments: tuple[AttachmentRecord, ...]) -> MessageRecord:
    assert row.id is not None, "a row that came from the database has an id"
    usage = None
    if row.prompt_tokens is not None:
        usage = Usage(
            prompt_tokens=row.prompt_tokens,
            completion_tokens=row.completion_tokens or 0,
            reasoning_tokens=row.reasoning_tokens or 0,
            cached_tokens=row.cached_tokens or 0,
        )
    return MessageRecord(
        id=row.id,
        chat_id=row.chat_id,
        parent_id=row.parent_id,
        role=row.role,
        state=MessageState(row.state),
        content=row.content,
        reasoning=row.reasoning,
        created_at=row.created_at,
        model=row.model,
        effort=None if row.effort is None else Effort(row.effort),
        thinking=row.thinking,
        finish_reason=row.finish_reason,
        thinking_end=row.thinking_end,
        usage=usage,
        first_token_ms=row.first_token_ms,
        thinking_ms=row.thinking_ms,
        total_ms=row.total_ms,
        error_code=row.error_code,
        error_message=row.error_message,
        attachments=attachments,
    )
