"""What the watch over a thought costs for each token, on texts that do not repeat, and on those that do."""

from __future__ import annotations

import random
import statistics
import time
import tracemalloc
from itertools import islice

import pytest

from appliance.engine.llamacpp.thought import ThoughtRules, ThoughtWatch
from tests.appliance.engine.llamacpp.texts import HARMLESS, tokens

TOKENS = 30_000
RUNS = 5

pytestmark = pytest.mark.bench


def _watch() -> ThoughtWatch:
    rules = ThoughtRules(opened=True, open_tokens=(1,), close_tokens=(-1,), landing_tokens=(3,), budget_tokens=10**9)
    return ThoughtWatch(rules)


@pytest.mark.parametrize("kind", ["all different", "tables and code"])
def test_cost_per_token(kind: str) -> None:
    source = random.Random(1)
    harmless = [token for text in HARMLESS.values() for token in tokens(text)]
    text = [source.randrange(150_000) for _ in range(TOKENS)] if kind == "all different" else harmless[:TOKENS]
    times = []
    for _ in range(RUNS):
        watch = _watch()
        started = time.perf_counter()
        for token in text:
            watch.take(token, 10**9)
        times.append((time.perf_counter() - started) / len(text))
    tracemalloc.start()
    watch = _watch()
    for token in islice(text, TOKENS):
        watch.take(token, 10**9)
    kept_bytes, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    print(
        f"\n{kind}: {statistics.median(times) * 1e6:.2f} us per token (median of {RUNS}, best {min(times) * 1e6:.2f}); "
        f"{kept_bytes / 1024:.0f} KiB per thought after {len(text):,} tokens"
    )
    assert watch.thought_tokens == len(text)
