"""One conversation with a model by the chat endpoint: what was said, and an answer that is coming."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

from tui.client import BoxClient, Problem

PATH = "/v1/chat/completions"
_QUEUED = re.compile(r":\s*queued position=(\d+)(?: wait_s=([\d.]+))?")
_LOADING = re.compile(r":\s*loading model=\S+ percent=(\d+)")


@dataclass
class Turn:
    """A question with its answer. ``thought_s`` is how long the thought took, once it is over; ``finish`` the reason of
    the end. Written by ``ChatSession`` alone."""

    question: str
    model: str
    began_s: float
    thought: str = ""
    answer: str = ""
    thought_s: float | None = None
    thinking_tokens: int | None = None
    answer_tokens: int | None = None
    position: int | None = None
    wait_s: float | None = None
    loading_percent: int | None = None
    finish: str | None = None
    problem: Problem | None = None
    request_id: str | None = None
    ended_s: float | None = None

    @property
    def going_on(self) -> bool:
        """Whether more will come."""
        return self.finish is None and self.problem is None


@dataclass
class ChatSession:
    """Kept in the console alone; it ends with it. ``changed`` is called after each piece."""

    client: BoxClient
    now_s: Callable[[], float]
    changed: Callable[[], None]
    model: str | None = None
    turns: list[Turn] = field(default_factory=list)

    def messages(self) -> list[dict[str, str]]:
        """The conversation for the next request; thoughts stay out, as R1 wants it."""
        said: list[dict[str, str]] = []
        for turn in self.turns:
            said.append({"role": "user", "content": turn.question})
            if turn.answer:
                said.append({"role": "assistant", "content": turn.answer})
        return said

    def clear(self) -> None:
        """Begin anew."""
        self.turns.clear()
        self.changed()

    async def ask(self, question: str, model: str) -> None:
        """Ask, and take the answer in. A cancelled task ends it at the box too."""
        turn = Turn(question, model, self.now_s())
        self.turns.append(turn)
        body: dict[str, Any] = {
            "model": model,
            "messages": self.messages(),
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        self.changed()
        events = self.client.events(PATH, body)
        try:
            await self._take(turn, events)
        except BaseException:
            turn.finish = turn.finish or "stopped"
            raise
        finally:
            await events.aclose()  # type: ignore[attr-defined]
            turn.ended_s = self.now_s()
            self.changed()

    async def _take(self, turn: Turn, events: AsyncIterator[str | Problem]) -> None:
        async for event in events:
            if isinstance(event, Problem):
                turn.problem = event
            elif event.startswith(":"):
                self._comment(turn, event)
            elif event != "[DONE]":
                self._chunk(turn, event)
            self.changed()
        if turn.going_on:
            turn.problem = Problem("unreachable", detail="the stream ended early")

    def _comment(self, turn: Turn, text: str) -> None:
        if found := _QUEUED.match(text):
            turn.position = int(found[1])
            turn.wait_s = None if found[2] is None else float(found[2])
        elif found := _LOADING.match(text):
            turn.loading_percent = int(found[1])

    def _chunk(self, turn: Turn, text: str) -> None:
        try:
            told = json.loads(text)
            error = told.get("error")
            choices = told.get("choices") or []
            usage = told.get("usage") or {}
        except (ValueError, AttributeError):
            turn.problem = Problem("garbled", detail="chat")
            return
        if error:
            turn.problem = Problem(str(error.get("code") or "error"), error.get("message"), error.get("hint"))
            return
        turn.position = turn.loading_percent = None
        turn.request_id = told.get("id") or turn.request_id
        for choice in choices:
            delta = choice.get("delta") or {}
            turn.thought += delta.get("reasoning_content") or ""
            piece = delta.get("content") or ""
            if piece and turn.thought and turn.thought_s is None:
                turn.thought_s = self.now_s() - turn.began_s
            turn.answer += piece
            turn.finish = choice.get("finish_reason") or turn.finish
        if usage:
            details = usage.get("completion_tokens_details") or {}
            turn.thinking_tokens = details.get("reasoning_tokens")
            turn.answer_tokens = usage.get("completion_tokens")
