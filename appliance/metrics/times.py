"""How long people wait as Prometheus histograms, and how requests ended."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from appliance.engine.request import FinishReason
from appliance.serving.times import Distribution, ServingTimes

_HISTOGRAMS = (
    (
        "r1box_time_to_first_token_seconds",
        "From a request's arrival to its first token, waiting included",
        "first_token",
    ),
    ("r1box_inter_token_seconds", "From one token of an answer to the next", "between_tokens"),
    ("r1box_queue_wait_seconds", "How long requests waited for a seat", "queue"),
    ("r1box_request_duration_seconds", "From a request's arrival to its end", "request"),
)
"""(name, help, field of ``ModelTimes``)."""


class TimesCollector(Collector):
    """Reads the distributions. They go on over restarts of the engine and begin anew with the daemon."""

    def __init__(self, times: ServingTimes) -> None:
        self._times = times

    def collect(self) -> Iterator[Metric]:
        """The metrics of this moment."""
        for name, text, field in _HISTOGRAMS:
            family = HistogramMetricFamily(name, text, labels=["model"])
            for model, times in self._times.by_model.items():
                found: Distribution = getattr(times, field)
                family.add_metric([model], _buckets(found), found.sum_s)
            yield family
        ended = CounterMetricFamily("r1box_requests_ended", "Requests by how they ended", labels=["model", "finish"])
        hits = CounterMetricFamily(
            "r1box_prefix_hits", "Requests whose beginning was not computed again", labels=["model"]
        )
        for model, times in self._times.by_model.items():
            for reason in FinishReason:
                ended.add_metric([model, reason.value], times.ends[reason.value])
            hits.add_metric([model], times.prefix_hits)
        yield from (ended, hits)


def _buckets(found: Distribution) -> list[tuple[str, float]]:
    bounds = (*(str(bound) for bound in found.bounds_s), "+Inf")
    return [(bound, float(total)) for bound, total in zip(bounds, accumulate(found.counts), strict=True)]
