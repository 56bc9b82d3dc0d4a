"""Open issues as Prometheus gauges."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from appliance.schemas.issues import SEVERITIES, IssueList


class IssueCollector(Collector):
    """Reads the board; no check runs for a scrape."""

    def __init__(self, issues: Callable[[], IssueList]) -> None:
        self._issues = issues

    def collect(self) -> Iterator[Metric]:
        """How many of each severity, always; and each that is open."""
        found = self._issues().issues
        count = GaugeMetricFamily("r1box_issues", "Open issues", labels=["severity"])
        for severity in SEVERITIES:
            count.add_metric([severity], sum(issue.severity == severity for issue in found))
        one = GaugeMetricFamily("r1box_issue", "1 for an issue that is open", labels=["code", "severity", "subject"])
        for issue in found:
            one.add_metric([issue.code, issue.severity, issue.subject or ""], 1.0)
        yield from (count, one)
