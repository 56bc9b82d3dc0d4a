"""How long people wait, by model: distributions in fixed buckets, counted as it happens. One writer: the event loop."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

FIRST_TOKEN_BOUNDS_S = (0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
BETWEEN_TOKENS_BOUNDS_S = (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5)
QUEUE_BOUNDS_S = (0.01, 0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)
REQUEST_BOUNDS_S = (0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0)


class Distribution:
    """How often values were up to each bound (``counts``, the last one beyond all bounds), and their sum."""

    __slots__ = ("bounds_s", "counts", "sum_s")

    def __init__(self, bounds_s: Sequence[float]) -> None:
        self.bounds_s = tuple(bounds_s)
        self.counts = [0] * (len(self.bounds_s) + 1)
        self.sum_s = 0.0

    def add(self, value_s: float, times: int = 1) -> None:
        """Count a value, ``times`` over."""
        # Like Prometheus' own: a value on a bound is within it.
        self.counts[bisect_left(self.bounds_s, value_s)] += times
        self.sum_s += value_s * times


@dataclass(slots=True)
class ModelTimes:
    """Since the daemon started. ``first_token``: from a request's arrival to the first thing that came, waiting
    included; ``between_tokens``: from token to token, several that came together share their time evenly; ``queue``:
    the wait for a seat; ``request``: all of it. ``ends`` counts requests by how they ended, ``prefix_hits`` those whose
    beginning was not computed again."""

    first_token: Distribution = field(default_factory=lambda: Distribution(FIRST_TOKEN_BOUNDS_S))
    between_tokens: Distribution = field(default_factory=lambda: Distribution(BETWEEN_TOKENS_BOUNDS_S))
    queue: Distribution = field(default_factory=lambda: Distribution(QUEUE_BOUNDS_S))
    request: Distribution = field(default_factory=lambda: Distribution(REQUEST_BOUNDS_S))
    ends: Counter[str] = field(default_factory=Counter)
    prefix_hits: int = 0


class ServingTimes:
    """Those of all models that were asked."""

    def __init__(self) -> None:
        self.by_model: dict[str, ModelTimes] = {}

    def of(self, model_id: str) -> ModelTimes:
        """Those of one model, which are made when they are first wanted."""
        return self.by_model.setdefault(model_id, ModelTimes())
