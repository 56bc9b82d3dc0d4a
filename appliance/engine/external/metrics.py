"""A server's own metrics in the box's terms. Pure: text in, values out.

vLLM's names as of 0.10 to 0.32 (``vllm/v1/metrics/loggers.py``); a name that a version does not have stays unknown.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

MAX_TEXT_BYTES = 4 * 1024 * 1024
_SAMPLE = re.compile(r"^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? ([^ ]+)")
_LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"')


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerMetrics:
    """What a server tells of itself; ``None`` where it does not. Counters are since its start, ``cache_share`` is 0..1.
    ``cache_tokens`` is how many tokens its cache holds in all."""

    waiting: int | None = None
    preemptions: int | None = None
    steps: int | None = None
    cache_share: float | None = None
    cache_tokens: int | None = None
    drafted_tokens: int | None = None
    accepted_tokens: int | None = None


def read_metrics(text: str) -> ServerMetrics:
    """The sums over all of the server's engines (data parallel has several); shares are their mean."""
    sums: dict[str, float] = {}
    counts: dict[str, int] = {}
    cache_tokens: float | None = None
    for name, labels, value in _samples(text):
        name = name.removesuffix("_total")
        if name == "vllm:cache_config_info":
            cache_tokens = (cache_tokens or 0.0) + _cache_tokens(labels)
            continue
        sums[name] = sums.get(name, 0.0) + value
        counts[name] = counts.get(name, 0) + 1

    def whole(*names: str) -> int | None:
        return next((int(sums[name]) for name in names if name in sums), None)

    share = next((n for n in ("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc") if n in sums), None)
    return ServerMetrics(
        waiting=whole("vllm:num_requests_waiting"),
        preemptions=whole("vllm:num_preemptions"),
        steps=whole("vllm:iteration_tokens_total_count", "vllm:iteration_tokens_count"),
        cache_share=None if share is None else sums[share] / counts[share],
        cache_tokens=None if not cache_tokens else int(cache_tokens),
        drafted_tokens=whole("vllm:spec_decode_num_draft_tokens"),
        accepted_tokens=whole("vllm:spec_decode_num_accepted_tokens"),
    )


def _samples(text: str) -> Iterator[tuple[str, str, float]]:
    for line in text[:MAX_TEXT_BYTES].splitlines():
        found = _SAMPLE.match(line)
        if found is None:
            continue
        try:
            value = float(found[3])
        except ValueError:
            continue
        if math.isfinite(value):
            yield found[1], found[2] or "", value


def _cache_tokens(labels: str) -> float:
    named = dict(_LABEL.findall(labels))
    try:
        return float(named["num_gpu_blocks"]) * float(named["block_size"])
    except (KeyError, ValueError):
        return 0.0
