"""Tokens per second, requests running and waiting, over the last hour: what an operator's plot shows at once."""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from appliance.errors import ModelNotReady
from appliance.metrics.serving import EngineSource, QueueSource
from appliance.schemas.operators import SERVING_HISTORY_S, ServingHistory

EVERY_S = 5.0
_NOW_POINTS = 3


@dataclass(frozen=True, slots=True)
class _Point:
    at_s: float
    tokens_per_s: float
    running: int
    waiting: int


class ServingRecorder:
    """Reads the engines' counters every ``EVERY_S`` seconds while ``record`` runs. For one event loop.

    A counter that fell belongs to an engine that was started anew; a model that was not there before may have counted
    long before it was seen, and begins to count with its second reading.
    """

    def __init__(self, engines: EngineSource, queues: QueueSource, now_s: Callable[[], float] = time.monotonic) -> None:
        self._engines = engines
        self._queues = queues
        self._now_s = now_s
        self._last: tuple[float, dict[str, int]] | None = None
        self._points: deque[_Point] = deque(maxlen=int(SERVING_HISTORY_S / EVERY_S) + 1)

    async def record(self) -> None:
        """Read until cancelled."""
        while True:
            self.read()
            await asyncio.sleep(EVERY_S)

    def read(self) -> None:
        """One reading."""
        now_s, counters = self._now_s(), dict[str, int]()
        for model in self._engines.statuses():
            with suppress(ModelNotReady):
                engine, _ = self._engines.ready(model)
                counters[model] = engine.stats().generated_tokens
        if self._last is not None and now_s > self._last[0]:
            before_s, before = self._last
            grown = sum(
                value - before[model] if value >= before[model] else value
                for model, value in counters.items()
                if model in before
            )
            queues = [queue.stats() for queue in self._queues.all().values()]
            running, waiting = sum(one.running for one in queues), sum(one.waiting for one in queues)
            self._points.append(_Point(now_s, grown / (now_s - before_s), running, waiting))
        self._last = (now_s, counters)

    def history(self, seconds: int, points: int) -> ServingHistory:
        """The last ``seconds`` in at most ``points`` buckets, none shorter than the readings are apart. Buckets keep
        their places from one question to the next, so that a plot moves by whole columns."""
        now_s = self._now_s()
        step_s = max(EVERY_S, seconds / points)
        count = max(min(points, math.ceil(seconds / step_s)), 1)
        end = math.floor(now_s / step_s) + 1
        buckets: list[list[_Point]] = [[] for _ in range(count)]
        for point in self._points:
            place = count - end + math.floor(point.at_s / step_s)
            if 0 <= place < count:
                buckets[place].append(point)
        begin_s = (end - count) * step_s
        return ServingHistory(
            start=datetime.now(UTC) - timedelta(seconds=now_s - begin_s),
            step_s=step_s,
            now_tokens_per_s=_mean([one.tokens_per_s for one in list(self._points)[-_NOW_POINTS:]]),
            tokens_per_s=tuple(_mean([one.tokens_per_s for one in bucket]) for bucket in buckets),
            running=tuple(_mean([one.running for one in bucket]) for bucket in buckets),
            waiting=tuple(_mean([one.waiting for one in bucket]) for bucket in buckets),
        )


def _mean(values: Sequence[float]) -> float | None:
    return round(sum(values) / len(values), 3) if values else None
