"""An answer while it is written: what there is of it, and who looks on.

Each listener has a place in the answer, nothing else: what they have not seen is taken from the one text when they are
ready for it. So any number of them, however slow, costs no memory, and one that was away goes on where it was.
"""

from __future__ import annotations

import asyncio
import re
from bisect import bisect_right
from collections.abc import AsyncGenerator
from dataclasses import dataclass, replace

from appliance.chats.types import AnswerState, MessageState

_PARTS = 512
_PLACE = re.compile(r"(\d{1,9})\.(\d{1,9})\Z")


class GrowingText:
    """A text that only grows. Adding is quick, and so is reading its end."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._starts: list[int] = []
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def add(self, text: str) -> None:
        """More of it; never empty."""
        if len(self._parts) >= _PARTS:
            self._parts, self._starts = ["".join(self._parts)], [0]
        self._parts.append(text)
        self._starts.append(self._length)
        self._length += len(text)

    def since(self, start: int) -> str:
        """What comes after its first ``start`` characters."""
        if start >= self._length:
            return ""
        index = bisect_right(self._starts, start) - 1
        first = self._parts[index][start - self._starts[index] :]
        return first + "".join(self._parts[index + 1 :])


@dataclass(frozen=True, slots=True)
class Place:
    """How much of an answer somebody has: characters of its thought and of its text."""

    reasoning: int = 0
    content: int = 0

    def __str__(self) -> str:
        return f"{self.reasoning}.{self.content}"


def place_of(text: str) -> Place | None:
    """The place that an event's id names; None for what is none."""
    match = _PLACE.match(text)
    return None if match is None else Place(int(match[1]), int(match[2]))


@dataclass(frozen=True, slots=True)
class Loading:
    """The model is being loaded; ``fraction`` is how far that is, None while unknown."""

    fraction: float | None


@dataclass(frozen=True, slots=True)
class Waiting:
    """There is no seat yet; as ``serving.types.Queued``."""

    position: int
    wait_s: float | None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All there is, for whoever has nothing yet."""

    reasoning: str
    content: str
    state: MessageState


@dataclass(frozen=True, slots=True)
class MoreReasoning:
    """More of the thought."""

    text: str


@dataclass(frozen=True, slots=True)
class MoreContent:
    """More of the answer."""

    text: str


@dataclass(frozen=True, slots=True)
class Ended:
    """It is over; the last one."""

    state: AnswerState


LiveEvent = Loading | Waiting | Snapshot | MoreReasoning | MoreContent | Ended


class LiveAnswer:
    """The state of one answer; ``appliance.chats.runner`` alone writes it. For one event loop."""

    def __init__(self, *, message_id: int, chat_id: int, owner: str, request_id: str) -> None:
        self.message_id = message_id
        self.chat_id = chat_id
        self.owner = owner
        self.request_id = request_id
        self.reasoning = GrowingText()
        self.content = GrowingText()
        self.before: Loading | Waiting | None = None
        """What it waits for, while nothing of it is there."""
        self._ending: AnswerState | None = None
        self._version = 0
        self._waiters: set[asyncio.Future[None]] = set()

    @property
    def place(self) -> Place:
        return Place(len(self.reasoning), len(self.content))

    @property
    def ending(self) -> AnswerState | None:
        """How it ended; None while it goes on."""
        return self._ending

    def now(self) -> AnswerState:
        """All there is, as it is stored."""
        return self._ending or AnswerState(
            message_id=self.message_id,
            state=MessageState.STREAMING,
            content=self.content.since(0),
            reasoning=self.reasoning.since(0),
        )

    def wait_for(self, what: Loading | Waiting | None) -> None:
        """It waits for something; None: not any more."""
        if what != self.before:
            self.before = what
            self._tell()

    def add_reasoning(self, text: str) -> None:
        self.before = None
        self.reasoning.add(text)
        self._tell()

    def add_content(self, text: str) -> None:
        self.before = None
        self.content.add(text)
        self._tell()

    def end(self, state: AnswerState) -> None:
        """The one ending."""
        self.before = None
        self._ending = state
        self._tell()

    async def events(self, place: Place | None = None) -> AsyncGenerator[tuple[Place, LiveEvent], None]:
        """What happens from ``place`` on, with the place after each event; without a place first all there is. A slow
        reader gets more at once. Ends with Ended."""
        if place is None or place.reasoning > len(self.reasoning) or place.content > len(self.content):
            place = self.place
            state = self.now()
            yield place, Snapshot(state.reasoning, state.content, state.state)
        told: Loading | Waiting | None = None
        while True:
            version = self._version
            if self.before is not None and self.before != told:
                told = self.before
                yield place, told
            # The thought comes first, also when both grew since.
            if text := self.reasoning.since(place.reasoning):
                place = replace(place, reasoning=place.reasoning + len(text))
                yield place, MoreReasoning(text)
            if text := self.content.since(place.content):
                place = replace(place, content=place.content + len(text))
                yield place, MoreContent(text)
            if self._version != version:
                continue
            if self._ending is not None:
                yield place, Ended(self._ending)
                return
            await self._changed()

    def _tell(self) -> None:
        self._version += 1
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def _changed(self) -> None:
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.add(waiter)
        try:
            await waiter
        finally:
            self._waiters.discard(waiter)
