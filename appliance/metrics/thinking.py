"""What became of thoughts as Prometheus metrics, by model and quantization."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from appliance.engine.request import ThinkingEnd
from appliance.serving.thought_counts import UNFINISHED, ThoughtCounts

_ENDS = (*(end.value for end in ThinkingEnd), UNFINISHED)


class ThinkingCollector(Collector):
    """Reads the counts. They go on over restarts of the engine and begin anew with the daemon."""

    def __init__(self, counts: ThoughtCounts) -> None:
        self._counts = counts

    def collect(self) -> Iterator[Metric]:
        """The metrics of this moment."""
        labels = ["model", "quantization"]
        ends = CounterMetricFamily("r1box_thoughts", "Thoughts by how they ended", labels=[*labels, "end"])
        tokens = CounterMetricFamily("r1box_thinking_tokens", "Tokens of thoughts", labels=labels)
        landings = CounterMetricFamily(
            "r1box_thoughts_landed", "Thoughts that were ended from outside: budget, loop, asked", labels=labels
        )
        loops = CounterMetricFamily(
            "r1box_loops_broken", "Thoughts and answers that went in circles and were ended", labels=[*labels, "part"]
        )
        for model, totals in self._counts.by_model.items():
            for end in _ENDS:
                ends.add_metric([*model, end], totals.ends[end])
            tokens.add_metric(model, totals.thinking_tokens)
            landings.add_metric(model, totals.landings)
            loops.add_metric([*model, "thought"], totals.ends[ThinkingEnd.LOOP])
            loops.add_metric([*model, "answer"], totals.answers_looped)
        yield from (ends, tokens, landings, loops)
