"""Verdicts on offload as Prometheus gauges, read at the moment of a scrape."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from appliance.schemas.offload import OFFLOAD_WORDS, Offload


class OffloadCollector(Collector):
    """Reads the last verdicts; nothing is measured for a scrape."""

    def __init__(self, verdicts: Callable[[], tuple[Offload, ...]]) -> None:
        self._verdicts = verdicts

    def collect(self) -> Iterator[Metric]:
        """The gauges of the models that are loaded."""
        state = GaugeMetricFamily(
            "r1box_offload", "1 for the verdict on where a model runs", labels=["model", "verdict"]
        )
        checked = GaugeMetricFamily(
            "r1box_offload_checked_timestamp_seconds", "When that was judged last", labels=["model"]
        )
        speed = GaugeMetricFamily(
            "r1box_offload_tokens_per_second",
            "Speed of one stream when it was measured last",
            labels=["model", "phase"],
        )
        for one in self._verdicts():
            for word in OFFLOAD_WORDS:
                state.add_metric([one.model, word.lower()], float(word == one.state))
            checked.add_metric([one.model], one.checked_at.timestamp())
            for phase, value in (("prefill", one.prefill_tokens_per_s), ("decode", one.decode_tokens_per_s)):
                if value is not None:
                    speed.add_metric([one.model, phase], value)
        yield from (state, checked, speed)
