"""The whole catalogue planned for boxes of several sizes, and the header of the 671B read with its whole vocabulary.

Prints figures and decides nothing. The header has the names and shapes of the real model and a vocabulary of the real
size (129,280 tokens, 127,741 merges); the data behind it is a hole. Medians of ``ROUNDS``.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from models.catalogue import load_catalogue
from models.planner import plan
from models.types import EngineName
from tests.bench.load import median
from tests.fakes.gguf_writer import TypedList, write_gguf
from tests.models.golden_machines import build
from tests.models.r1_files import metadata, tensors

pytestmark = pytest.mark.bench

ROUNDS = 9
MACHINES = ("1 T4 15 / host 64", "8 H20 95.6 / host 2048", "8 910B3 64 / host 1024", "16 910C 64 / host 2048")
TOKENS, MERGES = 129_280, 127_741
READER = """
import sys, time
from pathlib import Path
from models.gguf import read_header

def peak_mib():
    # Not getrusage: its peak is inherited from the process that forked.
    line = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024

before = peak_mib()
started = time.perf_counter()
header = read_header(Path(sys.argv[1]))
taken = time.perf_counter() - started
assert header.parameters > 600e9, header.parameters
print(taken, peak_mib() - before)
"""


def seconds(action: Callable[[], object]) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def test_planning_the_whole_catalogue() -> None:
    catalogue = load_catalogue()
    combinations = sum(len(v.quantizations) + len(v.hub_forms) for v in catalogue.variants)
    reading = median([seconds(load_catalogue) for _ in range(ROUNDS)])
    print(f"\nreading the catalogue ({combinations} forms)   {reading * 1000:6.1f} ms")
    for line in MACHINES:
        snapshot = build(line)
        for title, engines in (("llama.cpp", (EngineName.LLAMA_CPP,)), ("all engines", tuple(EngineName))):
            runs = [seconds(lambda s=snapshot, e=engines: plan(catalogue, s, engines=e)) for _ in range(ROUNDS)]  # type: ignore[misc]
            print(f"plan {line:<24} {title:<12} {median(runs) * 1000:6.1f} ms")


def test_header_of_the_671b(tmp_path: Path) -> None:
    variant = load_catalogue().variant("R1-671B")
    assert variant is not None
    entries = metadata(variant, "Q8_0") | {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "deepseek-v3",
        "tokenizer.ggml.tokens": TypedList(8, [f"token{number:06d}" for number in range(TOKENS)]),
        "tokenizer.ggml.token_type": TypedList(5, [1] * TOKENS),
        "tokenizer.ggml.merges": TypedList(8, [f"a{number} b{number}" for number in range(MERGES)]),
        "tokenizer.chat_template": "{{ bos_token }}" + "x" * 4000,
    }
    path = write_gguf(tmp_path / "r1-671b.gguf", entries, tensors(variant, "Q8_0"))
    runs, memory = [], []
    for _ in range(ROUNDS):
        done = subprocess.run(
            [sys.executable, "-c", READER, str(path)], capture_output=True, text=True, check=True, timeout=60
        )
        taken, mib = (float(word) for word in done.stdout.split())
        runs.append(taken)
        memory.append(mib)
    size_gb = path.stat().st_size / 1e9
    print(f"\nheader of 671B ({size_gb:.0f} GB file)   {median(runs) * 1000:6.0f} ms, {median(memory):.0f} MiB")
