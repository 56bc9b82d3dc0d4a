"""The other boxes' side of a run: whether this box's rank shall run. Pure; the counterpart of ``coordinator``.

    IDLE -> UP (told to, the process was started) -> IDLE (told to end, or nobody told anything for ``lease_s``)
    IDLE | UP -> FAILED (it could not be started, or ended by itself) -> IDLE (the leader knows)

A run that this box has ended once is never started again here: a message about it is an old one.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from appliance.cluster.coordinator import Report
from appliance.cluster.wire import RankState

LEASE_S = 8.0
"""Without an answer for so long this box ends its rank by itself, before the leader begins another run
(``coordinator.LOST_S``)."""
_RUNS_REMEMBERED = 64


@dataclass(frozen=True, slots=True)
class Begin:
    """Start this box's rank in this run."""

    run: str


@dataclass(frozen=True, slots=True)
class Cease:
    """End this box's rank."""

    cause: str


Act = Begin | Cease | None


class RankStateMachine:
    """Decides; for one event loop. ``boot`` names this start of the daemon."""

    def __init__(self, boot: str, *, lease_s: float = LEASE_S) -> None:
        self._boot = boot
        self._lease_s = lease_s
        self._number = 0
        self._answered = 0
        self._heard_s: float | None = None
        self._state = RankState.IDLE
        self._run: str | None = None
        self._cause: str | None = None
        self._over: deque[str] = deque(maxlen=_RUNS_REMEMBERED)

    @property
    def state(self) -> RankState:
        return self._state

    @property
    def run(self) -> str | None:
        """The run that this box has a part in, or had until it failed."""
        return self._run

    def report(self) -> Report:
        """The next beat."""
        self._number += 1
        return Report(boot=self._boot, number=self._number, state=self._state, run=self._run, cause=self._cause)

    def take(self, answers: int, wanted: str | None, now_s: float) -> Act:
        """The leader's answer to beat ``answers``; one that a later answer has overtaken is nothing."""
        if answers <= self._answered or answers > self._number:
            return None
        self._answered, self._heard_s = answers, now_s
        if self._state is RankState.FAILED:
            if wanted != self._run:
                self._rest()
            return None
        if self._state is RankState.UP:
            return None if wanted == self._run else Cease("the leading box has ended the run")
        if wanted is not None and wanted in self._over:
            # It was ended here before the leader could hear of it; it must, or it would wait for this rank for ever.
            self.failed(wanted, "its part in this run has ended already")
            return None
        return None if wanted is None else Begin(wanted)

    def check(self, now_s: float) -> Act:
        """Whether the leader has been silent for too long. Call it every second or so."""
        if self._state is not RankState.UP or self._heard_s is None or now_s - self._heard_s <= self._lease_s:
            return None
        return Cease("the leading box does not answer")

    def is_led(self, now_s: float) -> bool:
        """Whether the leader answered lately."""
        return self._heard_s is not None and now_s - self._heard_s <= self._lease_s

    def began(self, run: str) -> None:
        """The rank's process was started."""
        self._state, self._run, self._cause = RankState.UP, run, None

    def failed(self, run: str, cause: str) -> None:
        """The process could not be started, or has ended by itself."""
        self._state, self._run, self._cause = RankState.FAILED, run, cause[:500]
        if run not in self._over:
            self._over.append(run)

    def ceased(self) -> None:
        """The process was ended because it was to."""
        if self._run is not None:
            self._over.append(self._run)
        self._rest()

    def _rest(self) -> None:
        self._state, self._run, self._cause = RankState.IDLE, None, None
