"""Keeps this box's part in its cluster while the daemon runs. The file says what that is; it may change at any time.

Which model all serve together is in the leader's file. Every box loads its part of it like any other model, with the
same supervision; this keeps it loaded while it is wanted, and plans it anew when the boxes are other ones.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any, Protocol

import structlog

from appliance.cluster.book import ClusterBook, ClusterRecord
from appliance.cluster.errors import BoxesMissing
from appliance.cluster.leadership import Leadership
from appliance.cluster.membership import Membership
from appliance.cluster.wire import BoxHardware, ModelState, Wanted
from appliance.engine.base import Engine, EngineInfo
from appliance.engine.external.server import Server
from appliance.engine.external.server_factory import ServerSpec
from appliance.errors import AppError, EngineStartFailed, ModelNotReady, describe, is_typed
from appliance.model_setup import ModelSetup
from appliance.schemas.cluster import ClusterStatus
from appliance.security.audit import AuditLog
from appliance.security.identity import SYSTEM, Actor
from appliance.serving.admission import Admission
from appliance.settings import Settings
from drivers.types import HardwareSnapshot
from models.model_store import ModelStore
from models.store_types import ModelFormat
from models.types import InstalledModel

_log = structlog.get_logger(__name__)

LOOK_EVERY_S = 1.0
TRY_AGAIN_S = 10.0
"""After a load that failed."""
_DRAIN_S = 5.0


class ModelSource(Protocol):
    """The part of ``ModelHost`` that is needed here."""

    @property
    def served(self) -> Mapping[str, Any]: ...

    @property
    def default_id(self) -> str | None: ...

    def ready(self, model_id: str | None = None) -> tuple[Engine, EngineInfo]: ...

    async def boot(self, model_id: str) -> EngineInfo: ...

    async def load(self, model_id: str, *, swap: bool = True, pin: bool = False) -> EngineInfo: ...

    async def unload(self, model_id: str, *, drain_timeout_s: float) -> None: ...


class ClusterService:
    """For one event loop; ``plan`` is called in threads."""

    def __init__(
        self,
        book: ClusterBook,
        audit: AuditLog,
        store: ModelStore,
        *,
        hardware: Callable[[], Awaitable[BoxHardware]],
        admission: Callable[[str], Admission],
        version: str,
    ) -> None:
        self._book = book
        self._audit = audit
        self._store = store
        self._hardware = hardware
        self._admission = admission
        self._version = version
        self._models: ModelSource | None = None
        self._record: ClusterRecord | None = None
        self._part: Leadership | Membership | None = None
        self._problem: str | None = None
        self._task: asyncio.Task[None] | None = None
        self._loading: asyncio.Task[None] | None = None
        self._together: tuple[str, object] | None = None
        """The model that was loaded as this box's part, and the plan that it was loaded by."""
        self._failed_s: float | None = None
        self._looked_for: Wanted | None = None
        self._noting: set[asyncio.Task[object]] = set()

    def start(self, models: ModelSource) -> None:
        """Begin to follow the file."""
        self._models = models
        self._task = asyncio.create_task(self._keep(), name="cluster")

    async def aclose(self) -> None:
        """Take part no more. The models are the host's to end."""
        for task in (self._task, self._loading):
            if task is not None:
                task.cancel()
                await asyncio.wait({task})
        await self._end_part()
        if self._noting:
            await asyncio.wait(self._noting)

    # -- for the model host -----------------------------------------------------------------------------------------

    def plan(self, installed: InstalledModel, snapshot: HardwareSnapshot, settings: Settings) -> ModelSetup | None:
        """This box's part of a model that all serve together; ``None`` for another model. Blocks. Raises BoxesMissing,
        and what the plan raises."""
        record = self._book.read()
        if record is None or record.model != installed.id:
            return None
        part = self._part
        if part is None:
            raise BoxesMissing(reason="this box has only just started.")
        return part.plan(installed, snapshot, settings)

    def server(self, spec: ServerSpec) -> Server:
        """The server of one start of this box's part. Raises EngineStartFailed when it has none any more."""
        if self._part is None:
            raise EngineStartFailed(cause="this box takes no part in a cluster any more", cause_code="cluster_left")
        return self._part.server(spec)

    # -- reading ----------------------------------------------------------------------------------------------------

    async def status(self) -> ClusterStatus:
        """What operators are told."""
        return self.status_now()

    def status_now(self) -> ClusterStatus:
        """The same, for checks and metrics."""
        record, part = self._record, self._part
        if record is None:
            return ClusterStatus(problem=self._problem)
        run, cause = ("off", None) if part is None else part.run_word()
        planned = part.planned if isinstance(part, Leadership) else None
        return ClusterStatus(
            role=record.role,
            id=record.id,
            name=record.name,
            leader=record.leader,
            address=record.address,
            port=record.port,
            boxes=() if part is None else part.boxes(),
            model=record.model,
            plan=None if planned is None or planned.model != record.model else planned.words,
            run=run,
            cause=cause,
            invitations=len(record.invitations),
            problem=self._problem or (None if part is None else part.problem),
        )

    # -- the keeper -------------------------------------------------------------------------------------------------

    async def _keep(self) -> None:
        while True:
            try:
                await self._follow(await asyncio.to_thread(self._book.read))
                await self._follow_model()
                self._problem = None
            except AppError as error:
                if error.message != self._problem:
                    _log.error("cluster_part_failed", code=error.code, reason=error.message)
                self._problem = error.message
            await asyncio.sleep(LOOK_EVERY_S)

    async def _follow(self, record: ClusterRecord | None) -> None:
        before = self._record
        if record == before and (record is None or self._part is not None):
            return
        if before is not None and (record is None or _is_another(before, record)):
            await self._end_part()
        self._record = record
        if record is None:
            return
        if isinstance(self._part, Leadership):
            self._part.follow(record)
        elif self._part is None:
            await self._begin_part(record)

    async def _begin_part(self, record: ClusterRecord) -> None:
        if record.leads:
            leadership = Leadership(self._book, record, self._note, admission=self._admission, is_ready=self._is_ready)
            await leadership.start()
            self._part = leadership
        else:
            membership = Membership(self._book, record, self._hardware, self._version)
            membership.start()
            self._part = membership

    async def _end_part(self) -> None:
        part, self._part = self._part, None
        if part is not None:
            with suppress(asyncio.CancelledError):
                await part.aclose()

    # -- the model --------------------------------------------------------------------------------------------------

    async def _follow_model(self) -> None:
        """Have loaded what is wanted, by the plan that holds now, and nothing else of the cluster's."""
        wanted = await self._wanted()
        if self._together is not None and self._together != wanted:
            await self._unload(self._together[0])
        if wanted is None or self._together is not None or (self._loading is not None and not self._loading.done()):
            return
        if self._failed_s is not None and time.monotonic() - self._failed_s < TRY_AGAIN_S:
            return
        self._loading = asyncio.create_task(self._load(*wanted), name="cluster model")

    async def _wanted(self) -> tuple[str, object] | None:
        """The model that this box could load its part of now, and by which plan."""
        part, record = self._part, self._record
        if part is None or record is None:
            return None
        if isinstance(part, Leadership):
            if record.model is None or not record.members:
                return None
            # A plan that is there stays while its boxes do, also when one of them is away for a while.
            is_kept = self._together is not None and self._together[0] == record.model
            return None if part.absent() and not is_kept else (record.model, record.boxes)
        wanted = part.wanted
        if not part.is_led:
            return self._together
        await asyncio.to_thread(self._book.note_model, None if wanted is None else wanted.model)
        if wanted is None:
            part.model_state = ModelState.NONE_WANTED
        elif part.model_state is not ModelState.THERE or wanted != self._looked_for:
            self._looked_for = wanted
            part.model_state = await asyncio.to_thread(self._look, wanted)
        if wanted is None or wanted.part is None or part.model_state is not ModelState.THERE:
            return None
        return wanted.model, wanted.part

    def _look(self, wanted: Wanted) -> ModelState:
        """Whether the store has the model. Blocks."""
        found = next((one for one in self._store.list().models if one.id == wanted.model), None)
        if found is None or found.format is not ModelFormat.SAFETENSORS:
            return ModelState.MISSING
        return ModelState.THERE if wanted.sha256 in ("", found.sha256) else ModelState.DIFFERS

    async def _load(self, model: str, plan: object) -> None:
        models = self._models
        assert models is not None
        try:
            if model in models.served:
                # For itself, from before it was wanted of all.
                await models.unload(model, drain_timeout_s=_DRAIN_S)
            self._together = (model, plan)
            if models.default_id in (None, model):
                await models.boot(model)
            else:
                await models.load(model, pin=True)
            self._failed_s = None
        except Exception as error:
            if not is_typed(error):
                raise
            self._together = None
            self._failed_s = time.monotonic()
            if isinstance(self._part, Membership):
                self._part.refuse(describe(error).message)
            _log.warning("cluster_model_not_loaded", model=model, reason=describe(error).message)

    async def _unload(self, model: str) -> None:
        models = self._models
        assert models is not None
        if self._loading is not None:
            self._loading.cancel()
            await asyncio.wait({self._loading})
            self._loading = None
        self._together = None
        await models.unload(model, drain_timeout_s=_DRAIN_S)

    def _is_ready(self, model: str) -> bool:
        assert self._models is not None
        try:
            self._models.ready(model)
        except ModelNotReady:
            return False
        return True

    def _note(self, action: str, box: str | None, address: str | None) -> None:
        """A row of the audit log, and a line of the log."""
        _log.info(action.replace(".", "_"), box=box, address=address)
        actor = Actor(kind=SYSTEM.kind, name=SYSTEM.name, address=address)
        task: asyncio.Task[object] = asyncio.create_task(
            asyncio.to_thread(self._audit.record, actor, action, box, {}), name="cluster audit"
        )
        self._noting.add(task)
        task.add_done_callback(self._noting.discard)


def _is_another(before: ClusterRecord, after: ClusterRecord) -> bool:
    return (before.id, before.role, before.address, before.port) != (
        after.id,
        after.role,
        after.address,
        after.port,
    )
