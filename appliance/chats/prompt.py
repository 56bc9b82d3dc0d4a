"""From a branch of a chat to the messages that a model is asked with. Values in, values out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from appliance.chats.types import MessageRecord
from appliance.serving.types import ChatMessage


def with_files(question: str, files: Iterable[tuple[str, str]]) -> str:
    """The question after its files (name, text), as DeepSeek's own page puts them before R1 (the file template in
    the README of deepseek-ai/DeepSeek-R1)."""
    parts = [f"[file name]: {name}\n[file content begin]\n{text}\n[file content end]\n" for name, text in files]
    return "".join(parts) + question


def conversation(messages: Sequence[MessageRecord], texts: Mapping[int, str]) -> tuple[ChatMessage, ...]:
    """The turns of a branch. Thoughts stay out, as R1 wants it. An answer that has no text (it failed, or was stopped
    while it thought) is left out, and the questions around it become one: templates want the roles in turns."""
    turns: list[ChatMessage] = []
    for message in messages:
        content = message.content
        if message.role == "user":
            content = with_files(content, ((file.name, texts[file.id]) for file in message.attachments))
            if turns and turns[-1].role == "user":
                content = f"{turns.pop().content}\n\n{content}"
        elif not content.strip():
            continue
        turns.append(ChatMessage(role=message.role, content=content))
    return tuple(turns)
