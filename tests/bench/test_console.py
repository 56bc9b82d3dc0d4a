"""The console: start to the first useful screen, reaction to keys, and what it costs at rest, itself and the daemon.

Prints figures and decides nothing. The aims (issue 7): first screen under 0.8 s, reaction p99 under 50 ms with 16
cards and 200 streams, under 3 % of a core at rest, under 120 MB, under 1 % of a core of the daemon.
"""

from __future__ import annotations

import os
import pty
import select
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC
from pathlib import Path

import psutil
import pytest

from appliance.schemas.accounts import KeyList
from tests.e2e.box import Home, start_box
from tests.tui.bodies import keys, live
from tests.tui.boxes import FixedClient, StillClock, answers, card
from tui.app import ConsoleApp
from tui.look import Look

pytestmark = pytest.mark.bench

STARTS = 5
KEYS = 300
REST_S = 20.0


@contextmanager
def terminal(home: Home, compiled: Path) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """The console in a terminal of 80x24, as a process. ``compiled`` keeps the compiled modules, which an installed box
    has and a source tree on a machine that writes none has not."""
    leader, follower = pty.openpty()
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    process = subprocess.Popen(
        [sys.executable, "-m", "tui", "--socket", str(home.state_dir / "admin.sock")],
        stdin=follower, stdout=follower, stderr=follower, start_new_session=True,
        env={
            **environment, "PYTHONPYCACHEPREFIX": str(compiled), "TERM": "xterm-256color", "COLUMNS": "80",
            "LINES": "24",
        },
    )  # fmt: skip
    os.close(follower)
    try:
        yield process, leader
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        os.close(leader)


def read_until(leader: int, wanted: bytes, timeout_s: float = 60.0) -> float:
    """Seconds until the terminal shows it."""
    started, seen = time.perf_counter(), b""
    while wanted not in seen:
        left_s = timeout_s - (time.perf_counter() - started)
        assert left_s > 0, seen[-500:]
        if select.select([leader], [], [], left_s)[0]:
            seen += os.read(leader, 65536)
    return time.perf_counter() - started


def drain(leader: int, seconds: float) -> None:
    """Take what comes, as a terminal does."""
    end_s = time.perf_counter() + seconds
    while (left_s := end_s - time.perf_counter()) > 0:
        if select.select([leader], [], [], left_s)[0]:
            os.read(leader, 65536)


def busy_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def test_start_and_rest(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.import_model()
    box = start_box(home, "--seats", "2", "--context", "1024")
    try:
        compiled, starts = tmp_path / "compiled", []
        for _ in range(STARTS + 1):
            with terminal(home, compiled) as (_process, leader):
                starts.append(read_until(leader, b"READY"))
        first, *others = starts
        print(
            f"\nstart to the first useful screen: median {statistics.median(others):.2f} s, {min(others):.2f} s at "
            f"best; {first:.2f} s where its modules were not compiled yet"
        )
        daemon = psutil.Process(box.process.pid)
        before_s = busy_s(daemon)
        time.sleep(REST_S)
        alone = (busy_s(daemon) - before_s) / REST_S
        with terminal(home, compiled) as (process, leader):
            read_until(leader, b"READY")
            drain(leader, 3)
            console = psutil.Process(process.pid)
            before_s, daemon_before_s = busy_s(console), busy_s(daemon)
            drain(leader, REST_S)
            share = (busy_s(console) - before_s) / REST_S
            watched = (busy_s(daemon) - daemon_before_s) / REST_S
            megabytes = console.memory_info().rss / 1e6
        print(f"at rest on the dashboard: {share:.1%} of a core, {megabytes:.0f} MB resident")
        print(f"the daemon: {watched:.1%} of a core with one console, {alone:.1%} without")
    finally:
        box.stop()


async def test_reaction_to_keys() -> None:
    bodies = answers(devices=tuple(card(index) for index in range(16)))
    bodies["/api/admin/requests/live"] = live(1000, answered=200)
    bodies["/api/admin/keys"] = KeyList(items=keys(10_000).items)
    app = ConsoleApp(FixedClient(bodies), look=Look(), clock=StillClock(), zone=UTC, poll_s=1.0)
    async with app.run_test(size=(200, 60)) as pilot:
        for name in ("dashboard", "cards", "requests", "keys", "jobs"):
            app.switch_mode(name)
            await pilot.pause(0.3)
            took, worked = [], []
            for number in range(KEYS // 5):
                key = ("down", "pagedown", "end", "up", "home")[number % 5]
                started_s, busy = time.perf_counter(), time.process_time()
                # Presses it, and waits until everything it led to is drawn.
                await pilot.press(key)
                took.append(time.perf_counter() - started_s)
                worked.append(time.process_time() - busy)
            line = "  ".join(
                f"{word} median {statistics.median(values) * 1000:.0f} ms, p99 {sorted(values)[-2] * 1000:.0f} ms"
                for word, values in (("waited", took), ("computed", worked))
            )
            print(f"{name:<10} {line}")
