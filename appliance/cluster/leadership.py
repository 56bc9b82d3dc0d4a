"""The leading box's part while its daemon runs: it listens to the others, plans for all, and forms runs of them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from appliance.cluster.asking import Questions, passed_on
from appliance.cluster.authority import RENEW_BEFORE, ClusterAuthority, ends_at
from appliance.cluster.book import ClusterBook, ClusterRecord
from appliance.cluster.coordinator import Coordinator, Report, RunPhase
from appliance.cluster.errors import BoxesMissing
from appliance.cluster.listener import ClusterListener, Joining
from appliance.cluster.placing import leader_setup
from appliance.cluster.servers import LeaderServer
from appliance.cluster.wire import Beat, BoxHardware, BoxLine, ModelState, Part, Start, Told, Wanted
from appliance.engine.external.server_factory import ServerSpec
from appliance.model_setup import ModelSetup
from appliance.schemas.cluster import BoxStateWord, ClusterBox, RunWord
from appliance.serving.admission import Admission
from appliance.settings import Settings
from drivers.types import HardwareSnapshot
from models.types import InstalledModel

_log = structlog.get_logger(__name__)

CHECK_EVERY_S = 0.5
GATHER_S = 20.0
"""How long a start waits for boxes that are away, or still end an older run."""
RENEWAL_LOOK_EVERY_S = 3600.0
_RUNS_REMEMBERED = 64
_WITHOUT = (ModelState.MISSING, ModelState.DIFFERS)


@dataclass
class Heard:
    """What a box told of itself."""

    address: str
    version: str
    model: ModelState
    hardware: BoxHardware | None = None


@dataclass(frozen=True)
class Planned:
    """The last plan: for which model and boxes, in which order, and the others' parts."""

    model: str
    sha256: str
    boxes: tuple[str, ...]
    words: str
    parts: dict[str, Part]


