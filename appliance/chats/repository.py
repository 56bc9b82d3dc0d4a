"""Chats in the database: lists, search, renaming, deleting. Every call names the owner; nobody reaches another's.

All methods block on SQLite: call them through ``asyncio.to_thread``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection, Engine, and_, func, or_
from sqlmodel import Session, col, select

from appliance.chats.errors import BadCursor, ChatNotFound, MessageNotFound
from appliance.chats.search import newest_matches, snippet, titled, words_of
from appliance.chats.titles import clean_title
from appliance.chats.types import ChatPage, ChatRecord, FoundChat
from appliance.store.chat_tables import Chat, ChatAttachment, ChatMessage
from appliance.store.database import write_transaction

MOST_TITLE_CHARACTERS = 200
CHAT_COSTS_BYTES = 512
"""What a chat counts for beside its texts, so that empty ones are not free."""
_AT_ONCE = 20
"""Chats that one transaction deletes: others want to write meanwhile."""
_CURSOR = re.compile(r"([01])\.(\d{1,17})\.(\d{1,18})\Z")
_OFFSET = re.compile(r"s(\d{1,6})\Z")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def utc_now() -> datetime:
    """Now."""
    return datetime.now(UTC)


class ChatRepository:
    """The chats, without what is said in them."""

    def __init__(self, engine: Engine, now: Callable[[], datetime] = utc_now) -> None:
        self._engine = engine
        self._now = now

    def create(self, owner: str, *, title: str = "", model: str | None = None) -> ChatRecord:
        """An empty chat."""
        now = self._now()
        row = Chat(owner=owner, title=_title(title), model=model, created_at=now, updated_at=now)
        with write_transaction(self._engine) as session:
            session.add(row)
            session.flush()
            return chat_record(row)

    def get(self, owner: str, chat_id: int) -> ChatRecord:
        """Raises ChatNotFound."""
        with Session(self._engine) as session:
            return chat_record(own_chat(session, owner, chat_id))

    def list(self, owner: str, *, limit: int, cursor: str | None = None) -> ChatPage:
        """Pinned ones first, then by when something was said last. Raises BadCursor."""
        order = (col(Chat.pinned).desc(), col(Chat.updated_at).desc(), col(Chat.id).desc())
        statement = select(Chat).where(Chat.owner == owner).order_by(*order).limit(limit + 1)
        if cursor is not None:
            pinned, updated_at, chat_id = _position(cursor)
            older = or_(
                col(Chat.updated_at) < updated_at, and_(col(Chat.updated_at) == updated_at, col(Chat.id) < chat_id)
            )
            same = and_(col(Chat.pinned) == pinned, older)
            statement = statement.where(or_(col(Chat.pinned) < pinned, same) if pinned else same)
        with Session(self._engine) as session:
            found = [chat_record(row) for row in session.exec(statement)]
        more = _cursor(found[limit - 1]) if len(found) > limit else None
        return ChatPage(tuple(FoundChat(chat) for chat in found[:limit]), more)

    def search(self, owner: str, query: str, *, limit: int, cursor: str | None = None) -> ChatPage:
        """Chats with all words of ``query`` in the title or in one message, by when something was said in them last.
        What is bounded says ``appliance.chats.search``. Raises BadSearch, BadCursor."""
        words = words_of(query)
        if not words.all:
            return self.list(owner, limit=limit, cursor=cursor)
        offset = 0
        if cursor is not None:
            match = _OFFSET.match(cursor)
            if match is None:
                raise BadCursor
            offset = int(match[1])
        with Session(self._engine) as session:
            connection = session.connection()
            messages = newest_matches(connection, owner, words)
            ids = list(messages | dict.fromkeys(titled(connection, owner, words)))
            found = list(session.exec(select(Chat).where(col(Chat.id).in_(ids), Chat.owner == owner)))
            found.sort(key=lambda row: (row.updated_at, row.id), reverse=True)
            shown = [chat_record(row) for row in found[offset : offset + limit]]
            texts = _contents(connection, [messages[chat.id] for chat in shown if chat.id in messages])
        items = []
        for chat in shown:
            message_id = messages.get(chat.id)
            text = None if message_id is None else texts.get(message_id)
            items.append(FoundChat(chat, None if text is None else snippet(messages[chat.id], text, words)))
        return ChatPage(tuple(items), f"s{offset + limit}" if len(found) > offset + limit else None)

    def change(
        self,
        owner: str,
        chat_id: int,
        *,
        title: str | None = None,
        pinned: bool | None = None,
        leaf_id: int | None = None,
    ) -> ChatRecord:
        """What is not None is changed; where the chat stands in the list is not. Raises ChatNotFound,
        MessageNotFound."""
        with write_transaction(self._engine) as session:
            row = own_chat(session, owner, chat_id)
            if title is not None:
                row.title = _title(title)
            if pinned is not None:
                row.pinned = pinned
            if leaf_id is not None:
                wanted = select(ChatMessage.id).where(ChatMessage.id == leaf_id, ChatMessage.chat_id == chat_id)
                if session.exec(wanted).first() is None:
                    raise MessageNotFound(message_id=leaf_id)
                row.leaf_id = leaf_id
            session.add(row)
            session.flush()
            return chat_record(row)

    def ids(self, owner: str) -> tuple[int, ...]:
        """All chats of the owner."""
        with Session(self._engine) as session:
            found = session.exec(select(Chat.id).where(Chat.owner == owner))
            return tuple(chat_id for chat_id in found if chat_id)

    def delete(self, owner: str, chat_ids: Iterable[int]) -> int:
        """Delete those of the chats that are the owner's, with all that is in them; how many there were. What the
        search index still keeps of them goes with ``appliance.chats.purge``, which is asked for here."""
        return self._delete(chat_ids, owner)

    def expire(self, before: datetime) -> int:
        """Delete chats in which nothing was said since, pinned or not; how many."""
        with Session(self._engine) as session:
            old = [chat_id for chat_id in session.exec(select(Chat.id).where(col(Chat.updated_at) < before)) if chat_id]
        return self._delete(old, None)

    def used_bytes(self, owner: str) -> int:
        """What the owner's chats and attachments hold."""
        with Session(self._engine) as session:
            return used_bytes(session, owner)

    def _delete(self, chat_ids: Iterable[int], owner: str | None) -> int:
        ids, gone = list(chat_ids), 0
        for start in range(0, len(ids), _AT_ONCE):
            wanted = col(Chat.id).in_(ids[start : start + _AT_ONCE])
            statement = select(Chat).where(wanted) if owner is None else select(Chat).where(wanted, Chat.owner == owner)
            with write_transaction(self._engine) as session:
                rows = list(session.exec(statement))
                for row in rows:
                    session.delete(row)
                if rows:
                    session.flush()
                    ask_for_purge(session.connection())
                gone += len(rows)
        return gone


