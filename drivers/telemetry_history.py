"""An hour of samples in rings of fixed size: four bytes for each sample, NaN for what is not known.

An hour at 1 Hz takes 14.4 kB a series: 16 devices with six fields and the host's eight are 1.5 MB.
"""

from __future__ import annotations

import math
import threading
from array import array
from collections.abc import Iterable
from itertools import pairwise

from drivers.telemetry_types import HistoryReading, SeriesHistory

HISTORY_S = 3600.0
SAMPLE_FIELDS = ("utilization_percent", "memory_used_bytes", "temperature_celsius", "power_watts", "clock_mhz")
"""Fields of ``DeviceSample`` that are kept."""
THROTTLED = "throttled"
"""0 or 1: whether the device slowed itself down for an alarming reason."""
DEVICE_FIELDS = (*SAMPLE_FIELDS, THROTTLED)
HOST_FIELDS = (
    "cpu_percent",
    "load_1",
    "memory_used_bytes",
    "swap_used_bytes",
    "disk_used_bytes",
    "network_in_bytes_per_s",
    "network_out_bytes_per_s",
    "cpu_temperature_celsius",
)
_DIGITS = 7
"""What a float of four bytes holds; more would be noise in the answer."""


class Ring:
    """The last samples of one series, in slots of ``interval_s``; slot 0 is the first sample's. Not thread-safe."""

    __slots__ = ("_values", "interval_s", "newest", "origin_s")

    def __init__(self, slots: int, interval_s: float, origin_s: float) -> None:
        self._values = array("f", [math.nan]) * slots
        self.interval_s = interval_s
        self.origin_s = origin_s
        self.newest = -1

    def put(self, at_s: float, value: float) -> None:
        """Note a sample. Slots that were passed over are unknown; a moment before the newest one is left out."""
        slot = round((at_s - self.origin_s) / self.interval_s)
        if slot < max(self.newest, 0):
            return
        size = len(self._values)
        for skipped in range(max(self.newest + 1, slot - size), slot):
            self._values[skipped % size] = math.nan
        self._values[slot % size] = value
        self.newest = slot

    @property
    def used_bytes(self) -> int:
        """Bytes of the samples."""
        return len(self._values) * self._values.itemsize

    def newest_s(self) -> float:
        """The moment of the newest sample."""
        return self.origin_s + self.newest * self.interval_s

    def copy(self) -> Ring:
        """The same samples, apart from this ring."""
        other = Ring(0, self.interval_s, self.origin_s)
        other._values, other.newest = self._values[:], self.newest
        return other

    def between(self, start_s: float, end_s: float) -> list[float]:
        """Known samples of that time, oldest first; a time shorter than a slot gets the slot that it lies in."""
        first = math.ceil((start_s - self.origin_s) / self.interval_s)
        last = math.ceil((end_s - self.origin_s) / self.interval_s)
        if first >= last:
            first = round(((start_s + end_s) / 2 - self.origin_s) / self.interval_s)
            last = first + 1
        size = len(self._values)
        first, last = max(first, 0, self.newest + 1 - size), min(last, self.newest + 1)
        if first >= last:
            return []
        begin, end = first % size, (last - 1) % size + 1
        chunk = self._values[begin:end] if begin < end else self._values[begin:] + self._values[:end]
        return [value for value in chunk if value == value]  # NaN is not itself


class History:
    """Rings by subject and field. Safe for several threads; ``note`` never waits for a reader's computing."""

    def __init__(self, history_s: float = HISTORY_S) -> None:
        self.history_s = history_s
        self._lock = threading.Lock()
        self._rings: dict[tuple[str, str], Ring] = {}

    def note(self, subject: str, field: str, value: float | None, *, at_s: float, interval_s: float) -> None:
        """Note a sample taken at ``at_s`` (monotonic), one of every ``interval_s``. Unknown values leave a gap."""
        if value is None or not math.isfinite(value):
            return
        with self._lock:
            ring = self._rings.get((subject, field))
            if ring is None:
                self._forget_before(at_s - self.history_s)
                slots = max(1, math.ceil(self.history_s / interval_s))
                ring = self._rings[subject, field] = Ring(slots, interval_s, at_s)
            ring.put(at_s, value)

    def read(
        self, names: Iterable[tuple[str, str]], *, now_s: float, now_at_s: float, seconds: float, points: int
    ) -> HistoryReading:
        """The last ``seconds`` in at most ``points`` buckets, never shorter than the fastest of the series' intervals.

        Buckets begin at multiples of their length, so that the same samples stay together from one question to the
        next. A name that was never noted is unknown throughout.
        """
        with self._lock:
            self._forget_before(now_s - self.history_s)
            rings = {name: ring.copy() if (ring := self._rings.get(name)) else None for name in names}
        fastest = min((ring.interval_s for ring in rings.values() if ring is not None), default=1.0)
        step_s = max(seconds / points, fastest)
        buckets = max(1, math.ceil(seconds / step_s - 1e-9))
        first = math.floor(now_s / step_s) + 1 - buckets
        edges = [(first + number) * step_s for number in range(buckets + 1)]
        return HistoryReading(
            start_at_s=now_at_s - (now_s - edges[0]),
            step_s=step_s,
            buckets=buckets,
            series=tuple(_series(name, ring, edges) for name, ring in rings.items()),
        )

    @property
    def used_bytes(self) -> int:
        """Bytes of all samples."""
        with self._lock:
            return sum(ring.used_bytes for ring in self._rings.values())

    def _forget_before(self, moment_s: float) -> None:
        for name in [name for name, ring in self._rings.items() if ring.newest_s() < moment_s]:
            del self._rings[name]


def _series(name: tuple[str, str], ring: Ring | None, edges: list[float]) -> SeriesHistory:
    minimum: list[float | None] = []
    mean: list[float | None] = []
    maximum: list[float | None] = []
    for begin_s, end_s in pairwise(edges):
        values = [] if ring is None else ring.between(begin_s, end_s)
        if values:
            minimum.append(_rounded(min(values)))
            mean.append(_rounded(math.fsum(values) / len(values)))
            maximum.append(_rounded(max(values)))
        else:
            minimum.append(None)
            mean.append(None)
            maximum.append(None)
    return SeriesHistory(*name, tuple(minimum), tuple(mean), tuple(maximum))


def _rounded(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")
