"""Attachments in the database: the text of files, bound to whoever sent them, then to one chat.

All methods block on SQLite: call them through ``asyncio.to_thread``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Engine, delete, func
from sqlmodel import Session, col, select

from appliance.chats.errors import AttachmentInUse, AttachmentNotFound, ChatSpaceUsed, TooManyAttachments
from appliance.chats.extract import Extracted
from appliance.chats.repository import used_bytes, utc_now
from appliance.chats.types import AttachmentKind, AttachmentRecord
from appliance.store.chat_tables import ChatAttachment, ChatMessageAttachment
from appliance.store.database import write_transaction

MOST_PER_MESSAGE = 10
MOST_UNUSED = 20


@dataclass(frozen=True, slots=True)
class Taken:
    """A file that a message has. ``new_bytes`` is what it adds to the chat: nothing when that had it before."""

    record: AttachmentRecord
    new_bytes: int


class AttachmentRepository:
    """The attachments. ``most_bytes`` is what one owner's chats may hold."""

    def __init__(self, engine: Engine, *, most_bytes: int, now: Callable[[], datetime] = utc_now) -> None:
        self._engine = engine
        self._most_bytes = most_bytes
        self._now = now

    def check_room(self, owner: str) -> None:
        """Before anything is read. Raises TooManyAttachments, ChatSpaceUsed."""
        with Session(self._engine) as session:
            self._check_room(session, owner)

    def add(self, owner: str, name: str, file_bytes: int, extracted: Extracted) -> AttachmentRecord:
        """Keep a file's text until a message has it. Raises TooManyAttachments, ChatSpaceUsed."""
        row = ChatAttachment(
            owner=owner,
            name=name,
            kind=extracted.kind.value,
            file_bytes=file_bytes,
            pages=extracted.pages,
            text=extracted.text,
            text_bytes=len(extracted.text.encode()),
            characters=len(extracted.text),
            created_at=self._now(),
        )
        with write_transaction(self._engine) as session:
            self._check_room(session, owner)
            session.add(row)
            session.flush()
            return attachment_record(row.model_dump())

    def get(self, owner: str, attachment_id: int) -> AttachmentRecord:
        """Raises AttachmentNotFound."""
        with Session(self._engine) as session:
            return attachment_record(_own(session, owner, attachment_id).model_dump())

    def texts(self, owner: str, attachment_ids: Sequence[int]) -> tuple[tuple[AttachmentRecord, str], ...]:
        """The files with their texts, in the given order. Raises AttachmentNotFound."""
        with Session(self._engine) as session:
            rows = [_own(session, owner, attachment_id) for attachment_id in attachment_ids]
            return tuple((attachment_record(row.model_dump()), row.text) for row in rows)

    def delete(self, owner: str, attachment_id: int) -> None:
        """Forget one that no message has. Raises AttachmentNotFound, AttachmentInUse."""
        with write_transaction(self._engine) as session:
            row = _own(session, owner, attachment_id)
            if row.chat_id is not None:
                raise AttachmentInUse(chat_id=row.chat_id)
            session.delete(row)

    def expire(self, before: datetime) -> int:
        """Forget those that no message has since; how many."""
        unused = delete(ChatAttachment).where(
            col(ChatAttachment.chat_id).is_(None), col(ChatAttachment.created_at) < before
        )
        with write_transaction(self._engine) as session:
            return int(session.connection().execute(unused).rowcount)

    def delete_unused(self, owner: str) -> None:
        """Forget all of the owner's that no message has."""
        unused = delete(ChatAttachment).where(col(ChatAttachment.chat_id).is_(None), col(ChatAttachment.owner) == owner)
        with write_transaction(self._engine) as session:
            session.connection().execute(unused)

    def _check_room(self, session: Session, owner: str) -> None:
        unused = select(func.count()).where(ChatAttachment.owner == owner, col(ChatAttachment.chat_id).is_(None))
        if session.exec(unused).one() >= MOST_UNUSED:
            raise TooManyAttachments(most=MOST_UNUSED, where="before a message has them")
        used = used_bytes(session, owner)
        if used > self._most_bytes:
            raise ChatSpaceUsed(used_bytes=used, limit_bytes=self._most_bytes)


def take_for_message(
    session: Session, owner: str, chat_id: int, message_id: int, attachment_ids: Sequence[int]
) -> tuple[Taken, ...]:
    """Give the files to a message, in the given order. Raises AttachmentNotFound, AttachmentInUse,
    TooManyAttachments."""
    unique = tuple(dict.fromkeys(attachment_ids))
    if len(unique) > MOST_PER_MESSAGE:
        raise TooManyAttachments(most=MOST_PER_MESSAGE, where="with one message")
    taken = []
    for position, attachment_id in enumerate(unique):
        row = _own(session, owner, attachment_id)
        if row.chat_id not in (None, chat_id):
            raise AttachmentInUse(chat_id=row.chat_id)
        new_bytes = row.text_bytes if row.chat_id is None else 0
        row.chat_id = chat_id
        session.add(row)
        session.add(ChatMessageAttachment(message_id=message_id, attachment_id=attachment_id, position=position))
        taken.append(Taken(attachment_record(row.model_dump()), new_bytes))
    session.flush()
    return tuple(taken)


def attachment_record(row: Mapping[str, Any]) -> AttachmentRecord:
    """A row's columns as a value."""
    return AttachmentRecord(
        id=row["id"],
        owner=row["owner"],
        chat_id=row["chat_id"],
        name=row["name"],
        kind=AttachmentKind(row["kind"]),
        file_bytes=row["file_bytes"],
        pages=row["pages"],
        characters=row["characters"],
        created_at=row["created_at"],
    )


def _own(session: Session, owner: str, attachment_id: int) -> ChatAttachment:
    row = session.get(ChatAttachment, attachment_id) if 0 < attachment_id < 2**63 else None
    if row is None or row.owner != owner:
        raise AttachmentNotFound(attachment_id=attachment_id)
    return row
