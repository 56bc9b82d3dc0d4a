"""A clock that stands still until told, monitors that say what a test writes, and a sampler over them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from drivers.errors import MonitorFailed
from drivers.telemetry import Sampler
from drivers.telemetry_types import Clock, HostSample
from drivers.types import DeviceSample, Health

START_AT_S = 1_700_000_000.0
HOST_SAMPLE = HostSample(cpu_percent=12.5, memory_used_bytes=3 << 30, memory_total_bytes=8 << 30)


@dataclass
class Hands:
    """Both clocks of a test; the wall clock begins in 2023."""

    now_s: float = 1000.0

    def clock(self) -> Clock:
        return Clock(lambda: self.now_s, lambda: START_AT_S + self.now_s - 1000.0)


Answer = Sequence[DeviceSample] | Exception


@dataclass
class ScriptedMonitor:
    """Says ``answer`` each time; an exception is raised."""

    name: str = "nvidia"
    interval_s: float = 1.0
    answer: Answer = ()
    asked: int = 0
    closed: int = 0

    def sample(self) -> tuple[DeviceSample, ...]:
        self.asked += 1
        if isinstance(self.answer, Exception):
            raise self.answer
        return tuple(self.answer)

    def close(self) -> None:
        self.closed += 1


@dataclass
class HangingMonitor:
    """Never answers until it is let go."""

    name: str = "ascend"
    interval_s: float = 1.0
    asked: threading.Event = field(default_factory=threading.Event)
    go: threading.Event = field(default_factory=threading.Event)

    def sample(self) -> tuple[DeviceSample, ...]:
        self.asked.set()
        self.go.wait()
        return ()

    def close(self) -> None:
        self.go.set()


@dataclass
class ScriptedHost:
    """A host that says what a test writes."""

    answer: HostSample = HOST_SAMPLE
    name: str = "host"
    on_sample: Callable[[], None] = lambda: None

    def sample(self) -> HostSample:
        self.on_sample()
        return self.answer

    def close(self) -> None:
        pass


@dataclass
class Rig:
    """A sampler with its clock and its monitors."""

    sampler: Sampler
    hands: Hands

    def step(self, seconds: float = 0.0) -> list[float]:
        """Let that time pass, then ask every source once; the pauses that they name."""
        self.hands.now_s += seconds
        return [watch.step() for watch in self.sampler.watches]

    def kinds(self, since: int = 0) -> list[str]:
        return [event.kind.value for event in self.sampler.events(since)]


def rig(*monitors: ScriptedMonitor | HangingMonitor, interval_s: float = 1.0, history_s: float = 3600.0) -> Rig:
    hands = Hands()
    sampler = Sampler(monitors, ScriptedHost(), interval_s=interval_s, history_s=history_s, clock=hands.clock())
    return Rig(sampler, hands)


def card(number: int = 0, **changes: object) -> DeviceSample:
    """A busy card; ``changes`` are fields of its sample."""
    values: dict[str, object] = {
        "health": Health.OK,
        "utilization_percent": 50.0 + number,
        "memory_used_bytes": 40 << 30,
        "memory_total_bytes": 64 << 30,
        "temperature_celsius": 54.0,
        "power_watts": 210.5,
        "clock_mhz": 1800,
    }
    return DeviceSample(f"nvidia:{number}", **(values | changes))  # type: ignore[arg-type]


def lost(number: int = 0, problem: str = "It has fallen off the bus.") -> DeviceSample:
    return DeviceSample(f"nvidia:{number}", problem=problem)


def refused(code: str = "monitor_refused") -> MonitorFailed:
    return MonitorFailed(code, "The driver and its library differ.", "Restart the machine.")
