"""Where the time of a decoding step goes, and how near it comes to what the memory can give.

A token of one stream reads every weight once, so that tokens/s times the weights' bytes cannot exceed the memory's
bandwidth (Williams, Waterman, Patterson: Roofline, 2009). With more streams a step reads the weights once for all of
them, and the arithmetic becomes the bound. Prints figures and decides nothing.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from rich.table import Table

from appliance.demo import demo_file
from models.gguf import read_header

pytestmark = pytest.mark.bench

BLOCK_BYTES = 256 << 20
ROUNDS = 5


def bandwidth_bytes_per_s() -> float:
    """What all cores together read from memory: the best of several sums over blocks that no cache holds."""
    cores = os.cpu_count() or 1
    blocks = [np.ones(BLOCK_BYTES // 8, np.float64) for _ in range(cores)]
    best = 0.0
    for _ in range(ROUNDS):
        readers = [threading.Thread(target=block.sum) for block in blocks]
        started = time.perf_counter()
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join()
        best = max(best, cores * BLOCK_BYTES / (time.perf_counter() - started))
    return best


def weight_bytes(file: Path) -> int:
    """Bytes of the tensors that a token reads: all of them, the embedding as the output where they are one."""
    return sum(tensor.size_bytes for tensor in read_header(file).tensors)


def decode(sequences: int, *words: str) -> tuple[dict[str, float], str]:
    """What ``decode_child`` measured for so many sequences, and what else it printed."""
    command = [sys.executable, "-m", "tests.bench.engine.decode_child", str(sequences), *words]
    environment = {**os.environ, "GOMP_SPINCOUNT": "1000"}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, timeout=600, check=True)
    figures, _, rest = done.stdout.partition("\n")
    return json.loads(figures), rest


def test_roofline() -> None:
    """Bytes read per token times tokens/s against the bandwidth that was measured just before."""
    bandwidth = bandwidth_bytes_per_s()
    weights = weight_bytes(demo_file())
    table = Table(title=f"memory reads {bandwidth / 1e9:.1f} GB/s; the weights are {weights / 1e6:.0f} MB", box=None)
    for name in ("streams", "tokens/s", "steps/s", "weights read GB/s", "of the bandwidth", "outside llama_decode"):
        table.add_column(name, justify="right")
    for sequences in (1, 4, 8, 16):
        figures, _ = decode(sequences)
        rate = figures["tokens_per_s"]
        steps_per_s = rate / sequences
        read = steps_per_s * weights
        outside = 1 - figures["decode_s"] / figures["busy_s"]
        table.add_row(
            str(sequences), f"{rate:.0f}", f"{steps_per_s:.0f}", f"{read / 1e9:.1f}", f"{read / bandwidth:.0%}",
            f"{outside:.1%}",
        )  # fmt: skip
    Console(width=120).print(table)


def test_where_the_time_goes() -> None:
    """The functions that take most of 16 streams' time, without those they call."""
    figures, profile = decode(16, "profile")
    rate, decode_s = figures["tokens_per_s"], figures["decode_s"]
    print(f"16 streams: {rate:.0f} tokens/s under the profiler, {decode_s:.2f} s in llama_decode")
    print(profile)
