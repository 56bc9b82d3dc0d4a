"""Another box's part while its daemon runs: it tells the leader how it is, every second, and does what it is told."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

import structlog

from appliance.cluster.authority import RENEW_BEFORE, ends_at
from appliance.cluster.book import ClusterBook, ClusterRecord
from appliance.cluster.errors import BoxesMissing, LeaderRefused, LeaderUnreachable, RemovedFromCluster
from appliance.cluster.leader_client import LeaderClient
from appliance.cluster.placing import leader_endpoint, member_setup
from appliance.cluster.rank_state import Begin, Cease, RankStateMachine
from appliance.cluster.servers import MemberServer
from appliance.cluster.wire import Beat, BoxHardware, ModelState, Told, Wanted
from appliance.engine.external.server_factory import ServerSpec
from appliance.model_setup import ModelSetup
from appliance.schemas.cluster import BoxStateWord, ClusterBox, RunWord
from appliance.settings import Settings
from drivers.types import HardwareSnapshot
from models.types import InstalledModel

_log = structlog.get_logger(__name__)

BEAT_EVERY_S = 1.0
WORD_S = 60.0
"""How long a start waits for the leader's word to begin."""
_RENEWAL_LOOK_EVERY_S = 3600.0


class Membership:
    """For one event loop."""

    def __init__(
        self,
        book: ClusterBook,
        record: ClusterRecord,
        hardware: Callable[[], Awaitable[BoxHardware]],
        version: str,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._book = book
        self._record = record
        self._hardware = hardware
        self._version = version
        self._now_s = now_s
        self.rank = RankStateMachine(secrets.token_hex(8))
        self.model_state = ModelState.NONE_WANTED
        """Whether the store has what is wanted; written by the service."""
        self._told: Told | None = None
        self._problem: str | None = None
        self._begin: tuple[str, int] | None = None
        self._cease: str | None = None
        self._changed = asyncio.Event()
        self._early = asyncio.Event()
        """Something worth telling before the next beat is due."""
        self._task: asyncio.Task[None] | None = None
        self._looking: asyncio.Task[BoxHardware] | None = None

    @property
    def problem(self) -> str | None:
        """Why the leader is not heard, in one line."""
        return self._problem

    @property
    def is_led(self) -> bool:
        """Whether the leader answered lately."""
        return self.rank.is_led(self._now_s())

    @property
    def wanted(self) -> Wanted | None:
        """What the leader said last that all serve together."""
        return None if self._told is None else self._told.wanted

    def start(self) -> None:
        """Begin to tell."""
        self._task = asyncio.create_task(self._run(), name="cluster beats")

    async def aclose(self) -> None:
        """Tell no more."""
        for task in (self._task, self._looking):
            if task is not None:
                task.cancel()
                await asyncio.wait({task})
        self._cease = self._cease or "this box takes no part in the cluster any more"
        self._note_change()

    # -- this box's rank --------------------------------------------------------------------------------------------

    def plan(self, installed: InstalledModel, snapshot: HardwareSnapshot, settings: Settings) -> ModelSetup:
        """This box's part. Blocks; not of the event loop. Raises BoxesMissing."""
        wanted = self.wanted
        if wanted is None or wanted.part is None or not self.is_led:
            raise BoxesMissing(
                reason=f"{self._record.leader}, which leads them, has not said yet what is this box's part."
            )
        return member_setup(installed, snapshot, settings, self._record, wanted.part)

    def server(self, spec: ServerSpec) -> MemberServer:
        """The server of one start."""
        return MemberServer(spec, leader_endpoint(self._record, self._book.files, spec.order.name), self)

    async def next_run(self) -> tuple[str, int]:
        """Wait for the leader's word. Raises BoxesMissing when it does not come."""
        try:
            async with asyncio.timeout(WORD_S):
                while self._begin is None:
                    await self._changed.wait()
        except TimeoutError:
            raise BoxesMissing(reason=f"{self._record.leader}, which leads them, has not begun a run.") from None
        found, self._begin, self._cease = self._begin, None, None
        return found

    def refuse(self, cause: str) -> None:
        """This box cannot do its part: the leader is to know, and what cards there are now."""
        if self._begin is not None and self.rank.run is None:
            run, self._begin = self._begin[0], None
            self.failed(run, cause)
        if self._looking is None:
            self._looking = asyncio.create_task(self._detect(), name="cluster hardware")

    def began(self, run: str) -> None:
        self.rank.began(run)
        self._early.set()

    def failed(self, run: str, cause: str) -> None:
        self.rank.failed(run, cause)
        self._early.set()

    def ceased(self, run: str) -> None:
        if self.rank.run == run:
            self.rank.ceased()
            self._early.set()

    async def run_over(self, run: str) -> str:
        """Return when this box is to end its rank, with the cause."""
        while self._cease is None:
            await self._changed.wait()
        return self._cease

    # -- reading ----------------------------------------------------------------------------------------------------

    def boxes(self) -> tuple[ClusterBox, ...]:
        """All boxes, as the leader told last."""
        record, is_led = self._record, self.is_led
        told = () if self._told is None or not is_led else self._told.boxes
        lines = {line.name: line.state for line in told}
        part = None if self.wanted is None else self.wanted.part
        found = []
        for name in tuple(lines) or (record.leader, record.name):
            is_this = name == record.name
            found.append(
                ClusterBox(
                    name=name,
                    role="leader" if name == record.leader else "member",
                    state="here" if is_this else _word(lines.get(name), is_led=is_led),
                    is_this=is_this,
                    address={record.leader: record.address, record.name: record.own_address}.get(name),
                    rank=part.rank if is_this and part is not None and self.rank.run is not None else None,
                    part=self.rank.state.value if is_this else None,
                    model=self.model_state.value if is_this else None,
                )
            )
        return tuple(found)

    def run_word(self) -> tuple[RunWord, str | None]:
        """How far the run is, as far as it is known here."""
        if self.wanted is None and self._record.model is None:
            return "off", None
        if not self.is_led:
            return "gathering", self._problem
        assert self._told is not None
        return ("running" if self._told.ready else "forming"), self._cease

    # -- beats ------------------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        client: LeaderClient | None = None
        looked_s = self._now_s()
        try:
            while True:
                began_s = self._now_s()
                self._early.clear()
                try:
                    if client is None:
                        client = await asyncio.to_thread(LeaderClient, self._book, self._record)
                    await self._beat(client)
                    if self._now_s() - looked_s > _RENEWAL_LOOK_EVERY_S:
                        looked_s = self._now_s()
                        await self._renew(client)
                except RemovedFromCluster as error:
                    self._do(Cease(error.message))
                    self._note(error.message)
                except (LeaderUnreachable, LeaderRefused) as error:
                    self._note(error.message)
                except (OSError, ValueError) as error:
                    self._note(f"The certificates of this box cannot be used: {error}.")
                self._do(self.rank.check(self._now_s()))
                await self._pause(BEAT_EVERY_S - (self._now_s() - began_s))
        finally:
            if client is not None:
                await client.aclose()

    async def _pause(self, left_s: float) -> None:
        try:
            await asyncio.wait_for(self._early.wait(), max(left_s, 0.05))
        except TimeoutError:
            return

    async def _beat(self, client: LeaderClient) -> None:
        report = self.rank.report()
        told = await client.beat(
            Beat(
                boot=report.boot,
                number=report.number,
                address=self._record.own_address,
                state=report.state,
                run=report.run,
                cause=report.cause,
                hardware=self._found_hardware(),
                version=self._version,
                model=self.model_state,
            )
        )
        self._told = told
        if told.tell_hardware and self._looking is None:
            # A detection may take longer than the leader waits for a beat.
            self._looking = asyncio.create_task(self._detect(), name="cluster hardware")
        act = self.rank.take(told.answers, None if told.start is None else told.start.run, self._now_s())
        if told.start is None and self.rank.run is None:
            self._begin = None
        if isinstance(act, Begin) and told.start is not None:
            self._begin = (told.start.run, told.start.master_port)
            self._note_change()
        self._do(act)
        self._note(None)

    def _do(self, act: object) -> None:
        if isinstance(act, Cease):
            self._cease = act.cause
            self._begin = None
            self._note_change()

    def _found_hardware(self) -> BoxHardware | None:
        if self._looking is None or not self._looking.done():
            return None
        looking, self._looking = self._looking, None
        return looking.result()

    async def _detect(self) -> BoxHardware:
        return await self._hardware()

    async def _renew(self, client: LeaderClient) -> None:
        ends = await asyncio.to_thread(ends_at, self._book.files.certificate)
        if ends - datetime.now(UTC) < RENEW_BEFORE:
            await client.renew()
            _log.info("cluster_certificate_renewed")

    def _note_change(self) -> None:
        before, self._changed = self._changed, asyncio.Event()
        before.set()

    def _note(self, problem: str | None) -> None:
        if problem != self._problem:
            (_log.info if problem is None else _log.warning)("cluster_leader", problem=problem)
        self._problem = problem


def _word(state: str | None, *, is_led: bool) -> BoxStateWord:
    if not is_led:
        return "unknown"
    return "here" if state == "here" else "away" if state == "away" else "unknown"
