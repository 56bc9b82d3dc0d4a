"""Values of the page's chats. No behaviour here."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from appliance.serving.types import Effort, Usage


class MessageState(StrEnum):
    """STREAMING -> DONE | STOPPED | INTERRUPTED | ERROR, never back. A user's message is DONE from the beginning.

    STOPPED by its reader, INTERRUPTED by the end of the daemon. Written by ``appliance.chats.runner`` and, at a start
    after a crash, by ``MessageRepository.recover``.
    """

    STREAMING = "streaming"
    DONE = "done"
    STOPPED = "stopped"
    INTERRUPTED = "interrupted"
    ERROR = "error"


class AttachmentKind(StrEnum):
    """What a file was taken for."""

    TEXT = "text"
    MARKDOWN = "markdown"
    CSV = "csv"
    SOURCE = "source"
    PDF = "pdf"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatRecord:
    """A chat without its messages. ``title`` is empty before the first question."""

    id: int
    owner: str
    title: str
    model: str | None
    pinned: bool
    leaf_id: int | None
    messages: int
    size_bytes: int
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class AttachmentRecord:
    """A file without its text. ``characters`` are those of the text, ``file_bytes`` those of the file. ``chat_id`` is
    None until a message has it."""

    id: int
    owner: str
    chat_id: int | None
    name: str
    kind: AttachmentKind
    file_bytes: int
    pages: int | None
    characters: int
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageRecord:
    """A message. What only answers have is None for a user's. ``error_code`` and ``error_message`` are set exactly when
    ``state`` is ERROR; ``usage`` when the model told it."""

    id: int
    chat_id: int
    parent_id: int | None
    role: str
    state: MessageState
    content: str
    reasoning: str
    created_at: datetime
    model: str | None = None
    effort: Effort | None = None
    thinking: bool | None = None
    finish_reason: str | None = None
    thinking_end: str | None = None
    usage: Usage | None = None
    first_token_ms: int | None = None
    thinking_ms: int | None = None
    total_ms: int | None = None
    error_code: str | None = None
    error_message: str | None = None
    attachments: tuple[AttachmentRecord, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class NewAnswer:
    """An answer that is about to be written below ``parent_id``."""

    parent_id: int
    model: str
    effort: Effort | None
    thinking: bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerState:
    """What of an answer is written to the database; all of it each time, so that writing it twice does no harm."""

    message_id: int
    state: MessageState
    content: str
    reasoning: str
    finish_reason: str | None = None
    thinking_end: str | None = None
    usage: Usage | None = None
    first_token_ms: int | None = None
    thinking_ms: int | None = None
    total_ms: int | None = None
    error_code: str | None = None
    error_message: str | None = None


@dataclass(frozen=True, slots=True)
class Snippet:
    """The place in a message where what was searched for is. ``marks`` are (start, length) within ``text``, in
    characters (Unicode code points)."""

    message_id: int
    text: str
    marks: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class FoundChat:
    """A chat in a list; ``snippet`` when one of its messages was found."""

    chat: ChatRecord
    snippet: Snippet | None = None


@dataclass(frozen=True, slots=True)
class ChatPage:
    """A part of a list. ``next_cursor`` asks for the next one, None on the last."""

    items: tuple[FoundChat, ...]
    next_cursor: str | None = None
