"""Which box it is and since when, for whoever compares."""

from __future__ import annotations

import time
from collections.abc import Iterator

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector


class BuildCollector(Collector):
    """Made when the daemon starts."""

    def __init__(self, version: str) -> None:
        self._version = version
        self._started_s = time.time()

    def collect(self) -> Iterator[Metric]:
        """The same at each scrape."""
        info = GaugeMetricFamily("r1box_build_info", "1, with the version of R1 Box", labels=["version"])
        info.add_metric([self._version], 1.0)
        yield info
        yield GaugeMetricFamily(
            "r1box_start_time_seconds", "When the daemon started, seconds since 1970", self._started_s
        )
