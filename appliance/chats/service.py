"""The page's chats, put together: what its API asks for, and the upkeep."""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import timedelta

import structlog
from sqlalchemy import Engine
from sqlalchemy.exc import DatabaseError

from appliance.chats.attachments import AttachmentRepository
from appliance.chats.errors import AnswerOver, AnswerRunning, BadParent, TooManyAnswers
from appliance.chats.extract import Extractor, clean_name
from appliance.chats.live import LiveAnswer, LiveEvent, Place
from appliance.chats.messages import MessageRepository, NewQuestion
from appliance.chats.prompt import conversation
from appliance.chats.purge import purge
from appliance.chats.repository import ChatRepository, utc_now
from appliance.chats.runner import AnswerRunner
from appliance.chats.types import AnswerState, AttachmentRecord, ChatRecord, MessageRecord, MessageState, NewAnswer
from appliance.serving.chat import ChatService
from appliance.serving.stream import ChatStream
from appliance.serving.types import ChatRequest, Effort, PromptCount, ThinkingOptions

UNUSED_ATTACHMENTS_S = 86_400
_UPKEEP_EVERY_S = 3_600.0
_PURGE_AFTER_S = 5.0
"""Who deletes one chat often deletes another: they are purged together."""
_NEW_ID = 2**63 - 1

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatLimits:
    """What one owner may. ``keep_days`` None keeps chats for ever."""

    answers: int = 4
    most_bytes: int = 512 * 1024 * 1024
    keep_days: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What the page asks a model. ``content`` None asks again what ``parent_id`` asked."""

    model: str
    parent_id: int | None
    content: str | None
    attachment_ids: tuple[int, ...] = ()
    effort: Effort | None = None
    thinking: bool | None = None


class Chats:
    """``start`` before the first request, ``aclose`` after the last one and before the engines end."""

    def __init__(self, engine: Engine, chat: ChatService, limits: ChatLimits | None = None) -> None:
        self._engine = engine
        self._chat = chat
        self._limits = limits or ChatLimits()
        self._opening: Counter[str] = Counter()
        self._extractor = Extractor()
        self._wants_purge = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self.chats = ChatRepository(engine)
        self.messages = MessageRepository(engine, most_bytes=self._limits.most_bytes)
        self.attachments = AttachmentRepository(engine, most_bytes=self._limits.most_bytes)
        self.runner = AnswerRunner(self.messages)

    @property
    def limits(self) -> ChatLimits:
        return self._limits

    async def start(self) -> None:
        """Mark what an earlier daemon left unfinished, then write and tidy up in the background."""
        interrupted = await asyncio.to_thread(self.messages.recover)
        if interrupted:
            _log.info("answers_interrupted", answers=interrupted)
        self._tasks = [
            asyncio.create_task(self.runner.keep_writing(), name="answers"),
            asyncio.create_task(self._tidy_up(), name="chats upkeep"),
        ]

    async def aclose(self) -> None:
        """Interrupt the answers and end the background work."""
        await self.runner.aclose()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # -- asking -----------------------------------------------------------------------------------------------------

    async def ask(self, owner: str, chat_id: int, asked: Asked) -> tuple[MessageRecord | None, MessageRecord]:
        """Store a question and begin its answer; with ``content`` None another answer to the question ``parent_id``.

        Nothing is stored of what is refused at once. Raises ChatNotFound, MessageNotFound, BadParent, AnswerRunning,
        TooManyAnswers, ChatFull, ChatSpaceUsed, errors of attachments, and what ``ChatService.open`` raises.
        """
        with self._one_more(owner):
            request = await self._request(owner, chat_id, asked)
            stream: ChatStream | None = None
            if await self._chat.must_load(asked.model):
                self._chat.check(request)
            else:
                stream = await self._chat.open(request)
            try:
                question, answer = await asyncio.to_thread(self._store, owner, chat_id, asked)
            except BaseException:
                if stream is not None:
                    await stream.aclose()
                raise
            live = LiveAnswer(message_id=answer.id, chat_id=chat_id, owner=owner, request_id=request.request_id)
            self.runner.begin(
                live, stream, lambda: self._chat.open(request), lambda: self._chat.load_progress(asked.model)
            )
        return question, answer

    async def count(self, owner: str, chat_id: int | None, asked: Asked) -> PromptCount:
        """How many tokens the question would have with all that stands before it; ``chat_id`` None: in a new chat.
        Raises as ``ask``."""
        return await self._chat.count(await self._request(owner, chat_id, asked))

    async def stop(self, owner: str, chat_id: int, answer_id: int) -> MessageRecord:
        """End an answer; it as it is then. Raises ChatNotFound, MessageNotFound."""
        await asyncio.to_thread(self.messages.get, owner, chat_id, answer_id)
        await self.runner.stop(answer_id)
        return await self.message(owner, chat_id, answer_id)

    async def answer_now(self, owner: str, chat_id: int, answer_id: int) -> None:
        """End an answer's thought. Idempotent. Raises ChatNotFound, MessageNotFound, AnswerOver, EngineCannot."""
        message = await asyncio.to_thread(self.messages.get, owner, chat_id, answer_id)
        self._chat.check_answer_now(message.model or "")
        if not await self.runner.answer_now(answer_id):
            raise AnswerOver

    # -- reading ----------------------------------------------------------------------------------------------------

    async def tree(self, owner: str, chat_id: int) -> tuple[ChatRecord, tuple[MessageRecord, ...]]:
        """A chat with all its messages as they are now. Raises ChatNotFound."""
        chat, messages = await asyncio.to_thread(self.messages.tree, owner, chat_id)
        return chat, tuple(self._current(message) for message in messages)

    async def message(self, owner: str, chat_id: int, message_id: int) -> MessageRecord:
        """A message as it is now. Raises ChatNotFound, MessageNotFound."""
        return self._current(await asyncio.to_thread(self.messages.get, owner, chat_id, message_id))

    async def answer_events(
        self, owner: str, chat_id: int, answer_id: int, place: Place | None
    ) -> AsyncGenerator[tuple[Place, LiveEvent], None]:
        """What happens to an answer from ``place`` on; of one that is over, what there is. Raises ChatNotFound,
        MessageNotFound, before the first event."""
        message = await asyncio.to_thread(self.messages.get, owner, chat_id, answer_id)
        if message.role != "assistant":
            raise BadParent("Only answers have events.")
        live = self.runner.find(answer_id)
        if live is None:
            # It may have ended since it was read.
            message = await asyncio.to_thread(self.messages.get, owner, chat_id, answer_id)
            live = LiveAnswer(message_id=answer_id, chat_id=chat_id, owner=owner, request_id="")
            _replay(live, self._current(message))
        return live.events(place)

    # -- deleting ---------------------------------------------------------------------------------------------------

    async def delete(self, owner: str, chat_id: int) -> None:
        """Delete a chat; an answer that is being written is stopped. Raises ChatNotFound."""
        await asyncio.to_thread(self.chats.get, owner, chat_id)
        await self._delete(owner, [chat_id])

    async def delete_all(self, owner: str) -> int:
        """Delete all chats and attachments of the owner; how many chats there were."""
        gone = await self._delete(owner, await asyncio.to_thread(self.chats.ids, owner))
        await asyncio.to_thread(self.attachments.delete_unused, owner)
        return gone

    async def _delete(self, owner: str, chat_ids: Sequence[int]) -> int:
        for message_id in self.runner.in_chats(chat_ids):
            await self.runner.stop(message_id)
        gone = await asyncio.to_thread(self.chats.delete, owner, chat_ids)
        self._wants_purge.set()
        return gone

    # -- attachments ------------------------------------------------------------------------------------------------

    async def attach(self, owner: str, name: str, data: bytes) -> AttachmentRecord:
        """Read a file and keep its text. Raises AttachmentTooLarge, AttachmentUnreadable, TooManyAttachments,
        ChatSpaceUsed."""
        shown = clean_name(name)
        await asyncio.to_thread(self.attachments.check_room, owner)
        extracted = await self._extractor.extract(shown, data)
        return await asyncio.to_thread(self.attachments.add, owner, shown, len(data), extracted)

    async def count_attachment(self, owner: str, attachment_id: int, model: str) -> int | None:
        """The tokens of a file's text for a model; None when that is not loaded, or could not take so much anyway."""
        ((_, text),) = await asyncio.to_thread(self.attachments.texts, owner, [attachment_id])
        return await self._chat.count_text(model, text)

    # -- inside -----------------------------------------------------------------------------------------------------

    @contextmanager
    def _one_more(self, owner: str) -> Iterator[None]:
        """Holds a place among the owner's answers until one is begun. Raises TooManyAnswers."""
        running = self.runner.running(owner) + self._opening[owner]
        if running >= self._limits.answers:
            raise TooManyAnswers(running=running)
        self._opening[owner] += 1
        try:
            yield
        finally:
            self._opening[owner] -= 1
            if not self._opening[owner]:
                del self._opening[owner]

    async def _request(self, owner: str, chat_id: int | None, asked: Asked) -> ChatRequest:
        messages: tuple[MessageRecord, ...] = ()
        texts: dict[int, str] = {}
        if chat_id is not None:
            branch = await asyncio.to_thread(self.messages.branch, owner, chat_id, asked.parent_id)
            messages, texts = branch.messages, dict(branch.texts)
        if messages and self._current(messages[-1]).state is MessageState.STREAMING:
            raise AnswerRunning
        if asked.content is not None:
            files = await asyncio.to_thread(self.attachments.texts, owner, asked.attachment_ids)
            texts |= {file.id: text for file, text in files}
            messages = (*messages, _question(asked.content, tuple(file for file, _ in files)))
        elif not messages or messages[-1].role != "user":
            raise BadParent("An answer stands below a question.")
        return ChatRequest(
            request_id=f"page_{secrets.token_hex(12)}",
            model=asked.model,
            messages=await asyncio.to_thread(conversation, messages, texts),
            owner=owner,
            thinking=ThinkingOptions(enabled=asked.thinking, effort=asked.effort),
        )

    def _store(self, owner: str, chat_id: int, asked: Asked) -> tuple[MessageRecord | None, MessageRecord]:
        if asked.content is None:
            assert asked.parent_id is not None
            new = NewAnswer(parent_id=asked.parent_id, model=asked.model, effort=asked.effort, thinking=asked.thinking)
            return None, self.messages.ask_again(owner, chat_id, new)
        question = NewQuestion(parent_id=asked.parent_id, content=asked.content, attachment_ids=asked.attachment_ids)
        return self.messages.ask(
            owner, chat_id, question, model=asked.model, effort=asked.effort, thinking=asked.thinking
        )

    def _current(self, message: MessageRecord) -> MessageRecord:
        """A message with what the database does not have of it yet. One that nobody writes is interrupted."""
        if message.state is not MessageState.STREAMING:
            return message
        live = self.runner.find(message.id)
        if live is None:
            return replace(message, state=MessageState.INTERRUPTED)
        return current(message, live.now())

    async def _tidy_up(self) -> None:
        """What is too old goes, at once and every hour; what was deleted is purged soon after."""
        while True:
            try:
                await asyncio.to_thread(self._expire)
                self._wants_purge.clear()
                if not await asyncio.to_thread(purge, self._engine):
                    self._wants_purge.set()
            except DatabaseError as error:
                _log.warning("chats_upkeep_failed", reason=str(error.orig))
            with suppress(TimeoutError):
                await asyncio.wait_for(self._wants_purge.wait(), _UPKEEP_EVERY_S)
            await asyncio.sleep(_PURGE_AFTER_S)

    def _expire(self) -> None:
        now = utc_now()
        chats = 0
        if self._limits.keep_days is not None:
            chats = self.chats.expire(now - timedelta(days=self._limits.keep_days))
        files = self.attachments.expire(now - timedelta(seconds=UNUSED_ATTACHMENTS_S))
        if chats or files:
            _log.info("chats_expired", chats=chats, attachments=files)


