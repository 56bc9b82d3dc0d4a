"""The leader's side of a run over several boxes: who is there, whose rank may start, when all must end. Pure.

Nothing is sent from here. Every box asks once a second (a beat) and is answered with what should be so: this rank of
this run, or none. So a message that is lost, late or doubled changes nothing for good: the next one says it again.

    GATHERING -> FORMING (rank 0, 1, 2... in order) -> RUNNING -> ENDED -> GATHERING (the next run)

1. A run begins when every box of it is there and runs nothing.
2. Rank n is told to start when rank n - 1 has said that its process runs.
3. A box that is silent for ``lost_s``, says that its rank ended, or is taken out ends the run for all.
4. A run that has ended never comes back: the next one has another name.

One writer: ``Coordinator``. The other side is ``appliance.cluster.rank_state``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import StrEnum

from appliance.cluster.wire import RankState

LOST_S = 12.0
"""Silence after which a box counts as lost. The box itself gives up its rank sooner (``rank_state.LEASE_S``), so that
no rank of an old run meets one of the next."""
_BOOTS_REMEMBERED = 8


class RunPhase(StrEnum):
    """See the module's docstring."""

    GATHERING = "gathering"
    FORMING = "forming"
    RUNNING = "running"
    ENDED = "ended"


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What one beat says about its box's rank. ``boot`` and ``number`` as in ``wire.Beat``."""

    boot: str
    number: int
    state: RankState = RankState.IDLE
    run: str | None = None
    cause: str | None = None


@dataclass
class _Box:
    """What was heard of a box last."""

    boot: str | None = None
    number: int = -1
    heard_s: float | None = None
    state: RankState = RankState.IDLE
    run: str | None = None
    retired: deque[str] = field(default_factory=lambda: deque(maxlen=_BOOTS_REMEMBERED))


class Coordinator:
    """Decides; for one event loop. ``on_change`` is called after everything that may have changed the run."""

    def __init__(self, *, lost_s: float = LOST_S, on_change: Callable[[], None] = lambda: None) -> None:
        self._lost_s = lost_s
        self._on_change = on_change
        self._boxes: dict[str, _Box] = {}
        self._phase = RunPhase.GATHERING
        self._run: str | None = None
        self._ranks: tuple[str, ...] = ()
        """Names by rank; the leader is rank 0."""
        self._up = 0
        """Ranks that run, counted from 0."""
        self._cause: str | None = None

    # -- reading ----------------------------------------------------------------------------------------------------

    @property
    def phase(self) -> RunPhase:
        return self._phase

    @property
    def run(self) -> str | None:
        """The name of the run that forms or runs."""
        return self._run if self._phase in (RunPhase.FORMING, RunPhase.RUNNING) else None

    @property
    def cause(self) -> str | None:
        """Why the last run ended."""
        return self._cause

    @property
    def ranks(self) -> tuple[str, ...]:
        """Boxes of the run by rank."""
        return self._ranks if self.run is not None else ()

    def is_here(self, box: str, now_s: float) -> bool:
        """Whether a box was heard lately."""
        found = self._boxes.get(box)
        return found is not None and found.heard_s is not None and now_s - found.heard_s <= self._lost_s

    def heard_s(self, box: str) -> float | None:
        """When a box was heard last."""
        found = self._boxes.get(box)
        return None if found is None else found.heard_s

    def state_of(self, box: str) -> RankState:
        """What a box said last about its rank."""
        found = self._boxes.get(box)
        return RankState.IDLE if found is None else found.state

    def missing(self, boxes: Iterable[str], now_s: float) -> tuple[str, ...]:
        """Those that a run cannot begin without and that are not there, or still end an older one."""
        return tuple(
            box for box in boxes if not self.is_here(box, now_s) or self._boxes[box].state is not RankState.IDLE
        )

    # -- what happens -----------------------------------------------------------------------------------------------

    def begin(self, run: str, ranks: tuple[str, ...], now_s: float) -> None:
        """Form a run; ``ranks[0]`` is the leader, whose own process the caller starts. Raises ValueError when one is
        there already, or ``missing`` names somebody."""
        if self.run is not None:
            raise ValueError("a run is there already")
        absent = self.missing(ranks[1:], now_s)
        if absent:
            raise ValueError(f"missing: {', '.join(absent)}")
        self._run, self._ranks, self._up, self._cause = run, ranks, 0, None
        self._phase = RunPhase.FORMING
        self._on_change()

    def leader_is_up(self, run: str) -> None:
        """The process of rank 0 runs; of another run than the present one nothing."""
        if run == self.run and self._up == 0:
            self._advance()
            self._on_change()

    def hear(self, box: str, report: Report, now_s: float) -> str | None:
        """A beat; the run that the box shall have its rank in, ``None`` for none.

        One that was overtaken by a later one, or is of an earlier start of that box, is answered and not believed."""
        found = self._boxes.setdefault(box, _Box())
        if report.boot in found.retired or (report.boot == found.boot and report.number <= found.number):
            return self._wanted_of(box)
        if found.boot is not None and report.boot != found.boot:
            found.retired.append(found.boot)
        before = found.run if found.state is RankState.UP else None
        found.boot, found.number, found.heard_s = report.boot, report.number, now_s
        found.state, found.run = report.state, report.run
        self._judge(box, report, had_run=before)
        return self._wanted_of(box)

    def forget(self, box: str) -> None:
        """A box that was taken out, or left."""
        self._boxes.pop(box, None)
        if box in self.ranks:
            self.end(f"{box} was taken out of the cluster")

    def check(self, now_s: float) -> None:
        """Look for boxes that have fallen silent. Call it every second or so."""
        for box in self.ranks[1:]:
            if not self.is_here(box, now_s):
                self.end(f"{box} does not answer")
                return

    def end(self, cause: str, run: str | None = None) -> None:
        """End the run that there is, or ``run`` if it is that. Idempotent."""
        if self.run is None or (run is not None and run != self.run):
            return
        self._phase, self._cause = RunPhase.ENDED, cause
        self._on_change()

    # -- small parts ------------------------------------------------------------------------------------------------

    def _judge(self, box: str, report: Report, *, had_run: str | None) -> None:
        run = self.run
        if run is None or box not in self._ranks:
            return
        rank = self._ranks.index(box)
        is_ours = report.run == run
        if report.state is RankState.FAILED and is_ours:
            self.end(f"{box}: {report.cause or 'its part ended'}")
        elif report.state is RankState.UP and is_ours:
            if rank == self._up:
                self._advance()
                self._on_change()
        elif rank < self._up or had_run == run:
            # It ran its rank, and now says that it does not: its daemon was started anew.
            self.end(f"{box} has lost its part")

    def _advance(self) -> None:
        self._up += 1
        if self._up == len(self._ranks):
            self._phase = RunPhase.RUNNING

    def _wanted_of(self, box: str) -> str | None:
        run = self.run
        if run is None or box not in self._ranks:
            return None
        return run if self._ranks.index(box) <= self._up else None
