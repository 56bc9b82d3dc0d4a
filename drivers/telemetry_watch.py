"""Asks one source again and again: when it is due, with growing pauses while it fails, and tells how it does.

WAITING -> OK <-> FAILED        one writer: the thread that calls ``step`` (``check_overdue``: any)
WAITING | OK | FAILED -> UNAVAILABLE -> OK
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Generic, Protocol, TypeVar

from drivers.errors import DriverError, MonitorFailed
from drivers.telemetry_events import EventLog, Settled
from drivers.telemetry_types import Clock, EventKind, MonitorReading, MonitorState
from drivers.types import Severity

FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 60.0
FIRST_UNAVAILABLE_PAUSE_S = 15.0
LONGEST_UNAVAILABLE_PAUSE_S = 600.0
"""How often to look whether there is something to monitor now: soon after a boot, which may be slow, then rarely,
because looking starts a child."""
OVERDUE_S = 30.0
"""A question without an answer for this long counts as failed, although its thread still waits for it."""
UNAVAILABLE = "monitor_unavailable"

logger = logging.getLogger(__name__)
_T_co = TypeVar("_T_co", covariant=True)
_T = TypeVar("_T")


class Source(Protocol[_T_co]):
    """What can be asked: a ``Monitor``, or the host's sampler."""

    @property
    def name(self) -> str: ...

    def sample(self) -> _T_co: ...

    def close(self) -> None: ...


class Watch(Generic[_T]):
    """One source. ``step`` and ``close`` belong to one thread; the rest is for any."""

    def __init__(
        self,
        source: Source[_T],
        pace: Callable[[], float],
        note: Callable[[_T, float, float], None],
        events: EventLog,
        clock: Clock,
    ) -> None:
        """``pace`` tells the interval in force, which may change; ``note`` takes a good answer, the moment (monotonic)
        at which it was asked for and the interval."""
        self._source = source
        self._pace = pace
        self._interval_s = pace()
        self._note = note
        self._events = events
        self._clock = clock
        self._lock = threading.Lock()
        self._reading = MonitorReading(source.name, self._interval_s)
        self._up: Settled[bool] = Settled(True, lambda told, new: told and not new)
        self._asked_s: float | None = None
        self._beat_s: float | None = None

    @property
    def name(self) -> str:
        """The source's."""
        return self._source.name

    @property
    def reading(self) -> MonitorReading:
        """How it does. Never waits."""
        return self._reading

    def step(self) -> float:
        """Ask once; the result is the pause in seconds before the next question. Never raises."""
        started_s = self._clock.monotonic()
        self._asked_s = started_s
        if self._beat_s is None:
            self._beat_s = started_s
        try:
            answer = self._source.sample()
            self._note(answer, started_s, self._interval_s)
        except MonitorFailed as error:
            return self._failed(error)
        except Exception as error:  # the top of the loop: a broken monitor must not end the others
            if self._up.told:
                logger.exception("the %s monitor is broken", self.name)
            message = f"{type(error).__name__}: {error}"
            hint = "This is a fault of the program, not of the hardware: please report it with the log."
            return self._failed(MonitorFailed("monitor_broken", message, hint))
        finally:
            self._asked_s = None
        self._answered(started_s)
        return self._until_beat(0.0)

    def check_overdue(self) -> None:
        """Tell of a question that is not answered. Called by the threads of the other watches."""
        asked_s = self._asked_s
        if asked_s is None or self._clock.monotonic() - asked_s <= OVERDUE_S:
            return
        with self._lock:
            if self._asked_s == asked_s and self._reading.code != "monitor_hangs":
                hint = "Read dmesg: a call that never returns hangs in the kernel's driver."
                message = f"It has given no answer for {OVERDUE_S:g} s."
                self._tell_failure(DriverError("monitor_hangs", message, hint))

    def close(self) -> None:
        """End what the source holds, such as a child process."""
        try:
            self._source.close()
        except Exception:
            logger.exception("the %s monitor could not be closed", self.name)

    def _answered(self, started_s: float) -> None:
        with self._lock:
            changed = self._up.update(True, started_s)
            # A monitor that fails every other time is asked as rarely as one that fails always.
            failures = 0 if self._up.told else self._reading.failures
            self._reading = MonitorReading(
                self.name,
                self._interval_s,
                MonitorState.OK,
                failures=failures,
                answered_at_s=self._clock.at_s(started_s),
            )
        if changed:
            message = f"The {self.name} monitor answers again."
            self._events.add(EventKind.MONITOR_BACK, self.name, message, Severity.INFO)

    def _failed(self, error: DriverError) -> float:
        with self._lock:
            never_worked = self._reading.answered_at_s is None
            if error.code == UNAVAILABLE and (never_worked or self._reading.state is MonitorState.UNAVAILABLE):
                self._reading = self._with_reason(error, MonitorState.UNAVAILABLE)
                first_s, longest_s = FIRST_UNAVAILABLE_PAUSE_S, LONGEST_UNAVAILABLE_PAUSE_S
            else:
                self._tell_failure(error)
                first_s, longest_s = FIRST_PAUSE_S, LONGEST_PAUSE_S
            doublings = min(self._reading.failures - 1, 16)
            return self._until_beat(min(longest_s, first_s * 2.0**doublings))

    def _tell_failure(self, error: DriverError) -> None:
        self._reading = self._with_reason(error, MonitorState.FAILED)
        if self._up.update(False, self._clock.monotonic()):
            message = f"The {self.name} monitor failed: {error.message}"
            self._events.add(EventKind.MONITOR_FAILED, self.name, message, Severity.WARNING)

    def _with_reason(self, error: DriverError, state: MonitorState) -> MonitorReading:
        failures = self._reading.failures + 1 if self._reading.state in (state, MonitorState.OK) else 1
        return replace(
            self._reading,
            state=state,
            code=error.code,
            reason=error.message,
            hint=error.hint,
            failures=failures,
        )

    def _until_beat(self, pause_s: float) -> float:
        """Seconds to the first beat after about ``pause_s``.

        Questions begin at multiples of the interval after the first one, whatever the answers take, so that each
        sample gets its own slot of the history.
        """
        now_s = self._clock.monotonic()
        self._interval_s = self._pace()
        first_s = self._beat_s if self._beat_s is not None else now_s
        earliest_s = now_s + max(0.0, pause_s - self._interval_s) - first_s
        return first_s + (earliest_s // self._interval_s + 1) * self._interval_s - now_s
