"""A chat service on a fake engine, and how tests read its streams."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from appliance.engine.base import EngineInfo
from appliance.engine.request import (
    FinishReason,
    TokenDelta,
)
from appliance.serving.admission import Admission
from appliance.serving.admission_book import AdmissionBook
from appliance.serving.chat import ChatService
from appliance.serving.stream import ChatStream
from appliance.serving.types import (
    ChatEvent,
    ChatFinished,
    ChatMessage,
    ChatRequest,
    ContentDelta,
    ReasoningDelta,
    SamplingPolicy,
)
from tests.appliance.serving.samples import BOS, NO_TEMPLATE, R1, R1_0528, R1_OLD, SMOL, user
from tests.fakes.engine import FAKE_INFO, FakeEngine, FakeEngineSource, Script

R1_REPLY = ("Let", " me", " see", "\n</", "think", ">", "\n\n", "Paris", ".")


class Box:
    """A chat service with everything it stands on."""

    def __init__(
        self,
        reply: Sequence[str | TokenDelta] | Script = R1_REPLY,
        *,
        hold_after: int | None = None,
        info: EngineInfo = FAKE_INFO,
        max_waiting: int = 8,
        model_id: str | None = None,
        sampling_policy: SamplingPolicy = SamplingPolicy.CLAMP,
    ) -> None:
        self.engine = FakeEngine(reply, info=info, hold_after=hold_after, cached_tokens=3)
        self.source = FakeEngineSource(self.engine, info=info, model_id=model_id)
        self.admission = Admission(seats=1, max_waiting=max_waiting)
        self.models = {model.id: model for model in (R1, R1_OLD, R1_0528, SMOL, NO_TEMPLATE)}
        self.chat = ChatService(
            self.models, self.source, AdmissionBook(lambda: self.admission), sampling_policy=sampling_policy
        )
        self._opened = 0

    def request(self, *messages: ChatMessage, model: str = R1.id, **fields: object) -> ChatRequest:
        self._opened += 1
        values = {"request_id": f"r{self._opened}", "model": model, "messages": messages or (user("Hi"),)} | fields
        return ChatRequest(**values)  # type: ignore[arg-type]

    async def open(self, *messages: ChatMessage, model: str = R1.id, **fields: object) -> ChatStream:
        return await self.chat.open(self.request(*messages, model=model, **fields))

    async def answer(self, *messages: ChatMessage, model: str = R1.id, **fields: object) -> list[ChatEvent]:
        async with await self.open(*messages, model=model, **fields) as stream:
            return [event async for event in stream]

    @property
    def prompts_counted(self) -> int:
        """How often a prompt was given to the tokenizer; the tags of thoughts are asked for once beside them."""
        return sum(segments[0].text.startswith(BOS) for segments, _ in self.engine.tokenized)

    @property
    def running(self) -> int:
        return self.admission.stats().running


def thought(events: list[ChatEvent]) -> str:
    return "".join(event.text for event in events if isinstance(event, ReasoningDelta))


def content(events: list[ChatEvent]) -> str:
    return "".join(event.text for event in events if isinstance(event, ContentDelta))


def ending(events: list[ChatEvent]) -> ChatFinished:
    """The one ChatFinished, which is the last event."""
    assert [isinstance(event, ChatFinished) for event in events] == [False] * (len(events) - 1) + [True]
    last = events[-1]
    assert isinstance(last, ChatFinished)
    assert (last.error is not None) == (last.reason is FinishReason.ERROR)
    return last


async def turns(count: int = 20) -> None:
    """Let every other task run."""
    for _ in range(count):
        await asyncio.sleep(0)


async def read(stream: ChatStream) -> list[ChatEvent]:
    async with stream:
        return [event async for event in stream]
