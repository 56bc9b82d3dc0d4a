"""Serving SmolLM2-135M on this machine's processor: throughput, waits, overhead, and ``llama_cpp.server`` beside it.

Prints figures and decides nothing. Run alone on the machine with ``make bench``; every figure is the median of
``ROUNDS`` runs, R1 Box and peer in turn.
"""

from __future__ import annotations

import asyncio
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
import pytest
from rich.console import Console
from rich.table import Table

from appliance.demo import demo_file
from tests.bench.load import Result, Target, median, percentile, run
from tests.e2e.box import R1BOX, Box, Home

pytestmark = pytest.mark.bench

ROUNDS = 3
MAX_TOKENS = 64
SEAT_CONTEXT = 2048
REQUESTS_PER_STREAM = 2
TOPICS = ("dragons", "bread", "the sea", "clocks", "rain", "tea", "mountains", "trains")
# SmolLM2's end tokens: without them every answer has all its tokens, on every server.
NO_END = {"logit_bias": {"0": -100, "2": -100}}


def prompts(count: int) -> list[str]:
    return [f"Tell me a long story about {TOPICS[n % len(TOPICS)]}, part {n}." for n in range(count)]


def start_box(home: Home, *arguments: str, key: str = "") -> Box:
    """The daemon as an operator starts it, with as many engine threads as there are cores."""
    process = subprocess.Popen(
        [str(R1BOX), "serve", "--port", "0", "--log-level", "warning", *arguments],
        env=home.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    box = Box(process, key)
    box.wait_listening()
    return box


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    return Home(tmp_path_factory.mktemp("bench"))


@contextmanager
def r1box(home: Home) -> Iterator[tuple[Target, Box]]:
    model = home.import_model(demo_file())
    key = home.create_key(f"bench-{time.monotonic_ns()}")
    box = start_box(home, "--seats", "8", "--context", str(SEAT_CONTEXT), key=key)
    try:
        box.wait_ready()
        host, port = box.url.removeprefix("http://").split(":")
        yield Target("R1 Box", host, int(port), model, key, NO_END), box
    finally:
        box.stop()


@contextmanager
def peer(*arguments: str, name: str) -> Iterator[Target]:
    """``llama_cpp.server`` of the same wheel with the same threads and a context as large as one of our seats."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    threads = str(os.cpu_count() or 1)
    command = [sys.executable, "-m", "llama_cpp.server", "--model", str(demo_file()), "--port", str(port)]
    command += ["--n_ctx", str(SEAT_CONTEXT), "--n_threads", threads, "--n_threads_batch", threads, *arguments]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait_for(lambda: httpx.get(f"http://127.0.0.1:{port}/v1/models", timeout=2).status_code == 200, process)
        yield Target(name, "127.0.0.1", port, "any", extra=NO_END)
    finally:
        process.terminate()
        process.wait(timeout=20)


def _wait_for(condition: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            if condition():
                return
        except httpx.TransportError:
            pass
        assert process.poll() is None
        assert time.monotonic() < deadline
        threading.Event().wait(0.1)


def load(target: Target, streams: int) -> Result:
    asyncio.run(run(target, prompts(min(streams, 2)), together=min(streams, 2), max_tokens=8))
    return asyncio.run(run(target, prompts(streams * REQUESTS_PER_STREAM), together=streams, max_tokens=MAX_TOKENS))


def counters(box: Box) -> dict[str, float]:
    text = httpx.get(f"{box.url}/metrics", headers={"Authorization": f"Bearer {box.key}"}).text
    return {
        name: float(value)
        for name, value in re.findall(r"^(r1box_engine_\w+)(?:\{[^}]*\})? (\S+)$", text, re.MULTILINE)
    }


def show(title: str, rows: list[tuple[str, int, list[Result]]]) -> None:
    table = Table(title=title, title_justify="left", box=None, header_style="bold")
    for name in ("server", "streams", "tokens/s", "first token p50", "p99", "gap p50", "p99", "cut streams"):
        table.add_column(name, justify="left" if name == "server" else "right", no_wrap=True)
    for name, streams, results in rows:
        table.add_row(
            name,
            str(streams),
            f"{median([result.tokens_per_s for result in results]):.1f}",
            *(_ms(results, percent, lambda result: result.first_token_s) for percent in (50, 99)),
            *(_ms(results, percent, lambda result: result.gaps_s) for percent in (50, 99)),
            "/".join(str(result.cut) for result in results),
        )
    Console(width=120).print(table)


def _ms(results: list[Result], percent: float, values: Callable[[Result], list[float]]) -> str:
    found = [value for result in results if (value := percentile(values(result), percent)) is not None]
    return f"{median(found) * 1000:.0f} ms" if found else "-"


def test_throughput_and_waits_beside_llama_cpp_server(home: Home) -> None:
    """Tokens/s, time to first token and gaps at 1, 4 and 8 streams; the peer at 8; time outside llama_decode."""
    ours: dict[int, list[Result]] = {1: [], 4: [], 8: []}
    peers: dict[str, list[Result]] = {}
    shares: list[float] = []
    variants = {"llama_cpp.server": (), "llama_cpp.server, no interrupting": ("--interrupt_requests", "false")}
    for _ in range(ROUNDS):
        with r1box(home) as (target, box):
            for streams, results in ours.items():
                before, started = counters(box), time.perf_counter()
                results.append(load(target, streams))
                after, seconds = counters(box), time.perf_counter() - started
                if streams == 8:
                    decode_s = after["r1box_engine_decode_seconds_total"] - before["r1box_engine_decode_seconds_total"]
                    busy_s = after["r1box_engine_busy_seconds_total"] - before["r1box_engine_busy_seconds_total"]
                    shares.append(1 - decode_s / seconds)
                    print(f"8 streams: wall {seconds:.2f} s, worker busy {busy_s:.2f} s, llama_decode {decode_s:.2f} s")
        for name, arguments in variants.items():
            with peer(*arguments, name=name) as target:
                peers.setdefault(name, []).append(load(target, 8))
    rows = [("R1 Box", streams, results) for streams, results in ours.items()]
    show("SmolLM2-135M Q4_1", rows + [(name, 8, results) for name, results in peers.items()])
    our_rate = median([result.tokens_per_s for result in ours[8]])
    our_wait = median([percentile(result.first_token_s, 99) or 0 for result in ours[8]])
    for name, results in peers.items():
        rate = our_rate / median([result.tokens_per_s for result in results])
        wait = our_wait / median([percentile(result.first_token_s, 99) or 0 for result in results])
        print(f"R1 Box / {name} at 8 streams: tokens/s {rate:.2f}x, first token p99 {wait:.2f}x")
    print(f"time outside llama_decode at 8 streams: {median(shares):.1%} of the load's wall time")


def test_idle_memory_and_start_without_a_model(tmp_path: Path) -> None:
    """Resident memory of the daemon without a model, and the time from the command to the first answer of HTTP."""
    starts, memory = [], []
    for number in range(ROUNDS + 1):
        home = Home(tmp_path / str(number // ROUNDS))
        started = time.perf_counter()
        box = start_box(home)
        _wait_for(lambda box=box: httpx.get(f"{box.url}/healthz").status_code == 200, box.process)  # type: ignore[arg-type,misc]
        starts.append(time.perf_counter() - started)
        memory.append(psutil.Process(box.process.pid).memory_info().rss / 1e6)
        box.stop()
    print(f"start to HTTP without a model: {median(starts):.2f} s; resident memory: {median(memory):.0f} MB")
