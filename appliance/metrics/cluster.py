"""The boxes that work as one, as Prometheus gauges."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from appliance.schemas.cluster import ClusterStatus


class ClusterCollector(Collector):
    """Reads the state at the moment of a scrape; a box of its own has none of these."""

    def __init__(self, status: Callable[[], ClusterStatus]) -> None:
        self._status = status

    def collect(self) -> Iterator[Metric]:
        """The gauges."""
        status = self._status()
        up = GaugeMetricFamily(
            "r1box_cluster_box_up", "1 for a box of the cluster that was heard lately", labels=["box", "role"]
        )
        running = GaugeMetricFamily(
            "r1box_cluster_running", "1 while the model that all boxes serve together answers", labels=["model"]
        )
        for box in status.boxes:
            up.add_metric([box.name, box.role], float(box.state == "here"))
        if status.model is not None:
            running.add_metric([status.model], float(status.run == "running"))
        if status.role != "none":
            yield from (up, running)
