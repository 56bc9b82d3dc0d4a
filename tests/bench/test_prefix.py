"""Two loads that a shared box sees every day, on SmolLM2-135M: many requests with one long beginning, and a long prompt
that comes in while others are being answered.

Prints figures and decides nothing; each is the median of ``ROUNDS`` runs, with the machine's load average beside it.
"""

from __future__ import annotations

import asyncio
import os
import time

import pytest
from rich.console import Console
from rich.table import Table

from tests.bench.load import Result, Stream, Target, chat, median, percentile, run
from tests.bench.test_serving import counters, r1box
from tests.e2e.box import Home

pytestmark = pytest.mark.bench

ROUNDS = 3
MAX_TOKENS = 64
TOGETHER = 8
STREAMS = 4
SENTENCE = "The keeper of the lighthouse wrote down the weather, the ships and the names of the gulls. "
SENTENCES = 45
"""Together about 900 tokens."""


def shared_prompts(count: int, round_number: int) -> list[str]:
    """One long text that no round before had, and a question of its own for each."""
    text = f"Logbook {round_number}. " + SENTENCE * SENTENCES
    return [f"{text} Question {number}: what did the keeper see on day {number}?" for number in range(count)]


async def long_prompt_beside_streams(target: Target, round_number: int) -> tuple[list[Stream], Stream]:
    """Streams that run, and after a while one long prompt: (the streams, the long prompt's own stream)."""
    streams = [
        asyncio.create_task(chat(target, f"Tell me a long story about the number {number}.", 256))
        for number in range(STREAMS)
    ]
    await asyncio.sleep(2)
    late = await chat(target, f"Almanac {round_number}. " + SENTENCE * SENTENCES, 8)
    return list(await asyncio.gather(*streams)), late


def largest_gap_s(streams: list[Stream], after_s: float) -> float:
    """The longest time without a token that any stream saw after a moment."""
    return max(
        b - a
        for stream in streams
        for a, b in zip(stream.token_times_s, stream.token_times_s[1:], strict=False)
        if b >= after_s
    )


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    return Home(tmp_path_factory.mktemp("bench"))


def load_average() -> str:
    return "/".join(f"{value:.1f}" for value in os.getloadavg())


@pytest.mark.parametrize("requests", [16])
def test_requests_with_one_long_beginning(home: Home, requests: int) -> None:
    """Tokens/s of all, and how long each waited for its first token; every round starts with a new text."""
    results: list[Result] = []
    computed: list[float] = []
    before = load_average()
    with r1box(home) as (target, box):
        asyncio.run(run(target, ["Hello."], together=1, max_tokens=8))
        for number in range(ROUNDS):
            start = counters(box)
            prompts = shared_prompts(requests, time.monotonic_ns() + number)
            results.append(asyncio.run(run(target, prompts, together=TOGETHER, max_tokens=MAX_TOKENS)))
            end = counters(box)
            name = "r1box_engine_{}_tokens_total"
            given, cached = (end[name.format(n)] - start[name.format(n)] for n in ("prompt", "cached_prompt"))
            computed.append(given - cached)
    table = Table(title=f"{requests} requests with one beginning, {TOGETHER} at a time", box=None, title_justify="left")
    for name in ("tokens/s", "first token p50", "p99", "prompt tokens computed", "cut", "load average before/after"):
        table.add_column(name)
    table.add_row(
        f"{median([result.tokens_per_s for result in results]):.1f}",
        *(
            f"{median([percentile(result.first_token_s, percent) or 0 for result in results]):.2f} s"
            for percent in (50, 99)
        ),
        f"{median(computed):.0f}",
        str(sum(result.cut for result in results)),
        f"{before} {load_average()}",
    )
    Console(width=120).print(table)


def test_a_long_prompt_beside_running_streams(home: Home) -> None:
    """The largest gap that a stream saw from the moment the long prompt came, and that prompt's own wait."""
    gaps, waits = [], []
    before = load_average()
    with r1box(home) as (target, _box):
        asyncio.run(run(target, ["Hello."], together=1, max_tokens=8))
        for _ in range(ROUNDS):
            streams, late = asyncio.run(long_prompt_beside_streams(target, time.monotonic_ns()))
            gaps.append(largest_gap_s(streams, late.started_s))
            waits.append(late.first_token_s or 0.0)
    print(
        f"{STREAMS} streams while a long prompt comes in: largest gap {median(gaps) * 1000:.0f} ms, "
        f"the prompt's own first token {median(waits):.2f} s (load average {before} {load_average()})"
    )
