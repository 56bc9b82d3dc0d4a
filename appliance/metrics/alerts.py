"""Webhooks as Prometheus metrics: whether alerts reach whoever is to hear of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from appliance.schemas.alerts import AlertState


class AlertCollector(Collector):
    """``state`` is ``AlertService.state``: receivers are named without path and parameters, which often are secrets.
    Several receivers of one name are counted together."""

    def __init__(self, state: Callable[[], AlertState]) -> None:
        self._state = state

    def collect(self) -> Iterator[Metric]:
        """Since the receiver was set; with a new address the counts begin anew."""
        delivered = CounterMetricFamily("r1box_alerts_delivered", "Alerts that a webhook took", labels=["target"])
        lost = CounterMetricFamily(
            "r1box_alerts_lost", "Alerts that were given up, or dropped by a full queue", labels=["target", "reason"]
        )
        waiting = GaugeMetricFamily("r1box_alerts_waiting", "Alerts that wait to be delivered", labels=["target"])
        failures = GaugeMetricFamily("r1box_alert_failures", "Tries that failed, in a row", labels=["target"])
        targets = self._state().targets
        for name in dict.fromkeys(one.target for one in targets):
            same = [one for one in targets if one.target == name]
            delivered.add_metric([name], sum(one.delivered for one in same))
            lost.add_metric([name, "given_up"], sum(one.given_up for one in same))
            lost.add_metric([name, "dropped"], sum(one.dropped for one in same))
            waiting.add_metric([name], sum(one.waiting for one in same))
            failures.add_metric([name], max(one.failures for one in same))
        yield from (delivered, lost, waiting, failures)
