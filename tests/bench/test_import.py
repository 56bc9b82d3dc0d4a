"""Importing and verifying a model against ``cp`` and ``sha256sum`` of the same file, and kill -9 in numbers.

Prints figures; only the kill rounds decide something. ``R1BOX_BENCH_IMPORT_MB`` is the size of the file (512),
``R1BOX_BENCH_KILLS`` the number of kills (200). Every figure is the median of ``ROUNDS`` runs, ours and the peer's in
turn, with the file in the page cache.
"""

from __future__ import annotations

import os
import random
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from rich.console import Console
from rich.table import Table

from models.importer import import_gguf
from models.model_store import ModelStore
from tests.models.killed_imports import CHUNK_BYTES, kill_imports, kill_resumes
from tests.models.store_samples import write_dense
from tests.models.test_gguf import write_r1_7b

pytestmark = pytest.mark.bench

ROUNDS = 3
MEGABYTES = int(os.environ.get("R1BOX_BENCH_IMPORT_MB", "512"))
KILLS = int(os.environ.get("R1BOX_BENCH_KILLS", "200"))


def seconds(action: Callable[[], object]) -> float:
    begin = time.perf_counter()
    action()
    return time.perf_counter() - begin


def compare(source: Path, folder: Path) -> dict[str, list[float]]:
    """Seconds of every run by what was done."""
    times: dict[str, list[float]] = {}
    copy = folder / "copy"
    root = folder / "store"

    def run(*command: str | Path) -> Callable[[], object]:
        return partial(subprocess.run, command, check=True, stdout=subprocess.DEVNULL)

    for _ in range(ROUNDS):
        store = ModelStore(root)
        steps: list[tuple[str, Callable[[], object]]] = [
            ("cp", run("cp", source, copy)),
            ("sha256sum", run("sha256sum", source)),
            ("sync of the copy", run("sync", copy)),
            ("import", partial(import_gguf, store, source)),
            ("import again (found)", partial(import_gguf, store, source)),
            ("verify", store.verify_all),
        ]
        for what, action in steps:
            times.setdefault(what, []).append(seconds(action))
        copy.unlink()
        shutil.rmtree(root)
    return times


def show(title: str, times: dict[str, list[float]]) -> None:
    median = {what: statistics.median(runs) for what, runs in times.items()}
    peers = {"import": median["cp"] + median["sha256sum"], "verify": median["sha256sum"]}
    table = Table("", "Median s", "All runs", "Of the peer's", title=title)
    for what, value in median.items():
        ratio = f"{value / peers[what]:.2f}" if what in peers else ""
        table.add_row(what, f"{value:.2f}", " ".join(f"{run:.2f}" for run in times[what]), ratio)
    Console(width=110).print(table)


def test_import_and_verify_beside_cp_and_sha256sum(tmp_path: Path) -> None:
    source = write_dense(tmp_path / "Random-Q8_0.gguf", MEGABYTES * 1024 * 1024)
    show(f"{source.stat().st_size / 1e6:,.0f} MB of random bytes", compare(source, tmp_path))


def test_a_sparse_file_beside_cp_and_sha256sum(tmp_path: Path) -> None:
    source = write_r1_7b(tmp_path / "DeepSeek-R1-Distill-Qwen-7B-Q4_K_M.gguf")
    show(f"{source.stat().st_size / 1e6:,.0f} MB, header and a hole", compare(source, tmp_path))


def test_kill_9_of_plain_imports(tmp_path: Path) -> None:
    source = write_dense(tmp_path / "Big.gguf", 12 * 1024 * 1024)
    taken = time.perf_counter()
    ended = kill_imports(tmp_path / "store", source, rounds=KILLS, most_steps=7, seed=random.randrange(10**6))
    Console().print(f"{KILLS} imports killed in {time.perf_counter() - taken:.0f} s, {ended} had ended: store clean")


def test_kill_9_of_resumed_imports(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(random.randbytes(20 * CHUNK_BYTES + 17))
    taken = time.perf_counter()
    done = kill_resumes(tmp_path / "store", source, rounds=KILLS, most_steps=25, seed=random.randrange(10**6))
    Console().print(f"{KILLS} resumed imports killed in {time.perf_counter() - taken:.0f} s: {done} models, none lost")
