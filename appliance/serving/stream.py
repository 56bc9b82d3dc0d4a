"""One chat answer as a stream of events, from the queue to its one ending."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import structlog

from appliance.engine.base import Engine
from appliance.engine.request import (
    Finished,
    FinishReason,
    GenerationEvent,
    GenerationRequest,
    Priority,
    SamplingParams,
)
from appliance.errors import AppError, EngineLost, GenerationFailed
from appliance.serving.admission import Ticket
from appliance.serving.answer import AnswerReader
from appliance.serving.charge import Bill, Charge
from appliance.serving.errors import EndedByOperator, NoSeatInTime
from appliance.serving.read_ahead import read_ahead
from appliance.serving.times import ModelTimes
from appliance.serving.tools.plan import NO_TOOLS, ToolPlan
from appliance.serving.types import ChatEvent, ChatFinished, Queued, RequestState, Trimmed, Usage

_log = structlog.get_logger(__name__)

WAIT_TOLD_EVERY_S = 5.0
"""How often whoever waits hears how long it will still take, also while nobody before them moves."""
MOVE_TOLD_EVERY_S = 1.0
"""How often whoever waits hears of another place in the queue. A thousand of them would otherwise be told a thousand
times for each seat that becomes free."""
ABORT_GRACE_S = 5.0
"""How long the engine may take to confirm the end of a sequence that met a stop string."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatPlan:
    """Everything ``ChatService.open`` has decided about an answer. ``opens_reasoning`` as in ``RenderedPrompt``,
    ``changes`` as in ``serving.profile``, ``deadline_s`` as in ``ChatRequest``."""

    generation: GenerationRequest
    splits_reasoning: bool
    opens_reasoning: bool
    stop: tuple[str, ...]
    tools: ToolPlan = NO_TOOLS
    changes: tuple[str, ...] = ()
    trimmed: Trimmed | None = None
    model_id: str = ""
    deadline_s: float | None = None


