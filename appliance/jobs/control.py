"""Between a job's work, which runs in a thread, and the event loop: how far it is, and whether it is to end."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from appliance.jobs.errors import JobCancelled


@dataclass(frozen=True, slots=True)
class Reading:
    """How far a work is. Bytes where it counts bytes, else a fraction; ``None`` is unknown."""

    phase: str | None = None
    done_bytes: int | None = None
    total_bytes: int | None = None
    fraction: float | None = None


class Control:
    """Given to a work. Its methods may be called from any thread; a work that is to end gets JobCancelled from them.

    The works' functions leave nothing half done behind when an exception goes through them (resumable ones keep what
    they can go on from), so an exception is all that a cancel needs.
    """

    def __init__(self) -> None:
        self._cancelled = threading.Event()
        # One attribute, replaced whole: the loop reads it while threads write it.
        self.reading = Reading()

    @property
    def is_cancelled(self) -> bool:
        return self._cancelled.is_set()

    def cancel(self) -> None:
        """Have the work end the next time it reports."""
        self._cancelled.set()

    def check(self) -> None:
        """Raises JobCancelled when the work is to end."""
        if self._cancelled.is_set():
            raise JobCancelled

    def phase(self, name: str) -> None:
        """What is done now; what was counted before is counted no longer. Raises JobCancelled."""
        self.check()
        self.reading = Reading(phase=name)

    def bytes_done(self, done_bytes: int, total_bytes: int) -> None:
        """A ``models.hashing.Progress``. Raises JobCancelled."""
        self.check()
        fraction = min(done_bytes / total_bytes, 1.0) if total_bytes > 0 else None
        self.reading = Reading(self.reading.phase, done_bytes, total_bytes, fraction)

    def fraction_done(self, fraction: float | None) -> None:
        """For works that count no bytes. Raises JobCancelled."""
        self.check()
        self.reading = Reading(self.reading.phase, fraction=fraction)


class PullReport:
    """A ``models.download.Report``. Called from several threads: what is checked is told apart by its phase."""

    def __init__(self, control: Control) -> None:
        self._control = control

    def transferring(self, done_bytes: int, total_bytes: int) -> None:
        self._tell("download", done_bytes, total_bytes)

    def checking(self, done_bytes: int, total_bytes: int) -> None:
        self._tell("check", done_bytes, total_bytes)

    def _tell(self, phase: str, done_bytes: int, total_bytes: int) -> None:
        if self._control.reading.phase != phase:
            self._control.phase(phase)
        self._control.bytes_done(done_bytes, total_bytes)
