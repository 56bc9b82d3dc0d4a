"""From the values of ``appliance.chats`` to their bodies."""

from __future__ import annotations

from typing import Any

from appliance.chats.types import AttachmentRecord, ChatPage, ChatRecord, MessageRecord, MessageState, Snippet
from appliance.schemas.chats import (
    AttachmentBody,
    ChatBody,
    ChatDetail,
    ChatItem,
    ChatList,
    CountBody,
    MessageBody,
    MessageError,
    MessageUsage,
    SnippetBody,
)
from appliance.serving.types import PromptCount, Usage


def chat_body(chat: ChatRecord) -> ChatBody:
    """A chat."""
    return ChatBody(**_chat(chat))


def chat_list(page: ChatPage) -> ChatList:
    """A part of a list."""
    items = tuple(ChatItem(**_chat(found.chat), snippet=_snippet(found.snippet)) for found in page.items)
    return ChatList(items=items, next_cursor=page.next_cursor)


def chat_detail(chat: ChatRecord, messages: tuple[MessageRecord, ...]) -> ChatDetail:
    """A chat with its messages."""
    return ChatDetail(**_chat(chat), messages=tuple(message_body(message) for message in messages))


def message_body(message: MessageRecord, *, with_text: bool = True) -> MessageBody:
    """A message; ``with_text`` false leaves out what its reader has."""
    error = None
    if message.state is MessageState.ERROR:
        error = MessageError(code=message.error_code or "internal_error", message=message.error_message or "")
    return MessageBody(
        id=message.id,
        parent_id=message.parent_id,
        role="user" if message.role == "user" else "assistant",
        state=message.state.value,
        content=message.content if with_text else None,
        reasoning=message.reasoning if with_text else None,
        model=message.model,
        effort=None if message.effort is None else message.effort.value,
        thinking=message.thinking,
        finish_reason=message.finish_reason,
        thinking_end=message.thinking_end,
        usage=None if message.usage is None else usage_body(message.usage),
        first_token_ms=message.first_token_ms,
        thinking_ms=message.thinking_ms,
        total_ms=message.total_ms,
        error=error,
        attachments=tuple(attachment_body(file) for file in message.attachments),
        created_at=message.created_at,
    )


def usage_body(usage: Usage) -> MessageUsage:
    """Tokens."""
    return MessageUsage(
        prompt=usage.prompt_tokens,
        completion=usage.completion_tokens,
        reasoning=usage.reasoning_tokens,
        cached=usage.cached_tokens,
    )


def attachment_body(file: AttachmentRecord, tokens: int | None = None) -> AttachmentBody:
    """A file."""
    return AttachmentBody(
        id=file.id,
        name=file.name,
        kind=file.kind.value,
        bytes=file.file_bytes,
        pages=file.pages,
        characters=file.characters,
        tokens=tokens,
        chat_id=file.chat_id,
        created_at=file.created_at,
    )


def count_body(count: PromptCount) -> CountBody:
    """What a question would take."""
    return CountBody(
        prompt_tokens=count.prompt_tokens,
        context_tokens=count.context_tokens,
        answer_room=count.answer_tokens,
        fits=count.answer_tokens > 0,
        is_minimum=count.is_minimum,
    )


def _chat(chat: ChatRecord) -> dict[str, Any]:
    names = ("id", "title", "model", "pinned", "leaf_id", "created_at", "updated_at")
    return {name: getattr(chat, name) for name in names}


def _snippet(snippet: Snippet | None) -> SnippetBody | None:
    if snippet is None:
        return None
    return SnippetBody(message_id=snippet.message_id, text=snippet.text, marks=snippet.marks)
