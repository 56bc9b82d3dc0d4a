"""Engine and queue as Prometheus metrics, read at the moment of a scrape: nothing is counted twice."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from appliance.engine.base import STEP_BOUNDS_S, Engine, EngineInfo, EngineState, EngineStats, EngineStatus
from appliance.errors import ModelNotReady
from appliance.serving.admission import AdmissionStats


class EngineSource(Protocol):
    """The part of ``EngineManager`` that is needed here."""

    def status(self) -> EngineStatus: ...

    def ready(self) -> tuple[Engine, EngineInfo]: ...


class ServingCollector(Collector):
    """Reads manager and admission. Engine counters start again with every restart of the engine, as Prometheus expects
    of counters; while no engine runs they are left out."""

    def __init__(self, manager: EngineSource, admission: Callable[[], AdmissionStats]) -> None:
        self._manager = manager
        self._admission = admission

    def collect(self) -> Iterator[Metric]:
        """The metrics of this moment."""
        yield from self._engine()
        queue = self._admission()
        yield GaugeMetricFamily("r1box_seats", "Chats that can be answered at the same time", queue.seats)
        yield GaugeMetricFamily("r1box_requests_running", "Requests that have a seat", queue.running)
        yield GaugeMetricFamily("r1box_requests_waiting", "Requests in the queue", queue.waiting)
        yield CounterMetricFamily("r1box_requests_admitted", "Requests that got a seat or a place", queue.entered)
        yield CounterMetricFamily(
            "r1box_requests_refused", "Requests refused because the queue was full", queue.refused
        )

    def _engine(self) -> Iterator[Metric]:
        status = self._manager.status()
        state = GaugeMetricFamily("r1box_engine_state", "1 for the state the engine is in", labels=["state"])
        for one in EngineState:
            state.add_metric([one.value], float(one is status.state))
        yield state
        yield GaugeMetricFamily(
            "r1box_engine_restarts", "Restarts of the engine since the daemon started", status.restarts
        )
        try:
            engine, info = self._manager.ready()
        except ModelNotReady:
            return
        stats = engine.stats()
        yield GaugeMetricFamily("r1box_seat_context_tokens", "Tokens that one seat holds", info.context_tokens)
        counters = (
            ("prompt_tokens", "Prompt tokens of ended requests", stats.prompt_tokens),
            ("cached_prompt_tokens", "Of these, tokens that were not computed again", stats.cached_tokens),
            ("generated_tokens", "Tokens generated, thinking included", stats.generated_tokens),
            ("steps", "Batches computed", stats.steps),
            ("preemptions", "Requests that lost their seat for a moment and were computed again", stats.preemptions),
            ("drafted_tokens", "Tokens that were guessed ahead and computed", stats.drafted_tokens),
            ("accepted_draft_tokens", "Of these, tokens that turned out right", stats.accepted_tokens),
            ("decode_seconds", "Time inside the model", stats.decode_s),
            ("busy_seconds", "Time with work to do", stats.busy_s),
        )
        for name, text, value in counters:
            yield CounterMetricFamily(f"r1box_engine_{name}", text, value)
        yield from _cache(stats)
        if stats.step_counts:
            yield _step_seconds(stats)


def _cache(stats: EngineStats) -> Iterator[Metric]:
    """What the KV cache holds and shares, and what is kept of idle chats outside of it."""
    gauges = (
        ("cells", "Tokens that the KV cache holds at most", stats.cells),
        ("cells_used", "Tokens in the KV cache; what several requests share counts once", stats.cells_used),
        ("tier_memory_bytes", "What is kept of idle chats in the host's memory", stats.tier_memory_bytes),
        ("tier_disk_bytes", "What is kept of idle chats on disk", stats.tier_disk_bytes),
        ("longest_step_seconds", "The longest step since the engine started", stats.longest_step_s),
    )
    counters = (
        ("shared_tokens", "Tokens taken over from another request's part of the KV cache", stats.shared_tokens),
        ("prefix_waits", "Requests that waited for a beginning that another one was computing", stats.prefix_waits),
        ("evictions", "Idle chats that gave their place in the KV cache back", stats.evictions),
        ("evicted_tokens", "Tokens that these held alone", stats.evicted_tokens),
        ("tier_hits", "Requests that took over what was kept of their chat outside of the KV cache", stats.tier_hits),
        ("tier_hit_tokens", "Tokens that these took over", stats.tier_hit_tokens),
        ("tier_saves", "Blocks of chats that were saved", stats.tier_saves),
        ("tier_saved_bytes", "Bytes of these", stats.tier_saved_bytes),
        ("tier_restored_bytes", "Bytes of blocks that were taken over", stats.tier_restored_bytes),
        ("tier_drops", "Blocks that were given up because a bound was met", stats.tier_drops),
        ("tier_disk_drops", "Blocks on disk that were given up because a bound was met", stats.tier_disk_drops),
        ("tier_failures", "Blocks that could not be used", stats.tier_failures),
    )
    for name, text, value in gauges:
        yield GaugeMetricFamily(f"r1box_engine_{name}", text, value)
    for name, text, value in counters:
        yield CounterMetricFamily(f"r1box_engine_{name}", text, value)


def _step_seconds(stats: EngineStats) -> Metric:
    buckets: list[tuple[str, float]] = []
    total = 0
    for bound, count in zip((*STEP_BOUNDS_S, None), stats.step_counts, strict=True):
        total += count
        buckets.append(("+Inf" if bound is None else str(bound), float(total)))
    family = HistogramMetricFamily("r1box_engine_step_seconds", "How long steps took")
    family.add_metric([], buckets, stats.step_s)
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
