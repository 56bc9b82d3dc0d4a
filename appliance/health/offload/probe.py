"""A short generation that measures how fast an engine is, and gives way to users."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from appliance.engine.base import Engine, EngineInfo
from appliance.engine.request import (
    Finished,
    FinishReason,
    GenerationRequest,
    Priority,
    SamplingParams,
    TextSegment,
    TokenDelta,
)
from appliance.health.offload.judge import Speed

PROMPT_TOKENS = 96
DECODE_TOKENS = 24
LEAST_DECODE_TOKENS = 4
LEAST_PREFILL_TOKENS = 32
TIMEOUT_S = 20.0
"""A model that is so slow that this does not do is not measured here: it says so itself."""
ATTEMPTS = 3

_TEXT = "one two three four five six seven eight nine ten eleven twelve "


async def measure_speed(
    engine: Engine,
    info: EngineInfo,
    number: int,
    *,
    busy: Callable[[], bool] = lambda: False,
    now_s: Callable[[], float] = time.perf_counter,
    timeout_s: float = TIMEOUT_S,
) -> Speed | None:
    """Tokens per second of one stream; ``None`` when it could not be measured: the model ended its text at once, users
    came, the time was over, the engine died.

    ``number`` begins the prompt and must be another one each time: what is in the cache already is not computed.
    ``busy`` is asked after every token; as soon as it is true the generation is aborted.
    """
    for attempt in range(ATTEMPTS):
        if busy():
            return None
        try:
            async with asyncio.timeout(timeout_s):
                speed = await _measure(engine, info, f"{number}.{attempt}", busy, now_s)
        except TimeoutError:
            return None
        if speed is not None:
            return speed
    return None


async def _measure(
    engine: Engine, info: EngineInfo, name: str, busy: Callable[[], bool], now_s: Callable[[], float]
) -> Speed | None:
    segment = TextSegment(f"{name} {_TEXT * (PROMPT_TOKENS // 12 + 1)}", trusted=False)
    tokens = await engine.tokenize([segment], add_bos=True)
    room = info.context_tokens - DECODE_TOKENS
    if room < 1 or not tokens:
        return None
    request = GenerationRequest(
        request_id=f"speed-probe-{name}",
        prompt_tokens=tuple(tokens[: min(PROMPT_TOKENS, room)]),
        max_tokens=DECODE_TOKENS,
        sampling=SamplingParams(temperature=0.0),
        priority=Priority.BATCH,
    )
    begun = now_s()
    first_at: float | None = None
    last_at = begun
    count = 0
    finished: Finished | None = None
    events = engine.generate(request)
    try:
        async for event in events:
            if isinstance(event, Finished):
                finished = event
                break
            if isinstance(event, TokenDelta):
                last_at = now_s()
                if first_at is None:
                    first_at = last_at
                else:
                    count += event.count
            if busy():
                return None
    finally:
        close = getattr(events, "aclose", None)
        if close is not None:
            await close()
    if finished is None or finished.reason is FinishReason.ERROR or first_at is None:
        return None
    if count < LEAST_DECODE_TOKENS or last_at <= first_at:
        return None
    fresh = len(request.prompt_tokens) - finished.cached_tokens
    prefill = fresh / (first_at - begun) if fresh >= LEAST_PREFILL_TOKENS and first_at > begun else None
    return Speed(count / (last_at - first_at), prefill)
