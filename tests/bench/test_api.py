"""What the daemon adds to an engine that writes 2,000 tokens a second: time to the first token, processor per token.

The real daemon as a process, its engine a worker without a model (``tests.fakes.paced_worker``) that gives each
request's first token at once and then one token per stream and step, as a card does. Clients are raw sockets in this
process. Prints medians of ``ROUNDS`` runs with the machine's load and decides nothing. Aims: under 5 ms to the first
token, under 30 % of a core at 2,000 tokens/s in all.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator

import httpx
import psutil
import pytest
from rich.console import Console
from rich.table import Table

from tests.bench.load import Stream, Target, chat, median, percentile
from tests.e2e.box import PACED_R1BOX, Box, Home, start_box

pytestmark = pytest.mark.bench

TOKENS_PER_S = 2000
ROUNDS = 3
MAX_TOKENS = 64
REQUESTS = {1: 40, 32: 4, 256: 1}
"""Of each stream, one after the other."""
PROMPT = "How many patients can two nurses see in a shift of eight hours if each takes twenty minutes?"


@pytest.fixture(scope="module")
def paced(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Box, Target]]:
    """A box with 256 seats and a key."""
    home = Home(tmp_path_factory.mktemp("paced"))
    model = home.import_model()
    key = home.create_key("bench")
    home.environment["R1BOX_BENCH_TOKENS_PER_S"] = str(TOKENS_PER_S)
    box = start_box(home, "--seats", "256", "--context", "512", key=key, command=PACED_R1BOX)
    host, port = box.url.removeprefix("http://").split(":")
    yield box, Target("R1 Box", host, int(port), model, key)
    box.stop()


async def load(target: Target, streams: int, requests: int) -> list[Stream]:
    """``streams`` clients that each ask ``requests`` times. They begin one after the other over the time that one
    answer takes, as people do; all at once would measure the crowd."""
    answer_s = streams * MAX_TOKENS / TOKENS_PER_S

    async def client(number: int) -> list[Stream]:
        await asyncio.sleep(answer_s * number / streams)
        return [await chat(target, PROMPT, MAX_TOKENS) for _ in range(requests)]

    return [answer for answers in await asyncio.gather(*map(client, range(streams))) for answer in answers]


def test_added_time_and_processor(paced: tuple[Box, Target]) -> None:
    """One row for each number of streams."""
    box, target = paced
    daemon = psutil.Process(box.process.pid)
    table = Table(title=f"daemon before an engine of {TOKENS_PER_S} tokens/s", title_justify="left", box=None)
    for name in ("streams", "tokens/s", "first token p50", "p99", "CPU per token", "of a core at 2,000/s", "load"):
        table.add_column(name, justify="right", no_wrap=True)
    asyncio.run(load(target, 4, 4))
    for streams, requests in REQUESTS.items():
        firsts, lasts, shares, rates = [], [], [], []
        for _ in range(ROUNDS):
            before, started_s = daemon.cpu_times(), time.perf_counter()
            answers = asyncio.run(load(target, streams, requests))
            seconds, after = time.perf_counter() - started_s, daemon.cpu_times()
            assert not any(answer.cut for answer in answers)
            tokens = sum(answer.tokens for answer in answers)
            assert tokens == streams * requests * MAX_TOKENS
            waits = [answer.first_token_s or 0 for answer in answers]
            firsts.append(percentile(waits, 50) or 0)
            lasts.append(percentile(waits, 99) or 0)
            rates.append(tokens / seconds)
            shares.append((after.user + after.system - before.user - before.system) / tokens)
        table.add_row(
            str(streams),
            f"{median(rates):.0f}",
            f"{median(firsts) * 1000:.1f} ms",
            f"{median(lasts) * 1000:.1f} ms",
            f"{median(shares) * 1e6:.0f} us",
            f"{median(shares) * 2000:.0%}",
            f"{os.getloadavg()[0]:.1f}",
        )
    Console(width=120).print(table)


def test_processor_time_of_a_request(paced: tuple[Box, Target]) -> None:
    """Of answers of four tokens, one after the other: what a request costs beside its tokens, on a machine that others
    use too."""
    box, target = paced
    daemon = psutil.Process(box.process.pid)

    async def ask(count: int) -> list[float]:
        return [(await chat(target, PROMPT, 4)).first_token_s or 0 for _ in range(count)]

    asyncio.run(ask(50))
    costs, waits = [], []
    for _ in range(ROUNDS):
        before = daemon.cpu_times()
        waits += asyncio.run(ask(200))
        after = daemon.cpu_times()
        costs.append((after.user + after.system - before.user - before.system) / 200)
    print(
        f"a request: {median(costs) * 1000:.2f} ms of processor time; first token p50 {median(waits) * 1000:.1f} ms, "
        f"least {min(waits) * 1000:.1f} ms (load {os.getloadavg()[0]:.1f})"
    )


def test_memory_of_the_daemon(paced: tuple[Box, Target]) -> None:
    """Resident memory now, and per idle connection."""
    box, target = paced
    daemon = psutil.Process(box.process.pid)

    async def idle(count: int) -> float:
        """Bytes per connection that says nothing."""
        before = daemon.memory_info().rss
        writers = [(await asyncio.open_connection(target.host, target.port))[1] for _ in range(count)]
        await asyncio.to_thread(httpx.get, f"{box.url}/healthz")
        bytes_each = (daemon.memory_info().rss - before) / count
        for writer in writers:
            writer.close()
        return bytes_each

    print(f"resident: {daemon.memory_info().rss / 1e6:.0f} MB; threads: {daemon.num_threads()}")
    print(f"an idle connection: {asyncio.run(idle(1000)) / 1e3:.1f} kB (load {os.getloadavg()[0]:.1f})")
