"""Engine and queue as Prometheus metrics, read at the moment of a scrape: nothing is counted twice."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Protocol

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from appliance.engine.base import STEP_BOUNDS_S, Engine, EngineInfo, EngineState, EngineStats, EngineStatus
from appliance.errors import ModelNotReady
from appliance.serving.admission import Admission


class EngineSource(Protocol):
    """The part of ``ModelHost`` that is needed here."""

    def statuses(self) -> Mapping[str, EngineStatus]: ...

    def ready(self, model_id: str) -> tuple[Engine, EngineInfo]: ...


class QueueSource(Protocol):
    """The part of ``AdmissionBook`` that is needed here."""

    def all(self) -> Mapping[str, Admission]: ...


_QUEUE = (
    ("r1box_seats", "Chats that can be answered at the same time", "seats", GaugeMetricFamily),
    ("r1box_requests_running", "Requests that have a seat", "running", GaugeMetricFamily),
    ("r1box_requests_waiting", "Requests in the queue", "waiting", GaugeMetricFamily),
    ("r1box_requests_admitted", "Requests that got a seat or a place", "entered", CounterMetricFamily),
    ("r1box_requests_refused", "Requests refused because the queue was full", "refused", CounterMetricFamily),
)
"""(name, help, field of ``AdmissionStats``, family)."""

_ENGINE = (
    ("prompt_tokens", "Prompt tokens of ended requests", "prompt_tokens"),
    ("cached_prompt_tokens", "Of these, tokens that were not computed again", "cached_tokens"),
    ("generated_tokens", "Tokens generated, thinking included", "generated_tokens"),
    ("steps", "Batches computed", "steps"),
    ("preemptions", "Requests that lost their seat for a moment and were computed again", "preemptions"),
    ("decode_seconds", "Time inside the model", "decode_s"),
    ("busy_seconds", "Time with work to do", "busy_s"),
    ("shared_tokens", "Tokens taken over from another request's part of the KV cache", "shared_tokens"),
    ("prefix_waits", "Requests that waited for a beginning that another one was computing", "prefix_waits"),
    ("evictions", "Idle chats that gave their place in the KV cache back", "evictions"),
    ("evicted_tokens", "Tokens that these held alone", "evicted_tokens"),
    ("tier_hits", "Requests that took over what was kept of their chat outside of the KV cache", "tier_hits"),
    ("tier_hit_tokens", "Tokens that these took over", "tier_hit_tokens"),
    ("tier_saves", "Blocks of chats that were saved", "tier_saves"),
    ("tier_saved_bytes", "Bytes of these", "tier_saved_bytes"),
    ("tier_restored_bytes", "Bytes of blocks that were taken over", "tier_restored_bytes"),
    ("tier_drops", "Blocks that were given up because a bound was met", "tier_drops"),
    ("tier_disk_drops", "Blocks on disk that were given up because a bound was met", "tier_disk_drops"),
    ("tier_failures", "Blocks that could not be used", "tier_failures"),
)
"""(name, help, field of ``EngineStats``) of what is counted since the engine started."""

_ENGINE_NOW = (
    ("cells", "Tokens that the KV cache holds at most", "cells"),
    ("cells_used", "Tokens in the KV cache; what several requests share counts once", "cells_used"),
    ("tier_memory_bytes", "What is kept of idle chats in the host's memory", "tier_memory_bytes"),
    ("tier_disk_bytes", "What is kept of idle chats on disk", "tier_disk_bytes"),
    ("longest_step_seconds", "The longest step since the engine started", "longest_step_s"),
)
"""The same of what is so now."""


class ServingCollector(Collector):
    """Reads engines and queues, one of each for a model. Engine counters start again with every restart of the engine,
    as Prometheus expects of counters; of a model without a running engine they are left out."""

    def __init__(self, engines: EngineSource, queues: QueueSource) -> None:
        self._engines = engines
        self._queues = queues

    def collect(self) -> Iterator[Metric]:
        """The metrics of this moment."""
        yield from self._states()
        yield from self._counters()
        queues = {model: queue.stats() for model, queue in self._queues.all().items()}
        for name, text, field, family in _QUEUE:
            metric = family(name, text, labels=["model"])
            for model, stats in queues.items():
                metric.add_metric([model], getattr(stats, field))
            yield metric

    def _states(self) -> Iterator[Metric]:
        state = GaugeMetricFamily("r1box_engine_state", "1 for the state the engine is in", labels=["model", "state"])
        restarts = GaugeMetricFamily(
            "r1box_engine_restarts", "Restarts of the engine since its model was loaded", labels=["model"]
        )
        for model, status in self._engines.statuses().items():
            for one in EngineState:
                state.add_metric([model, one.value], float(one is status.state))
            restarts.add_metric([model], status.restarts)
        yield from (state, restarts)

    def _counters(self) -> Iterator[Metric]:
        context = GaugeMetricFamily("r1box_seat_context_tokens", "Tokens that one seat holds", labels=["model"])
        running: dict[str, EngineStats] = {}
        for model in self._engines.statuses():
            with suppress(ModelNotReady):
                engine, info = self._engines.ready(model)
                running[model] = engine.stats()
                context.add_metric([model], info.context_tokens)
        yield context
        for rows, family in ((_ENGINE, CounterMetricFamily), (_ENGINE_NOW, GaugeMetricFamily)):
            for name, text, field in rows:
                metric = family(f"r1box_engine_{name}", text, labels=["model"])
                for model, stats in running.items():
                    metric.add_metric([model], getattr(stats, field))
                yield metric
        yield from _guesses(running)
        yield _step_seconds(running)


def _guesses(running: Mapping[str, EngineStats]) -> Iterator[Metric]:
    """Tokens that were guessed ahead, by what guessed them."""
    labels = ["model", "drafter"]
    drafted = CounterMetricFamily("r1box_engine_drafted_tokens", "Tokens guessed ahead and computed", labels=labels)
    accepted = CounterMetricFamily("r1box_engine_accepted_draft_tokens", "Of these, right ones", labels=labels)
    for model, stats in running.items():
        drafted.add_metric([model, "lookup"], stats.drafted_tokens - stats.model_drafted_tokens)
        drafted.add_metric([model, "model"], stats.model_drafted_tokens)
        accepted.add_metric([model, "lookup"], stats.accepted_tokens - stats.model_accepted_tokens)
        accepted.add_metric([model, "model"], stats.model_accepted_tokens)
    yield from (drafted, accepted)


def _step_seconds(running: Mapping[str, EngineStats]) -> Metric:
    family = HistogramMetricFamily("r1box_engine_step_seconds", "How long steps took", labels=["model"])
    for model, stats in running.items():
        buckets: list[tuple[str, float]] = []
        total = 0
        for bound, count in zip((*STEP_BOUNDS_S, None), stats.step_counts, strict=bool(stats.step_counts)):
            total += count
            buckets.append(("+Inf" if bound is None else str(bound), float(total)))
        if buckets:
            family.add_metric([model], buckets, stats.step_s)
    return family


class Metrics:
    """A registry of the box's own collectors and its text form."""

    content_type = "text/plain; version=0.0.4; charset=utf-8"

    def __init__(self, *collectors: Collector) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        for collector in collectors:
            self._registry.register(collector)

    def text(self) -> bytes:
        """Prometheus' text format 0.0.4."""
        return generate_latest(self._registry)
