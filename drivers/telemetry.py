"""Samples all devices and the host once a second, keeps an hour of it, and tells what changed.

Each monitor has a thread of its own: a library that hangs stops its own devices' samples and nothing else. What was
not sampled for five intervals reads as unknown, never as its last value. A monitor that fails is asked again after
growing pauses, and the log says it once (gpustack #2135: a line for every poll fills the disk).
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence

from drivers.errors import DriverError
from drivers.telemetry_devices import DeviceBoard
from drivers.telemetry_events import EventLog
from drivers.telemetry_history import DEVICE_FIELDS, HISTORY_S, HOST_FIELDS, History
from drivers.telemetry_types import Clock, HistoryReading, HostSample, TelemetryEvent, TelemetryReading
from drivers.telemetry_watch import Source, Watch
from drivers.types import DeviceSample, Monitor

HOST = "host"
"""The subject of the host's series; no device has this key."""
STALE_INTERVALS = 5
STOP_TIMEOUT_S = 10.0
"""How long a monitor may take to come back from its question when the daemon stops; its own limit is shorter."""

logger = logging.getLogger(__name__)


class UnknownSeries(DriverError):
    """A history was asked for that there is none of; ``param`` is the name given."""

    def __init__(self, name: str) -> None:
        hint = "A series is a device's key or host, or one field of it, such as host/cpu_percent."
        super().__init__("unknown_series", f"There is no series {name!r}.", hint, http_status=400, param="series")


class Sampler:
    """Starts and ends with the daemon. Without ``start`` nothing runs by itself: then ``watches`` are stepped.

    ``reading`` never waits; ``events`` and ``history`` wait for no device.
    """

    def __init__(
        self,
        monitors: Sequence[Monitor],
        host: Source[HostSample],
        *,
        interval_s: float = 1.0,
        history_s: float = HISTORY_S,
        clock: Clock | None = None,
    ) -> None:
        """``interval_s`` is the shortest time between two questions; a monitor may ask for a longer one."""
        self._interval_s = interval_s
        self._clock = clock or Clock()
        self._events = EventLog(self._clock)
        self._history = History(history_s)
        self._host: tuple[HostSample, float] | None = None
        watches: list[Watch[HostSample] | Watch[tuple[DeviceSample, ...]]] = [
            Watch(host, lambda: interval_s, self._note_host, self._events, self._clock)
        ]
        boards: list[tuple[DeviceBoard, Watch[tuple[DeviceSample, ...]]]] = []
        for monitor in monitors:
            board = DeviceBoard(monitor.name, self._events, self._history)
            watch = Watch(monitor, _pace(monitor, interval_s), board.note, self._events, self._clock)
            boards.append((board, watch))
            watches.append(watch)
        self._boards = tuple(boards)
        self.watches = tuple(watches)
        self._stop = threading.Event()
        self._threads: tuple[threading.Thread, ...] = ()

    def start(self) -> None:
        """Begin to sample. Returns at once."""
        if self._threads or self._stop.is_set():
            raise RuntimeError("a sampler is started once")
        self._threads = tuple(
            threading.Thread(target=self._run, args=(watch,), name=f"telemetry-{watch.name}", daemon=True)
            for watch in self.watches
        )
        for thread in self._threads:
            thread.start()

    def ask_to_stop(self) -> None:
        """No more questions. Returns at once."""
        self._stop.set()

    def stop(self, timeout_s: float = STOP_TIMEOUT_S) -> bool:
        """End all threads and with them the monitors' children; whether all ended in time. Idempotent. Blocks."""
        self.ask_to_stop()
        if not self._threads:
            for watch in self.watches:
                watch.close()
        deadline = time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        hanging = [thread.name for thread in self._threads if thread.is_alive()]
        if hanging:
            logger.warning("did not end within %g s and is left behind: %s", timeout_s, ", ".join(hanging))
        return not hanging

    def reading(self) -> TelemetryReading:
        """What is known now."""
        now_s = self._clock.monotonic()
        host = self._host
        fresh = host is not None and now_s - host[1] <= STALE_INTERVALS * self._interval_s
        devices = [
            board.read(now_s, STALE_INTERVALS * watch.reading.interval_s, self._clock) for board, watch in self._boards
        ]
        return TelemetryReading(
            at_s=self._clock.wall(),
            host=host[0] if host is not None and fresh else None,
            devices=tuple(reading for readings in devices for reading in readings),
            monitors=tuple(watch.reading for watch in self.watches),
        )

    def events(self, since: int = 0) -> tuple[TelemetryEvent, ...]:
        """Events with an id greater than ``since``, oldest first."""
        return self._events.since(since)

    def history(self, seconds: float, points: int, series: Sequence[str] = ()) -> HistoryReading:
        """The last ``seconds`` in at most ``points`` buckets. ``series`` are names such as ``host``, ``nvidia:0`` or
        ``nvidia:0/power_watts``; without them everything. Raises ``UnknownSeries``."""
        every = [(HOST, field) for field in HOST_FIELDS]
        every += [(key, field) for board, _ in self._boards for key in board.keys for field in DEVICE_FIELDS]
        wanted: dict[tuple[str, str], None] = {} if series else dict.fromkeys(every)
        for name in series:
            found = [one for one in every if name in (one[0], "/".join(one))]
            if not found:
                raise UnknownSeries(name)
            wanted |= dict.fromkeys(found)
        return self._history.read(
            wanted, now_s=self._clock.monotonic(), now_at_s=self._clock.wall(), seconds=seconds, points=points
        )

    @property
    def history_bytes(self) -> int:
        """Bytes that the kept samples take."""
        return self._history.used_bytes

    def _run(self, watch: Watch[HostSample] | Watch[tuple[DeviceSample, ...]]) -> None:
        """The thread of one watch."""
        pause_s = 0.0
        try:
            while not self._stop.wait(pause_s):
                pause_s = watch.step()
                for other in self.watches:
                    other.check_overdue()
        finally:
            watch.close()

    def _note_host(self, sample: HostSample, now_s: float, interval_s: float) -> None:
        self._host = (sample, now_s)
        for field in HOST_FIELDS:
            self._history.note(HOST, field, getattr(sample, field), at_s=now_s, interval_s=interval_s)


def _pace(monitor: Monitor, interval_s: float) -> Callable[[], float]:
    """A monitor's interval may change: with a library it is shorter than with a tool."""
    return lambda: max(interval_s, monitor.interval_s)
