"""A load generator for OpenAI-compatible servers: raw sockets, so that measuring costs next to nothing.

Times are ``time.perf_counter`` seconds of this process. Works with any server that streams server-sent events with or
without chunked transfer encoding: only lines that begin with ``data:`` count.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

REQUEST_TIMEOUT_S = 300


@dataclass(frozen=True, slots=True)
class Target:
    """Where requests go. ``extra`` is put into every request's body."""

    name: str
    host: str
    port: int
    model: str
    key: str = "none"
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Stream:
    """One streamed answer: when its pieces came. ``cut`` says that it did not end as it should. ``told_tokens`` is what
    the server's usage says, None when it says nothing: a piece can be more than one token."""

    started_s: float
    token_times_s: list[float] = field(default_factory=list)
    cut: bool = True
    told_tokens: int | None = None
    texts: list[str] = field(default_factory=list)

    @property
    def tokens(self) -> int:
        """Tokens of the answer."""
        return len(self.token_times_s) if self.told_tokens is None else self.told_tokens

    @property
    def first_token_s(self) -> float | None:
        """Time to first token."""
        return self.token_times_s[0] - self.started_s if self.token_times_s else None

    @property
    def gaps_s(self) -> list[float]:
        """Times between tokens."""
        return [b - a for a, b in zip(self.token_times_s, self.token_times_s[1:], strict=False)]


@dataclass(frozen=True, slots=True)
class Result:
    """A load's figures. Rates count the tokens of the answers; waits are of streams that got one."""

    target: str
    streams: int
    tokens: int
    seconds: float
    first_token_s: list[float]
    gaps_s: list[float]
    cut: int

    @property
    def tokens_per_s(self) -> float:
        """All streams together."""
        return self.tokens / self.seconds


async def chat(target: Target, prompt: str, max_tokens: int) -> Stream:
    """One streamed request on a connection of its own."""
    return (await converse(target, [{"role": "user", "content": prompt}], max_tokens))[0]


async def converse(target: Target, messages: Sequence[dict[str, str]], max_tokens: int) -> tuple[Stream, str]:
    """One streamed request with a whole conversation, on a connection of its own, and the text of the answer."""
    body = json.dumps(
        {
            "model": target.model,
            "messages": list(messages),
            "max_tokens": max_tokens,
            "temperature": 0.6,
            "top_p": 0.95,
            "stream": True,
            "stream_options": {"include_usage": True},
            **target.extra,
        }
    ).encode()
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: {target.host}:{target.port}\r\nConnection: close\r\n"
        f"Authorization: Bearer {target.key}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode()
    stream = Stream(time.perf_counter())
    reader, writer = await asyncio.open_connection(target.host, target.port, limit=1 << 20)
    try:
        writer.write(head + body)
        async with asyncio.timeout(REQUEST_TIMEOUT_S):
            while line := await reader.readline():
                if line.startswith(b"data: {"):
                    _take(stream, json.loads(line[6:]), time.perf_counter())
                elif line.startswith(b"data: [DONE]"):
                    break
    except (ConnectionError, TimeoutError):
        stream.cut = True
    finally:
        writer.close()
    return stream, "".join(stream.texts)


def _take(stream: Stream, event: dict[str, Any], now: float) -> None:
    told = (event.get("usage") or {}).get("completion_tokens")
    if told is not None:
        stream.told_tokens = told
    choices = event.get("choices")
    if not choices:
        return
    delta = choices[0].get("delta", {})
    if delta.get("content") or delta.get("reasoning_content"):
        stream.token_times_s.append(now)
        stream.texts.append(delta.get("content") or "")
    if choices[0].get("finish_reason"):
        stream.cut = False


async def run(target: Target, prompts: Sequence[str], *, together: int, max_tokens: int) -> Result:
    """All prompts, ``together`` of them at any time."""
    limit = asyncio.Semaphore(together)

    async def one(prompt: str) -> Stream:
        async with limit:
            return await chat(target, prompt, max_tokens)

    started = time.perf_counter()
    streams = await asyncio.gather(*(one(prompt) for prompt in prompts))
    seconds = time.perf_counter() - started
    return Result(
        target=target.name,
        streams=together,
        tokens=sum(stream.tokens for stream in streams),
        seconds=seconds,
        first_token_s=[s.first_token_s for s in streams if s.first_token_s is not None],
        gaps_s=[gap for stream in streams for gap in stream.gaps_s],
        cut=sum(stream.cut for stream in streams),
    )


def percentile(values: Sequence[float], percent: float) -> float | None:
    """The value below which ``percent`` of 100 lie; the largest for 100, None without values."""
    if not values:
        return None
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def median(results: Sequence[float]) -> float:
    """The middle one of several runs."""
    return statistics.median(results)