def ask_for_purge(connection: Connection) -> None:
    """Note, with the deletion itself, that the search index has something to forget."""
    connection.exec_driver_sql(
        "INSERT INTO chat_purge (id, deletions) VALUES (1, 1) ON CONFLICT (id) DO UPDATE SET deletions = deletions + 1"
    )


def own_chat(session: Session, owner: str, chat_id: int) -> Chat:
    """Raises ChatNotFound, for one of somebody else too."""
    row = session.get(Chat, chat_id) if 0 < chat_id < 2**63 else None
    if row is None or row.owner != owner:
        raise ChatNotFound(chat_id=chat_id)
    return row


def used_bytes(session: Session, owner: str) -> int:
    """As ``ChatRepository.used_bytes``, within a transaction."""
    size = select(func.count(), func.coalesce(func.sum(Chat.size_bytes), 0)).where(Chat.owner == owner)
    chats, chat_bytes = session.exec(size).one()
    unused = select(func.coalesce(func.sum(ChatAttachment.text_bytes), 0)).where(
        ChatAttachment.owner == owner, col(ChatAttachment.chat_id).is_(None)
    )
    return int(chats) * CHAT_COSTS_BYTES + int(chat_bytes) + int(session.exec(unused).one())


def chat_record(row: Chat) -> ChatRecord:
    """The row as a value."""
    assert row.id is not None, "a row that came from the database has an id"
    return ChatRecord(
        id=row.id,
        owner=row.owner,
        title=row.title,
        model=row.model,
        pinned=row.pinned,
        leaf_id=row.leaf_id,
        messages=row.messages,
        size_bytes=row.size_bytes,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )


def _title(title: str) -> str:
    return clean_title(title)[:MOST_TITLE_CHARACTERS]


def _contents(connection: Connection, message_ids: list[int]) -> dict[int, str]:
    if not message_ids:
        return {}
    marks = ", ".join("?" * len(message_ids))
    statement = f"SELECT id, content FROM chat_message WHERE id IN ({marks})"  # noqa: S608 - placeholders
    return {int(row[0]): str(row[1]) for row in connection.exec_driver_sql(statement, tuple(message_ids))}


def _cursor(chat: ChatRecord) -> str:
    return f"{int(chat.pinned)}.{(chat.updated_at - _EPOCH) // _MICROSECOND}.{chat.id}"


def _position(cursor: str) -> tuple[bool, datetime, int]:
    match = _CURSOR.match(cursor)
    if match is None:
        raise BadCursor
    return match[1] == "1", _EPOCH + int(match[2]) * _MICROSECOND, int(match[3])
