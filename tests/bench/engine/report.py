"""Runs a load on several servers in turn and prints medians, and how R1 Box stands to each peer."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Sequence

from rich.console import Console
from rich.table import Table

from tests.bench.engine.loads import Figures
from tests.bench.engine.servers import Server
from tests.bench.load import Target, median, run

ROUNDS = int(os.environ.get("R1BOX_BENCH_ROUNDS", "3"))

Load = Callable[[Target, int], Awaitable[Figures]]


def measure(load: Load, servers: Sequence[Server | None]) -> dict[str, list[Figures]]:
    """``ROUNDS`` times each server in turn: started, warmed up, loaded, stopped. A peer that was not given
    is left out."""
    found: dict[str, list[Figures]] = {}
    for round_number in range(ROUNDS):
        for server in servers:
            if server is None:
                continue
            with server.start() as target:
                asyncio.run(run(target, ["Hello.", "Hello there."], together=2, max_tokens=8))
                figures = asyncio.run(_load(load, target, time.monotonic_ns() % 1_000_000 + round_number))
            found.setdefault(server.name, []).append(figures)
    return found


async def _load(load: Load, target: Target, round_number: int) -> Figures:
    return await load(target, round_number)


def show(title: str, found: dict[str, list[Figures]]) -> None:
    """A table of medians: the first server is R1 Box, the others also as R1 Box divided by them."""
    ours, *_ = found.values()
    names = list(ours[0])
    busy = "/".join(f"{value:.1f}" for value in os.getloadavg())
    table = Table(title=f"{title} (median of {ROUNDS}; load average at the end {busy})", title_justify="left", box=None)
    table.add_column("server", no_wrap=True)
    for name in names:
        table.add_column(name, justify="right")
    middle = {server: {name: median([run[name] for run in runs]) for name in names} for server, runs in found.items()}
    first = next(iter(found))
    for server, values in middle.items():
        cells = []
        for name in names:
            ratio = ""
            if server != first and values[name] and name != "cut":
                ratio = f" ({middle[first][name] / values[name]:.2f}x)"
            cells.append(f"{values[name]:.3g}{ratio}" if values[name] < 1000 else f"{values[name]:.0f}{ratio}")
        table.add_row(server, *cells)
    Console(width=160).print(table)
    missing = [
        f"{peer} ({variable})"
        for peer, variable in (("llama-server", "R1BOX_BENCH_LLAMA_SERVER"), ("xllamacpp", "R1BOX_BENCH_XLLAMACPP"))
        if variable not in os.environ
    ]
    if missing:
        print(f"not given, so not measured: {', '.join(missing)}")