def current(message: MessageRecord, state: AnswerState) -> MessageRecord:
    """The message with an answer's state in it."""
    return replace(
        message,
        state=state.state,
        content=state.content,
        reasoning=state.reasoning,
        finish_reason=state.finish_reason,
        thinking_end=state.thinking_end,
        usage=state.usage,
        first_token_ms=state.first_token_ms,
        thinking_ms=state.thinking_ms,
        total_ms=state.total_ms,
        error_code=state.error_code,
        error_message=state.error_message,
    )


def _replay(live: LiveAnswer, message: MessageRecord) -> None:
    """Put an answer that is over into a live one, so that whoever comes late is told in the same words."""
    if message.reasoning:
        live.add_reasoning(message.reasoning)
    if message.content:
        live.add_content(message.content)
    live.end(
        AnswerState(message_id=message.id, state=message.state, content=message.content, reasoning=message.reasoning)
    )


def _question(content: str, files: tuple[AttachmentRecord, ...]) -> MessageRecord:
    """A question that is not stored yet, for the prompt."""
    return MessageRecord(
        id=_NEW_ID,
        chat_id=_NEW_ID,
        parent_id=None,
        role="user",
        state=MessageState.DONE,
        content=content,
        reasoning="",
        created_at=utc_now(),
        attachments=files,
    )
