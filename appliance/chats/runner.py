"""Answers are tasks of the daemon: they go on whether or not a page looks on, and are written to the database as they
grow.

An answer's task reads its ``ChatStream`` to the end. Once a second those that have grown enough are written, all in one
transaction, off the event loop: what a power cut takes is the last seconds.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress

import structlog
from sqlalchemy.exc import DatabaseError

from appliance.chats.live import LiveAnswer, Loading, Waiting
from appliance.chats.messages import MessageRepository
from appliance.chats.types import AnswerState, MessageState
from appliance.engine.request import FinishReason
from appliance.errors import AppError, describe
from appliance.serving.stream import ChatStream
from appliance.serving.types import ChatFinished, ContentDelta, Queued, ReasoningDelta

WRITE_EVERY_S = 1.0
_GROWN_BY = 1 / 16
_WRITE_AT_LEAST_EVERY_S = 5.0
_LOADING_TOLD_EVERY_S = 0.5

_log = structlog.get_logger(__name__)

Opening = Callable[[], Awaitable[ChatStream]]


class _Job:
    """One answer: its stream, what was asked of it, how long things took."""

    def __init__(self, live: LiveAnswer, stream: ChatStream | None) -> None:
        self.live = live
        self.stream = stream
        self.is_stopped = False
        self.wants_answer = False
        self.stop_asked = asyncio.Event()
        self.task: asyncio.Task[None] | None = None
        self.saved = False
        self.written_length = -1
        self.written_at_s = 0.0
        self._began_s = time.monotonic()
        self._first_s: float | None = None
        self._thought_from_s: float | None = None
        self._thought_to_s: float | None = None

    def take(self, event: ReasoningDelta | ContentDelta) -> None:
        now_s = time.monotonic()
        self._first_s = self._first_s or now_s
        if isinstance(event, ReasoningDelta):
            self._thought_from_s = self._thought_from_s or now_s
            self._thought_to_s = now_s
            self.live.add_reasoning(event.text)
        else:
            if self._thought_from_s is not None and not len(self.live.content):
                self._thought_to_s = now_s
            self.live.add_content(event.text)

    def ending(self, finished: ChatFinished | None, error: Exception | None) -> AnswerState:
        """How it ended: ``error`` when it did not begin or its task failed, both None when it was stopped before."""
        error = error or (None if finished is None else finished.error)
        aborted = finished is None or finished.reason is FinishReason.ABORTED
        state = MessageState.DONE
        if error is not None:
            state = MessageState.ERROR
        elif aborted:
            state = MessageState.STOPPED if self.is_stopped else MessageState.INTERRUPTED
        told = None if error is None else describe(error)
        end = None if finished is None else finished.thinking_end
        return AnswerState(
            message_id=self.live.message_id,
            state=state,
            content=self.live.content.since(0),
            reasoning=self.live.reasoning.since(0),
            finish_reason=None if finished is None or aborted or error is not None else finished.reason.value,
            thinking_end=None if end is None else end.value,
            usage=None if finished is None else finished.usage,
            first_token_ms=_ms(self._began_s, self._first_s),
            thinking_ms=_ms(self._thought_from_s, self._thought_to_s),
            total_ms=_ms(self._began_s, time.monotonic()),
            error_code=None if told is None else told.code,
            error_message=None if told is None else told.message,
        )

    def is_due(self, now_s: float) -> bool:
        """Whether it should be written. The longer it is, the more it has to have grown, so that what is written in all
        stays in proportion to what there is."""
        if self.live.ending is not None:
            return not self.saved
        length = len(self.live.content) + len(self.live.reasoning)
        if length == self.written_length or not length:
            return False
        grown = length - self.written_length >= length * _GROWN_BY
        return grown or now_s - self.written_at_s >= _WRITE_AT_LEAST_EVERY_S


class AnswerRunner:
    """The answers that are being written."""

    def __init__(self, messages: MessageRepository) -> None:
        self._messages = messages
        self._jobs: dict[int, _Job] = {}
        self._is_closing = False

    def find(self, message_id: int) -> LiveAnswer | None:
        """An answer that is being written, or is over and not in the database yet."""
        job = self._jobs.get(message_id)
        return None if job is None else job.live

    def running(self, owner: str) -> int:
        """How many answers somebody waits for."""
        return sum(job.live.owner == owner and job.live.ending is None for job in self._jobs.values())

    def in_chats(self, chat_ids: Iterable[int]) -> list[int]:
        """The answers that are being written in these chats."""
        wanted = set(chat_ids)
        return [message_id for message_id, job in self._jobs.items() if job.live.chat_id in wanted]

    def begin(
        self, live: LiveAnswer, stream: ChatStream | None, opening: Opening, progress: Callable[[], float]
    ) -> None:
        """Write an answer: from ``stream``, or from what ``opening`` gives when the model is loaded, which ``progress``
        (0..1) tells of."""
        job = self._jobs[live.message_id] = _Job(live, stream)
        if stream is None:
            live.wait_for(Loading(None))
        job.task = asyncio.create_task(self._run(job, opening, progress), name=f"answer {live.message_id}")

    async def stop(self, message_id: int) -> bool:
        """End an answer; what there is of it stays. Returns when it is in the database. False when it is not being
        written."""
        job = self._jobs.get(message_id)
        if job is None:
            return False
        job.is_stopped = not self._is_closing
        await self._end(job)
        return True

    async def answer_now(self, message_id: int) -> bool:
        """End the thought soon, so that the answer begins. False when it is not being written."""
        job = self._jobs.get(message_id)
        if job is None or job.live.ending is not None:
            return False
        job.wants_answer = True
        if job.stream is not None:
            await job.stream.answer_now()
        return True

    async def keep_writing(self) -> None:
        """Bring the database up to date once a second, until cancelled."""
        while True:
            await asyncio.sleep(WRITE_EVERY_S)
            await self.write()

    async def write(self) -> None:
        """Write all answers that are due."""
        now_s = time.monotonic()
        due = [job for job in self._jobs.values() if job.is_due(now_s)]
        if not due:
            return
        lengths = [len(job.live.content) + len(job.live.reasoning) for job in due]
        if not await self._save([job.live.now() for job in due]):
            return
        for job, length in zip(due, lengths, strict=True):
            job.written_length, job.written_at_s = length, now_s
            # It may have ended meanwhile; then that is written by whoever ended it.
            if job.live.ending is not None and job.task is not None and job.task.done():
                self._forget(job)

    async def aclose(self) -> None:
        """Interrupt all answers; what there is of them is in the database."""
        self._is_closing = True
        await asyncio.gather(*(self._end(job) for job in list(self._jobs.values())))

    async def _end(self, job: _Job) -> None:
        job.stop_asked.set()
        if job.stream is not None:
            await job.stream.aclose()
        assert job.task is not None
        await asyncio.wait({job.task})

    async def _run(self, job: _Job, opening: Opening, progress: Callable[[], float]) -> None:
        finished: ChatFinished | None = None
        error: Exception | None = None
        try:
            if job.stream is None:
                job.stream = await self._opened(job, opening, progress)
            if job.stream is not None:
                finished = await self._read(job, job.stream)
        except Exception as caught:  # noqa: BLE001 - the loop top of an answer, which has exactly one ending
            if describe(caught).code == AppError.code:
                _log.exception("answer_crashed", message_id=job.live.message_id)
            error = caught
        ending = job.ending(finished, error)
        saved = await self._save([ending])
        job.live.end(ending)
        if saved:
            self._forget(job)

    async def _opened(self, job: _Job, opening: Opening, progress: Callable[[], float]) -> ChatStream | None:
        """The stream when the model is loaded; None when the answer was stopped before. Raises what refuses it."""

        async def open_it() -> ChatStream:
            return await opening()

        opens = asyncio.create_task(open_it(), name=f"open answer {job.live.message_id}")
        stopped = asyncio.create_task(job.stop_asked.wait())
        try:
            while not opens.done() and not stopped.done():
                job.live.wait_for(Loading(round(progress(), 2)))
                await asyncio.wait({opens, stopped}, timeout=_LOADING_TOLD_EVERY_S, return_when=asyncio.FIRST_COMPLETED)
            if stopped.done():
                opens.cancel()
                await asyncio.wait({opens})
                if not opens.cancelled() and opens.exception() is None:
                    await opens.result().aclose()
                return None
            return opens.result()
        finally:
            stopped.cancel()
            with suppress(asyncio.CancelledError):
                await stopped

    async def _read(self, job: _Job, stream: ChatStream) -> ChatFinished | None:
        finished: ChatFinished | None = None
        async with stream:
            if job.wants_answer:
                await stream.answer_now()
            async for event in stream:
                match event:
                    case Queued():
                        job.live.wait_for(Waiting(event.position, event.wait_s))
                    case ReasoningDelta() | ContentDelta():
                        job.take(event)
                    case ChatFinished():
                        finished = event
        return finished

    async def _save(self, states: list[AnswerState]) -> bool:
        """False when the database cannot be written now (a full disk, a long writer elsewhere); it is tried again."""
        try:
            await asyncio.to_thread(self._messages.write, states)
        except DatabaseError as error:
            _log.warning("answers_not_written", answers=len(states), reason=str(error.orig))
            return False
        return True

    def _forget(self, job: _Job) -> None:
        job.saved = True
        self._jobs.pop(job.live.message_id, None)


def _ms(from_s: float | None, to_s: float | None) -> int | None:
    return None if from_s is None or to_s is None else round((to_s - from_s) * 1000)
