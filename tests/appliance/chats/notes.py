"""Chats for tests of the database: with messages, without a model."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Engine

from appliance.chats.messages import MessageRepository, NewQuestion
from appliance.chats.repository import ChatRepository
from appliance.chats.types import AnswerState, ChatRecord, MessageState
from appliance.serving.types import Usage

OWNER = "user:7"
PLENTY = 1 << 40


class Notes:
    """A database with chats."""

    def __init__(self, engine: Engine, *, most_bytes: int = PLENTY) -> None:
        self.engine = engine
        self.chats = ChatRepository(engine)
        self.messages = MessageRepository(engine, most_bytes=most_bytes)

    def chat(self, *texts: str, owner: str = OWNER, title: str = "") -> ChatRecord:
        """A chat of questions and answers in turns."""
        chat = self.chats.create(owner, title=title)
        parent_id = None
        for question, answer in zip(texts[::2], [*texts[1::2], "~"], strict=False):
            new = NewQuestion(parent_id=parent_id, content=question)
            _, begun = self.messages.ask(owner, chat.id, new, model="m", effort=None, thinking=None)
            self.end(begun.id, answer)
            parent_id = begun.id
        return self.chats.get(owner, chat.id)

    def end(self, message_id: int, content: str, state: MessageState = MessageState.DONE) -> None:
        usage = Usage(prompt_tokens=1, completion_tokens=1)
        self.messages.write(
            [AnswerState(message_id=message_id, state=state, content=content, reasoning="hm", usage=usage)]
        )

    def found(self, query: str, *, owner: str = OWNER, limit: int = 50) -> Sequence[int]:
        return [item.chat.id for item in self.chats.search(owner, query, limit=limit).items]
