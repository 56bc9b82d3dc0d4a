"""Bodies of ``/api/chats``, ``/api/attachments`` and ``/api/page``, which the chat page uses. Unknown is null; times
are RFC 3339 in UTC."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from appliance.schemas.accounts import Me

MessageStateName = Literal["streaming", "done", "stopped", "interrupted", "error"]
AttachmentKindName = Literal["text", "markdown", "csv", "source", "pdf"]
EffortName = Literal["minimal", "low", "medium", "high"]
Id = Annotated[int, Field(ge=1, le=2**53)]
ModelId = Annotated[str, Field(min_length=1, max_length=256)]

MOST_QUESTION_CHARACTERS = 1_000_000


class _Body(BaseModel):
    """What a client sends: strict types, no unknown fields."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True)


class ChatQuery(BaseModel):
    """Which part of the list. ``query``: words that must all be in the title or in one message."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    query: str | None = Field(default=None, max_length=200)
    limit: int = Field(default=50, ge=1, le=200)
    cursor: str | None = Field(default=None, max_length=64)


class ExportQuery(BaseModel):
    """``markdown``: the branch that was looked at last; ``json``: the whole tree."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal["markdown", "json"] = "markdown"


class ChatCreate(_Body):
    """A new chat. Without a title it gets one from its first question."""

    title: Annotated[str, Field(max_length=200)] = ""
    model: ModelId | None = None


class ChatChange(_Body):
    """What is given is changed. ``leaf_id``: the last message of the branch that is shown."""

    title: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    pinned: bool | None = None
    leaf_id: Id | None = None


class MessageCreate(_Body):
    """A question, to be answered. ``parent_id``: the answer it stands below, null for a first message. Without
    ``content`` the question ``parent_id`` is answered once more. ``model`` null: the one that the chat had last, else
    the box's default."""

    parent_id: Id | None = None
    content: Annotated[str, Field(min_length=1, max_length=MOST_QUESTION_CHARACTERS)] | None = None
    attachment_ids: Annotated[tuple[Id, ...], Field(max_length=10)] = ()
    model: ModelId | None = None
    effort: EffortName | None = None
    thinking: bool | None = None


class SnippetBody(_Value):
    """Where in a message the words are; ``marks`` are [start, length] in code points of ``text``."""

    message_id: int
    text: str
    marks: tuple[tuple[int, int], ...]


class ChatBody(_Value):
    """A chat without its messages. ``title`` is empty before the first question. ``leaf_id``: the last message of the
    branch that was looked at last."""

    id: int
    title: str
    model: str | None
    pinned: bool
    leaf_id: int | None
    created_at: datetime
    updated_at: datetime


class ChatItem(ChatBody):
    """A chat in a list; with a ``snippet`` when the search found one of its messages."""

    snippet: SnippetBody | None = None


class ChatList(_Value):
    """A part of the list. ``next_cursor`` asks for the next one, null on the last."""

    items: tuple[ChatItem, ...]
    next_cursor: str | None = None


class AttachmentBody(_Value):
    """A file. ``characters`` of text were read from it, all of them: ``truncated`` is always false. ``tokens`` are
    those of the model that was asked for, null when it is not loaded or when they are more than a seat holds."""

    id: int
    name: str
    kind: AttachmentKindName
    bytes: int
    pages: int | None = None
    characters: int
    tokens: int | None = None
    truncated: Literal[False] = False
    chat_id: int | None = None
    created_at: datetime


class MessageUsage(_Value):
    """Tokens. ``reasoning`` are among ``completion``, ``cached`` among ``prompt``."""

    prompt: int
    completion: int
    reasoning: int
    cached: int


class MessageError(_Value):
    """Why there is no answer."""

    code: str
    message: str


class MessageBody(_Value):
    """A node of a chat's tree. What only answers have is null for a question. ``interrupted``: the box was restarted
    while it was written. ``content`` and ``reasoning`` are null in the event ``done`` alone, whose reader has them."""

    id: int
    parent_id: int | None
    role: Literal["user", "assistant"]
    state: MessageStateName
    content: str | None
    reasoning: str | None
    model: str | None = None
    effort: EffortName | None = None
    thinking: bool | None = None
    finish_reason: Literal["stop", "length"] | None = None
    thinking_end: Literal["natural", "budget", "loop", "asked"] | None = None
    usage: MessageUsage | None = None
    first_token_ms: int | None = None
    thinking_ms: int | None = None
    total_ms: int | None = None
    error: MessageError | None = None
    attachments: tuple[AttachmentBody, ...] = ()
    created_at: datetime


class ChatDetail(ChatBody):
    """A chat with all its messages, by id."""

    messages: tuple[MessageBody, ...]


class Exchange(_Value):
    """What was begun; ``user_message`` null when a question was asked again."""

    user_message: MessageBody | None
    answer: MessageBody
    chat: ChatBody


class CountBody(_Value):
    """The tokens of the conversation with the question. ``answer_room``: how long the answer may become. With
    ``is_minimum`` it was too long to be counted to the end."""

    prompt_tokens: int
    context_tokens: int
    answer_room: int
    fits: bool
    is_minimum: bool = False


class DeletedChats(_Value):
    """How many there were."""

    deleted: int


class PageModel(_Value):
    """A model that can be asked. ``context_tokens``, ``seats``, ``profile``, ``thinks`` are null before it was loaded.
    ``efforts``: how long it may be told to think, nothing for one that does not."""

    id: str
    name: str
    quantization: str | None = None
    state: str
    default: bool = False
    load_fraction: float | None = None
    context_tokens: int | None = None
    seats: int | None = None
    profile: Literal["r1", "r1-0528", "plain"] | None = None
    thinks: bool | None = None
    efforts: tuple[EffortName, ...] = ()


class PageLimits(_Value):
    """What the page should not even try."""

    question_characters: int
    attachment_bytes: int
    attachment_characters: int
    attachments_per_message: int
    answers_at_once: int
    keep_days: int | None


class PageBody(_Value):
    """What the page needs when it starts. A stranger is told ``setup_needed`` and ``languages`` alone."""

    user: Me | None = None
    setup_needed: bool
    languages: tuple[str, ...] = ("en", "zh")
    version: str | None = None
    models: tuple[PageModel, ...] = ()
    limits: PageLimits | None = None
