"""A chat as Markdown that people keep. Values in, text out."""

from __future__ import annotations

from collections.abc import Sequence

from appliance.chats.tree import by_id, newest_leaf, path_to
from appliance.chats.types import ChatRecord, MessageRecord, MessageState

_UNFINISHED = {
    MessageState.STREAMING: "(This answer is still being written.)",
    MessageState.STOPPED: "(This answer was stopped.)",
    MessageState.INTERRUPTED: "(This answer was interrupted.)",
}


def to_markdown(chat: ChatRecord, messages: Sequence[MessageRecord]) -> str:
    """The branch that was looked at last: questions and answers under headings, thoughts folded."""
    parts = [f"# {chat.title or 'Chat'}", f"{chat.created_at:%Y-%m-%d %H:%M} UTC"]
    tree = by_id(messages)
    leaf_id = chat.leaf_id if chat.leaf_id in tree else newest_leaf(tree)
    for message in () if leaf_id is None else path_to(tree, leaf_id):
        if message.role == "user":
            parts.append("## Question")
            parts += [f"Attached: {file.name} ({file.characters:,} characters)" for file in message.attachments]
            parts.append(message.content)
        else:
            parts += [f"## Answer ({message.model})" if message.model else "## Answer", *_answer(message)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _answer(message: MessageRecord) -> list[str]:
    parts = []
    if message.reasoning.strip():
        seconds = "" if message.thinking_ms is None else f" for {message.thinking_ms / 1000:.0f} s"
        parts += [f"<details>\n<summary>Thought{seconds}</summary>", message.reasoning.strip(), "</details>"]
    parts.append(message.content.strip())
    if message.state is MessageState.ERROR:
        parts.append(f"(This answer failed: {message.error_message})")
    elif message.state in _UNFINISHED:
        parts.append(_UNFINISHED[message.state])
    return parts
