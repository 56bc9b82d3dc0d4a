"""What telemetry costs: processor time for each sample of 16 cards, in the daemon and in the library's child; memory.

Prints figures and decides nothing. The cards are the compiled fake library's, so the child's share is that of Python
and of the calls, not of a driver in the kernel.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from rich.console import Console
from rich.table import Table

from drivers.command import minimal_environment
from drivers.host_sample import HostSampler
from drivers.nvidia_monitor import NvidiaMonitor
from drivers.telemetry import Sampler
from drivers.telemetry_types import Clock
from tests.fakes.nvml.build import build_fake_nvml, write_scenario
from tests.fakes.nvml.scenarios import h20_box

pytestmark = pytest.mark.bench

CARDS = 16
SAMPLES = 10_000
WARM_UP = 100


@dataclass
class Rig:
    """A sampler whose seconds pass as fast as the machine can sample them."""

    sampler: Sampler
    hands: list[float]
    child: psutil.Process

    def run(self, samples: int) -> None:
        for _ in range(samples):
            self.hands[0] += 1.0
            for watch in self.sampler.watches:
                watch.step()


def cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Rig]:
    build_fake_nvml(tmp_path)
    scenario = write_scenario(tmp_path / "scenario", h20_box(CARDS))
    environment = minimal_environment(LD_LIBRARY_PATH=str(tmp_path), FAKE_NVML_SCENARIO=str(scenario))
    hands = [1000.0]
    before = set(psutil.Process().children())
    sampler = Sampler(
        [NvidiaMonitor(environment=environment)], HostSampler(tmp_path), clock=Clock(lambda: hands[0], time.time)
    )
    for watch in sampler.watches:
        watch.step()
    (child,) = set(psutil.Process().children()) - before
    yield Rig(sampler, hands, child)
    sampler.stop()


def test_processor_time_and_memory_of_ten_thousand_samples(made: Rig) -> None:
    """Sixteen cards and the host, a sample after the other; the share of a core is for one sample a second."""
    made.run(WARM_UP)
    here = psutil.Process()
    before = [(cpu_s(process), process.memory_info().rss) for process in (here, made.child)]
    started = time.perf_counter()
    made.run(SAMPLES)
    seconds = time.perf_counter() - started
    table = Table(title=f"{SAMPLES} samples of {CARDS} cards and the host", title_justify="left", box=None)
    for name in ("process", "CPU per sample", "share of a core at 1 Hz", "memory before", "after"):
        table.add_column(name, justify="left" if name == "process" else "right")
    total = 0.0
    for name, process, (cpu_before, rss_before) in zip(("daemon", "child"), (here, made.child), before, strict=True):
        each = (cpu_s(process) - cpu_before) / SAMPLES
        total += each
        rss = process.memory_info().rss
        table.add_row(name, f"{each * 1e3:.2f} ms", f"{each:.2%}", f"{rss_before / 1e6:.1f} MB", f"{rss / 1e6:.1f} MB")
    table.add_row("both", f"{total * 1e3:.2f} ms", f"{total:.2%}", "", "")
    Console(width=120).print(table)
    reading = made.sampler.reading()
    print(f"wall time of a sample {seconds / SAMPLES * 1e3:.2f} ms; history {made.sampler.history_bytes / 1e6:.2f} MB")
    assert len(reading.devices) == CARDS


def test_an_hour_of_history_for_a_plot(made: Rig) -> None:
    """Reading everything of an hour, and a console's question for one series."""
    made.run(3600)
    for title, series in (("everything", ()), ("one series", ("nvidia:0/power_watts",))):
        started = time.perf_counter()
        history = made.sampler.history(3600, 120, series)
        spent = time.perf_counter() - started
        print(f"an hour in 120 points, {title}: {len(history.series)} series in {spent * 1e3:.1f} ms")
    assert history.buckets == 120


def test_the_host_alone(tmp_path: Path) -> None:
    """The host's sample, which every box takes."""
    sampler = HostSampler(tmp_path)
    sampler.sample()
    started = time.process_time()
    for _ in range(500):
        sampler.sample()
    each = (time.process_time() - started) / 500
    print(f"host sample: {each * 1e3:.2f} ms of processor time, {each:.2%} of a core at 1 Hz")
