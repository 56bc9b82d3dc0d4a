"""Engine and queue as Prometheus metrics, read at the moment of a scrape: nothing is counted twice."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from appliance.engine.base import Engine, EngineInfo, EngineState, EngineStatus
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
            ("decode_seconds", "Time inside the model", stats.decode_s),
            ("busy_seconds", "Time with work to do", stats.busy_s),
        )
        for name, text, value in counters:
            yield CounterMetricFamily(f"r1box_engine_{name}", text, value)


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