class Leadership:
    """For one event loop. ``follow`` is called with each new record. ``is_ready`` says whether a model answers here."""

    problem: str | None = None

    def __init__(
        self,
        book: ClusterBook,
        record: ClusterRecord,
        note: Joining,
        *,
        admission: Callable[[str], Admission],
        is_ready: Callable[[str], bool],
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._changed = asyncio.Event()
        self.coordinator = Coordinator(on_change=self._note_change)
        self._book = book
        self._record = record
        self._now_s = now_s
        self._is_ready = is_ready
        self._heard: dict[str, Heard] = {}
        self._planned: Planned | None = None
        self._ports: dict[str, int] = {}
        """Where the ranks of each run that was begun meet."""
        self._server: LeaderServer | None = None
        self._questions = Questions(admission)
        self._listener = ClusterListener(book, self, note)
        self._checking: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Listen. Raises PortInUse."""
        await self._listener.start(self._record.address, self._record.port)
        self._checking = asyncio.create_task(self._check(), name="cluster boxes")

    async def aclose(self) -> None:
        """End what runs together, and listen no more."""
        self.coordinator.end("the leading box ends")
        if self._checking is not None:
            self._checking.cancel()
            await asyncio.wait({self._checking})
        await self._listener.aclose()

    def follow(self, record: ClusterRecord) -> None:
        """Another record: who is not in it any more is out."""
        gone = set(self._record.boxes) - set(record.boxes)
        self._record = record
        for name in gone:
            self.gone(name)

    # -- what boxes say ---------------------------------------------------------------------------------------------

    def hear(self, box: str, beat: Beat) -> Told:
        """A beat, and what the box is told."""
        known = self._heard.get(box)
        self._heard[box] = heard = Heard(
            address=beat.address,
            version=beat.version,
            model=beat.model,
            hardware=beat.hardware or (None if known is None else known.hardware),
        )
        report = Report(boot=beat.boot, number=beat.number, state=beat.state, run=beat.run, cause=beat.cause)
        run = self.coordinator.hear(box, report, self._now_s())
        model = self._record.model
        if run is not None and heard.model in _WITHOUT:
            self.coordinator.end(f"{box} has not the model that all serve together", run)
            run = None
        return Told(
            answers=beat.number,
            start=None if run is None else Start(run=run, master_port=self._ports[run]),
            wanted=None if model is None else self._wanted(model, box),
            ready=model is not None and self._is_ready(model),
            tell_hardware=heard.hardware is None,
            boxes=self._lines(),
        )

    def gone(self, box: str) -> None:
        """It left, or was taken out."""
        self._heard.pop(box, None)
        self.coordinator.forget(box)

    async def ask(self, box: str, request: Request) -> Response:
        """A question of another box to the model's server."""
        model, server = self._record.model, self._server
        if model is None or server is None or not server.is_started or not self._is_ready(model):
            raise BoxesMissing(reason=self.coordinator.cause or "it is not running now.")
        endpoint = server.endpoint
        path = request.url.path.removeprefix("/engine")
        match path:
            case "/v1/completions":
                return await self._questions.answer(box, request, endpoint, lambda: box in self._record.boxes)
            case "/v1/models" | "/version" | "/metrics" | "/health":
                return await passed_on(endpoint, path)
            case _:
                return JSONResponse({}, status_code=404)

    # -- a run ------------------------------------------------------------------------------------------------------

    def plan(self, installed: InstalledModel, snapshot: HardwareSnapshot, settings: Settings) -> ModelSetup:
        """The leader's own set-up; the others' parts are told with their next beats. Blocks; not of the event loop.
        Raises as ``leader_setup``."""
        record = self._record
        hardware = {name: heard.hardware for name, heard in list(self._heard.items()) if heard.hardware is not None}
        setup, found, parts = leader_setup(installed, snapshot, settings, record, hardware)
        self._planned = Planned(installed.id, installed.sha256, record.boxes, found.layout.words, parts)
        return setup

    @property
    def planned(self) -> Planned | None:
        return self._planned

    def server(self, spec: ServerSpec) -> LeaderServer:
        """The server of one start."""
        self._server = LeaderServer(spec, self)
        return self._server

    def absent(self) -> tuple[str, ...]:
        """Boxes without which no run can begin now: not there, without a word on their cards, or without the model."""
        names = [member.name for member in self._record.members]
        silent = [
            name
            for name in names
            if (heard := self._heard.get(name)) is None or heard.hardware is None or heard.model in _WITHOUT
        ]
        return tuple(dict.fromkeys((*self.coordinator.missing(names, self._now_s()), *silent)))

    async def form(self, run: str, master_port: int) -> None:
        """Begin a run when all its boxes are there. Raises BoxesMissing when they do not come."""
        deadline_s = self._now_s() + GATHER_S
        while True:
            planned = self._planned
            absent = self.absent()
            if planned is None or planned.boxes != self._record.boxes:
                raise BoxesMissing(reason="its boxes are other ones now; it is planned anew.")
            if not absent:
                break
            if self._now_s() > deadline_s:
                raise BoxesMissing(reason=f"it waits for {', '.join(absent)}.")
            await asyncio.sleep(CHECK_EVERY_S / 2)
        self._ports[run] = master_port
        while len(self._ports) > _RUNS_REMEMBERED:
            del self._ports[next(iter(self._ports))]
        self.coordinator.begin(run, planned.boxes, self._now_s())
        _log.info("cluster_run_forms", run=run, boxes=", ".join(planned.boxes))

    def rank_zero_runs(self, run: str) -> None:
        self.coordinator.leader_is_up(run)

    def over(self, run: str) -> str | None:
        """Why a run has ended; ``None`` while it has not, or was not begun."""
        if run not in self._ports or self.coordinator.run == run:
            return None
        return self.coordinator.cause or "the run has ended"

    async def run_over(self, run: str) -> str:
        """Return when a run has ended, with the cause."""
        while (cause := self.over(run)) is None:
            await self._changed.wait()
        return cause

    def end(self, run: str, cause: str) -> None:
        """End a run, if it still is."""
        self.coordinator.end(cause, run)

    # -- reading ----------------------------------------------------------------------------------------------------

    def boxes(self) -> tuple[ClusterBox, ...]:
        """All boxes as operators see them, the leader first."""
        record, now_s = self._record, self._now_s()
        ranks = self.coordinator.ranks
        leader = ClusterBox(
            name=record.name,
            role="leader",
            state="here",
            is_this=True,
            address=record.own_address,
            rank=0 if ranks else None,
            part="up" if ranks else "idle",
        )
        found = [leader]
        for member in record.members:
            heard, at_s = self._heard.get(member.name), self.coordinator.heard_s(member.name)
            found.append(
                ClusterBox(
                    name=member.name,
                    role="member",
                    state=self._state(member.name),
                    joined_at=member.joined_at,
                    silent_s=None if at_s is None else round(now_s - at_s, 1),
                    address=None if heard is None else heard.address,
                    devices=None if heard is None else device_names(heard.hardware),
                    rank=ranks.index(member.name) if member.name in ranks else None,
                    part=None if heard is None else self.coordinator.state_of(member.name).value,
                    model=None if heard is None else heard.model.value,
                    version=None if heard is None else heard.version,
                )
            )
        return tuple(found)

    def run_word(self) -> tuple[RunWord, str | None]:
        """How far the run is, and why there is none."""
        model, phase = self._record.model, self.coordinator.phase
        if model is None:
            return "off", None
        if phase is RunPhase.RUNNING:
            return ("running" if self._is_ready(model) else "forming"), None
        absent = self.absent()
        waits = f"it waits for {', '.join(absent)}" if absent else None
        return ("forming" if phase is RunPhase.FORMING else "gathering"), self.coordinator.cause or waits

    def _wanted(self, model: str, box: str) -> Wanted:
        planned = self._planned
        if planned is None or planned.model != model or planned.boxes != self._record.boxes:
            return Wanted(model=model, sha256="")
        return Wanted(model=model, sha256=planned.sha256, part=planned.parts.get(box))

    def _state(self, box: str) -> BoxStateWord:
        if self.coordinator.heard_s(box) is None:
            return "unknown"
        return "here" if self.coordinator.is_here(box, self._now_s()) else "away"

    def _lines(self) -> tuple[BoxLine, ...]:
        record = self._record
        return (
            BoxLine(name=record.name, state="here"),
            *(BoxLine(name=member.name, state=self._state(member.name)) for member in record.members),
        )

    def _note_change(self) -> None:
        before, self._changed = self._changed, asyncio.Event()
        before.set()

    async def _check(self) -> None:
        looked_s: float | None = None
        while True:
            self.coordinator.check(self._now_s())
            if looked_s is None or self._now_s() - looked_s > RENEWAL_LOOK_EVERY_S:
                looked_s = self._now_s()
                await asyncio.to_thread(self._renew)
            await asyncio.sleep(CHECK_EVERY_S)

    def _renew(self) -> None:
        """Another certificate of the leader's own, long before the one there ends."""
        try:
            if ends_at(self._book.files.certificate) - datetime.now(UTC) > RENEW_BEFORE:
                return
            ClusterAuthority(self._book.folder, self._record.id).renew_own(self._record.name)
            self._listener.renewed()
            _log.info("cluster_certificate_renewed")
        except (OSError, ValueError) as error:
            _log.error("cluster_certificate_unusable", reason=str(error))


def device_names(hardware: BoxHardware | None) -> tuple[str, ...] | None:
    """Cards in one line each: ``910B3``, ``NVIDIA H20``."""
    return None if hardware is None else tuple(device.chip or device.name for device in hardware.devices)