class ChatStream:
    """Async iterator of ``ChatEvent`` and async context manager; read by one task.

    Events: any number of Queued, then parts of the answer (``AnswerPart``), then exactly one ChatFinished, also when
    the engine dies. ``aclose`` (or a cancelled read, or leaving the ``async with``) aborts the engine's request and
    gives the seat back once. It may be called from another task: a reader that waits then gets ChatFinished(ABORTED).
    The seat is free before ChatFinished is seen.

    ``find_engine`` is asked when the seat is there: after a wait it may be another one than at ``open``. It raises
    ModelNotReady. ``background`` keeps the task that cleans up after a reader that was cancelled: cancellation must not
    keep the engine from hearing of it. ``ended`` gets the ending before the reader does; ``charge`` hears how it went,
    once, before the seat is free; ``times`` are the model's.
    """

    def __init__(
        self,
        plan: ChatPlan,
        ticket: Ticket,
        find_engine: Callable[[], Engine],
        background: set[asyncio.Task[None]],
        ended: Callable[[ChatFinished], None] = lambda _finished: None,
        charge: Charge | None = None,
        times: ModelTimes | None = None,
    ) -> None:
        self._plan = plan
        self._ticket = ticket
        self._find_engine = find_engine
        self._background = background
        self._ended = ended
        self._wants_answer = False
        self._bill = Bill(charge, plan.changes, times)
        self._ended_by_operator = False
        self.asked_by = None if charge is None else charge.name
        self._answer = AnswerReader(
            splits_reasoning=plan.splits_reasoning,
            opens_reasoning=plan.opens_reasoning,
            stop=plan.stop,
            tools=plan.tools,
        )
        self._engine: Engine | None = None
        self._tokens: AsyncIterator[GenerationEvent] | None = None
        self._generated_tokens = 0
        self.opened_s = time.monotonic()
        self._reading = False
        self._teardown: asyncio.Task[None] | None = None
        self._events = self._run()

    @property
    def request_id(self) -> str:
        return self._plan.generation.request_id

    @property
    def prompt_tokens(self) -> int:
        """Tokens of the prompt as the model sees it."""
        return len(self._plan.generation.prompt_tokens)

    @property
    def max_tokens(self) -> int:
        """The most tokens the answer may have, thinking included."""
        return self._plan.generation.max_tokens

    @property
    def sampling(self) -> SamplingParams:
        """How tokens are drawn, the profile's part in it included."""
        return self._plan.generation.sampling

    @property
    def changes(self) -> tuple[str, ...]:
        """What was done to the request beside what its client asked for."""
        return self._plan.changes

    @property
    def trimmed(self) -> Trimmed | None:
        """What was left out of the conversation."""
        return self._plan.trimmed

    @property
    def place(self) -> Queued | None:
        """Where it stands in the queue; None once it has its seat."""
        position = self._ticket.position
        return Queued(position, self._ticket.wait_s) if position else None

    @property
    def model_id(self) -> str:
        """Whose answer it is."""
        return self._plan.model_id

    @property
    def owner(self) -> str | None:
        """Whose request it is."""
        return self._plan.generation.owner

    @property
    def priority(self) -> Priority:
        """Whether somebody waits for the answer."""
        return self._plan.generation.priority

    @property
    def position(self) -> int:
        """The place in the queue; 0 with a seat."""
        return self._ticket.position

    @property
    def wait_s(self) -> float | None:
        """How long until there is a seat, as things are; None when that is not known, or with one."""
        return self._ticket.wait_s

    @property
    def first_token_s(self) -> float | None:
        """When the first token came, from the opening on; None while nothing did."""
        return self._bill.first_token_s

    @property
    def generated_tokens(self) -> int:
        """Tokens that have come so far, thinking included."""
        return self._generated_tokens

    @property
    def thinking_tokens(self) -> int:
        """Of these, those of the thought."""
        return self._answer.reasoning_tokens

    @property
    def state(self) -> RequestState | None:
        """What the request is at; None when it has ended."""
        if self._ticket.released or self._teardown is not None:
            return None
        if self._engine is None:
            return RequestState.QUEUED
        return RequestState.THINKING if self._answer.in_reasoning else RequestState.ANSWERING

    async def answer_now(self) -> None:
        """End the thought soon; while the request waits: soon after it has begun. Idempotent."""
        self._wants_answer = True
        if self._engine is not None:
            await self._engine.answer_now(self.request_id)

    async def cancel(self) -> None:
        """End the answer for its reader, who gets ChatFinished with EndedByOperator. Idempotent."""
        self._ended_by_operator = True
        if self._engine is not None:
            await self._engine.abort(self.request_id)
        else:
            self._ticket.release()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ChatEvent:
        self._reading = True
        try:
            event = await anext(self._events)
            self._bill.said(event)
            return event
        except StopAsyncIteration:
            raise
        except BaseException:  # above all the reader's own cancellation: the seat must not stay taken
            self._start_teardown()
            raise
        finally:
            self._reading = False

    async def aclose(self) -> None:
        """End the answer and wait until the engine has let go of it. Idempotent."""
        await asyncio.shield(self._start_teardown())

    def _start_teardown(self) -> asyncio.Task[None]:
        if self._teardown is None:
            self._teardown = asyncio.get_running_loop().create_task(self._tear_down())
            self._background.add(self._teardown)
            self._teardown.add_done_callback(self._background.discard)
        return self._teardown

    async def _tear_down(self) -> None:
        try:
            if self._engine is not None:
                await self._engine.abort(self.request_id)
            if not self._reading:  # a reader in another task sees the engine's own end instead
                await self._events.aclose()
                await self._close_tokens()
        except Exception:  # noqa: BLE001 - top of the clean-up task
            _log.exception("engine_abort_failed", request_id=self.request_id)
        finally:
            self._bill.pay(self._usage_so_far(), None)
            self._let_go()

    def _usage_so_far(self) -> Usage:
        """What a request costs that is ended before it has said how it ended: without a seat, nothing."""
        if self._tokens is None:
            return Usage(trimmed=self._plan.trimmed)
        return Usage(
            prompt_tokens=self.prompt_tokens,
            completion_tokens=self._generated_tokens,
            reasoning_tokens=self._answer.reasoning_tokens,
            trimmed=self._plan.trimmed,
        )

    async def _close_tokens(self) -> None:
        if isinstance(self._tokens, AsyncGenerator):
            await self._tokens.aclose()

    def _let_go(self) -> None:
        self._engine = None
        self._ticket.release(self._generated_tokens)

    async def _run(self) -> AsyncGenerator[ChatEvent, None]:
        """1. wait for the seat, 2. generate, 3. end: give the seat back, then say so."""
        position = self._ticket.position
        finished = Finished(reason=FinishReason.ABORTED)
        while position > 0:
            yield Queued(position, self._ticket.wait_s)
            position = await self._moved_from(position)
            if position > 0 and self._patience_s() <= 0:
                assert self._plan.deadline_s is not None
                error = NoSeatInTime(deadline_s=self._plan.deadline_s, wait_s=self._ticket.wait_s)
                finished = _failed(error)
                self._ticket.release()
                break
        if not self._ticket.released:
            try:
                self._bill.seated()
                engine = self._engine = self._find_engine()
                events = engine.generate(self._plan.generation)
                tokens = self._tokens = read_ahead(events, lambda end: self._ticket.release(end.completion_tokens))
                async for event in tokens:
                    if isinstance(event, Finished):
                        finished = event
                        break
                    if self._wants_answer and not self._generated_tokens:
                        # Asked for while nothing had come: the engine may not have known the request then.
                        await engine.answer_now(self.request_id)
                    self._generated_tokens += event.count
                    self._bill.came(event.count)
                    for part in self._answer.feed(event):
                        yield part
                    if self._answer.over:
                        finished = await self._end_early(engine, tokens)
                        break
                else:
                    finished = _failed(EngineLost())  # an engine that just stops talking
                await self._close_tokens()
            except AppError as error:
                finished = _failed(error)
            except Exception as error:  # noqa: BLE001 - top of a stream, which has exactly one ending
                _log.exception("engine_stream_failed", request_id=self.request_id)
                finished = _failed(GenerationFailed(cause=type(error).__name__))
                self._start_teardown()  # the sequence may still be running
        reasoning_open = self._answer.in_reasoning
        for part in self._answer.finish():
            yield part
        ending = self._ending(self._or_ended_by_operator(finished), reasoning_open)
        self._bill.pay(ending.usage, ending)
        self._let_go()
        self._ended(ending)
        yield ending

    def _or_ended_by_operator(self, finished: Finished) -> Finished:
        is_cut = self._ended_by_operator and finished.reason is FinishReason.ABORTED
        return _failed(EndedByOperator()) if is_cut else finished

    def _patience_s(self) -> float:
        """How much longer the request would wait for its seat."""
        if self._plan.deadline_s is None:
            return math.inf
        return self.opened_s + self._plan.deadline_s - time.monotonic()

    async def _moved_from(self, position: int) -> int:
        """The place in the queue when there is something to tell: a seat, another place, the wait once more, or that it
        is time to give it up."""
        until_s = time.monotonic() + min(WAIT_TOLD_EVERY_S, self._patience_s())
        while (left_s := until_s - time.monotonic()) > 0:
            try:
                async with asyncio.timeout(min(left_s, MOVE_TOLD_EVERY_S)):
                    await self._ticket.called()
            except TimeoutError:
                if self._ticket.position != position:
                    break
            else:
                break
        return self._ticket.position

    async def _end_early(self, engine: Engine, tokens: AsyncIterator[GenerationEvent]) -> Finished:
        """Abort when nothing more is wanted and read to the engine's end, so that the seat is free when we say so."""
        confirmed = Finished(reason=FinishReason.STOP)
        await engine.abort(self.request_id)
        try:
            async with asyncio.timeout(ABORT_GRACE_S):
                async for event in tokens:
                    if isinstance(event, Finished):
                        confirmed = event
                        break
        except TimeoutError:
            _log.warning("engine_abort_not_confirmed", request_id=self.request_id, timeout_s=ABORT_GRACE_S)
        return Finished(
            reason=FinishReason.STOP, cached_tokens=confirmed.cached_tokens, thinking_end=confirmed.thinking_end
        )

    def _ending(self, finished: Finished, reasoning_open: bool) -> ChatFinished:
        ended_early = self._answer.over
        generated = self._generated_tokens
        failed = finished.reason is FinishReason.ERROR
        looped = finished.answer_looped and not ended_early
        return ChatFinished(
            reason=FinishReason.STOP if ended_early and not failed else finished.reason,
            usage=Usage(
                prompt_tokens=self.prompt_tokens,
                # The engine also counts tokens without text, such as the end token; after a stop string what it had
                # already made beyond the stop is not the client's.
                completion_tokens=generated if ended_early else max(generated, finished.completion_tokens),
                reasoning_tokens=self._answer.reasoning_tokens,
                cached_tokens=finished.cached_tokens,
                trimmed=self._plan.trimmed,
                thinking_end=finished.thinking_end,
                answer_looped=looped,
            ),
            error=(finished.error or EngineLost()) if failed else None,
            stop_string=self._answer.stop_string,
            reasoning_open=reasoning_open,
            tool_calls=self._answer.tool_calls,
            thinking_end=finished.thinking_end,
            answer_looped=looped,
            timing=self._bill.timing(),
        )


def _failed(error: Exception) -> Finished:
    return Finished(reason=FinishReason.ERROR, error=error)
