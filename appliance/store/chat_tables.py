"""Tables of the page's chats. Beside them stands ``chat_search``, an FTS5 index that no class can describe: the
migration makes it, its triggers fill it, ``appliance.chats.search`` asks it."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Boolean, Column, ForeignKey, Index, Integer, String, Text, text
from sqlmodel import Field, SQLModel

from appliance.store.tables import UtcDateTime


class Chat(SQLModel, table=True):
    """A conversation. ``owner`` is whose it is (``user:7``, ``key:3``), ``leaf_id`` the last message of the branch that
    was looked at last, ``size_bytes`` what its messages and attachments hold. An id is never given again."""

    __tablename__ = "chat"
    __table_args__ = (
        Index("ix_chat_owner", "owner", "pinned", "updated_at", "id"),
        Index("ix_chat_updated_at", "updated_at"),
        {"sqlite_autoincrement": True},
    )

    id: int | None = Field(default=None, primary_key=True)
    owner: str = Field(sa_column=Column(String(32), nullable=False))
    title: str = Field(sa_column=Column(String(200), nullable=False))
    model: str | None = Field(default=None, sa_column=Column(String(256), nullable=True))
    pinned: bool = Field(default=False, sa_column=Column(Boolean(), nullable=False))
    leaf_id: int | None = Field(default=None, sa_column=Column(Integer(), nullable=True))
    messages: int = Field(default=0, sa_column=Column(Integer(), nullable=False))
    size_bytes: int = Field(default=0, sa_column=Column(Integer(), nullable=False))
    created_at: datetime = Field(sa_column=Column(UtcDateTime(), nullable=False))
    updated_at: datetime = Field(sa_column=Column(UtcDateTime(), nullable=False))


class ChatMessage(SQLModel, table=True):
    """A node of a chat's tree. ``owner_tag`` is the owner as the search index knows it; a message is in the index when
    ``indexed`` is set, which is once its text does not change any more."""

    __tablename__ = "chat_message"
    __table_args__ = (
        Index("ix_chat_message_chat_id", "chat_id"),
        Index("ix_chat_message_streaming", "state", sqlite_where=text("state = 'streaming'")),
        {"sqlite_autoincrement": True},
    )

    id: int | None = Field(default=None, primary_key=True)
    chat_id: int = Field(sa_column=Column(Integer(), ForeignKey("chat.id", ondelete="CASCADE"), nullable=False))
    parent_id: int | None = Field(default=None, sa_column=Column(Integer(), nullable=True))
    role: str = Field(sa_column=Column(String(16), nullable=False))
    state: str = Field(sa_column=Column(String(16), nullable=False))
    owner_tag: str = Field(sa_column=Column(String(3), nullable=False))
    indexed: bool = Field(default=False, sa_column=Column(Boolean(), nullable=False))
    content: str = Field(default="", sa_column=Column(Text(), nullable=False))
    reasoning: str = Field(default="", sa_column=Column(Text(), nullable=False))
    model: str | None = Field(default=None, sa_column=Column(String(256), nullable=True))
    effort: str | None = Field(default=None, sa_column=Column(String(16), nullable=True))
    thinking: bool | None = Field(default=None, sa_column=Column(Boolean(), nullable=True))
    finish_reason: str | None = Field(default=None, sa_column=Column(String(16), nullable=True))
    thinking_end: str | None = Field(default=None, sa_column=Column(String(16), nullable=True))
    prompt_tokens: int | None = Field(default=None, sa_column=Column(Integer(), nullable=True))
    completion_tokens: int | None = Field(default=None, sa_column=Column(Integer(), nullable=True))
    reasoning_tokens: int | None = Field(default=None, sa_column=Column(Integer(), nullable=True))
    cached_tokens: int | None = Field(default=None, sa_column=Column(Integer(), nullable=True))
    first_token_ms: int | None = Field(default=None, sa_column=Column(Integer(), nullable=True))
    thinking_ms: int | None = Field(default=None, sa_column=Column(Integer(), nullable=True))
    total_ms: int | None = Field(default=None, sa_column=Column(Integer(), nullable=True))
    error_code: str | None = Field(default=None, sa_column=Column(String(64), nullable=True))
    error_message: str | None = Field(default=None, sa_column=Column(Text(), nullable=True))
    created_at: datetime = Field(sa_column=Column(UtcDateTime(), nullable=False))


class ChatAttachment(SQLModel, table=True):
    """The text of a file that was attached; the file itself is not kept. ``chat_id`` is None until a message has it."""

    __tablename__ = "chat_attachment"
    __table_args__ = (
        Index("ix_chat_attachment_owner", "owner", "chat_id"),
        Index("ix_chat_attachment_chat_id", "chat_id"),
        {"sqlite_autoincrement": True},
    )

    id: int | None = Field(default=None, primary_key=True)
    owner: str = Field(sa_column=Column(String(32), nullable=False))
    chat_id: int | None = Field(
        default=None, sa_column=Column(Integer(), ForeignKey("chat.id", ondelete="CASCADE"), nullable=True)
    )
    name: str = Field(sa_column=Column(String(200), nullable=False))
    kind: str = Field(sa_column=Column(String(16), nullable=False))
    file_bytes: int = Field(sa_column=Column(Integer(), nullable=False))
    pages: int | None = Field(default=None, sa_column=Column(Integer(), nullable=True))
    text: str = Field(sa_column=Column(Text(), nullable=False))
    text_bytes: int = Field(sa_column=Column(Integer(), nullable=False))
    characters: int = Field(sa_column=Column(Integer(), nullable=False))
    created_at: datetime = Field(sa_column=Column(UtcDateTime(), nullable=False))


class ChatMessageAttachment(SQLModel, table=True):
    """Which files a message has, in their order. A message and its edited versions may have the same ones."""

    __tablename__ = "chat_message_attachment"
    __table_args__ = (Index("ix_chat_message_attachment_attachment_id", "attachment_id"),)

    message_id: int = Field(
        sa_column=Column(Integer(), ForeignKey("chat_message.id", ondelete="CASCADE"), primary_key=True)
    )
    attachment_id: int = Field(
        sa_column=Column(Integer(), ForeignKey("chat_attachment.id", ondelete="CASCADE"), primary_key=True)
    )
    position: int = Field(sa_column=Column(Integer(), nullable=False))


class ChatPurge(SQLModel, table=True):
    """Has its one row while something that was deleted may still be in the search index's older segments.
    ``deletions`` grows with each one, so that one during a purge is noticed."""

    __tablename__ = "chat_purge"

    id: int = Field(sa_column=Column(Integer(), primary_key=True, autoincrement=False))
    deletions: int = Field(sa_column=Column(Integer(), nullable=False))
