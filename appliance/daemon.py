"""The daemon: wires store, engine, serving and API together, and runs them until it is told to stop.

Over 400 lines because it is the one place where all parts meet.

Order of a start: state folder and database -> model store -> the listening socket -> HTTP (``/readyz`` says
"starting") and telemetry -> detection of the hardware -> placement of the model on this machine -> engine. Everything
that can be refused is refused before the model is loaded.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import structlog
import uvicorn
import uvloop
from sqlalchemy import Engine as Database
from starlette.types import ASGIApp

from appliance.admin_socket import AdminSocket
from appliance.api.admin.operators import OperatorServices
from appliance.api.app import ApiServices, create_app
from appliance.api.connections import KEEP_ALIVE_S, ConnectionGuard, ConnectionLimits
from appliance.api.metering import Metering
from appliance.attached import StoreWithAttached, attached_model
from appliance.bookkeeping import Bookkeeping
from appliance.box_facts import FactsReader
from appliance.box_names import BoxNames
from appliance.certificates import ServerCertificate
from appliance.chat_setup import chat_limits, thinking_defaults
from appliance.chats.service import Chats
from appliance.cluster.book import ClusterBook, folder_of
from appliance.cluster.facts import hardware_of
from appliance.cluster.placing import engine_versions
from appliance.cluster.service import ClusterService
from appliance.cluster.wire import BoxHardware
from appliance.engine.base import EngineInfo, EngineStatus
from appliance.engine.external.server import Server
from appliance.engine.external.server_factory import ServerFactory, ServerSpec
from appliance.engine.factory import LlamaCppFactory
from appliance.engine.manager import Backoff, EngineFactory, EngineManager
from appliance.engine.shares import BoxShares
from appliance.errors import EngineStartFailed, OffloadRefused, PortInUse
from appliance.first_run.list import FirstRunList
from appliance.hardware import HardwareReader
from appliance.health.board import IssueBoard
from appliance.health.checks import CHECKS
from appliance.health.fixups import all_fixups
from appliance.health.offload.prover import OffloadProver
from appliance.health.offload.service import OffloadService
from appliance.live_settings import LiveSettings
from appliance.log_ring import LogRing
from appliance.logs import set_level
from appliance.metrics.alerts import AlertCollector
from appliance.metrics.build import BuildCollector
from appliance.metrics.cluster import ClusterCollector
from appliance.metrics.devices import DeviceCollector
from appliance.metrics.issues import IssueCollector
from appliance.metrics.offload import OffloadCollector
from appliance.metrics.serving import Metrics, ServingCollector
from appliance.metrics.serving_history import ServingRecorder
from appliance.metrics.thinking import ThinkingCollector
from appliance.metrics.times import TimesCollector
from appliance.model_host import ModelHost
from appliance.model_parts import HostParts
from appliance.model_setup import ModelSetup, remember_memory, set_up
from appliance.network.service import NetworkService
from appliance.operations import Operations
from appliance.operators.plans import PlanReader
from appliance.operators.removal import ModelRemover
from appliance.operators.software import SoftwareReader
from appliance.operators.sticks import StickReader
from appliance.operators.updates import UpdateReader
from appliance.paths import default_admin_socket, prepare_state
from appliance.rescue.safe_mode import is_safe_mode
from appliance.schemas.offload import Offload
from appliance.security.accounts import Accounts
from appliance.security.keys import KeyRepository
from appliance.server_setup import wanted_engines
from appliance.serving.admission import Admission
from appliance.serving.admission_book import AdmissionBook
from appliance.serving.chat import ChatService
from appliance.serving.types import SamplingPolicy
from appliance.settings import Settings
from appliance.settings_store import SettingsStore
from appliance.store.database import go_back, open_database
from appliance.system.announce import Announcement, announce_until_cancelled
from appliance.system.files import allow_many_files
from appliance.system.names import EVERY_NETWORK, addresses, is_loopback
from appliance.system.notify import ServiceNotifier
from appliance.system.signals import on_stop_signal
from appliance.telemetry import TelemetryService
from appliance.terminals import Terminals
from drivers.host_sample import HostSampler
from drivers.probe import detect
from drivers.support import VendorSupport
from drivers.telemetry import Sampler
from drivers.types import HardwareSnapshot
from drivers.vendors import VENDORS
from models.model_store import ModelStore
from models.store_types import DiskBudget, ModelFormat
from models.types import InstalledModel

_log = structlog.get_logger(__name__)

SHUTDOWN_TIMEOUT_S = 10
"""How long running answers may go on after the daemon was told to stop; systemd waits longer (TimeoutStopSec)."""

STOP_TIMEOUT_S = 15
"""How long a worker may take to end, most of it to write idle chats to disk."""

LISTEN_BACKLOG = 512
CLUSTER_BACKOFF_S = 3.0
FILES_FOR_THE_BOX = 256
"""Open files that connections leave: the database's, workers', monitors', downloads'."""
ROOT = Path("/")
"""Where the drivers look for ``proc``, ``sys`` and ``dev``."""


class Reporter(Protocol):
    """Tells a person in a terminal what the daemon does. Methods are called in the event loop and return at once."""

    def listening(self, host: str, port: int) -> None: ...

    def loading(self, setup: ModelSetup) -> None: ...

    def engine(self, status: EngineStatus) -> None: ...

    def offload(self, verdict: Offload) -> None: ...

    def ready(self, setup: ModelSetup | None, info: EngineInfo | None, host: str, port: int) -> None: ...

    def stopping(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Foundation:
    """What exists before anything is served: database, accounts, model store. ``flags`` are names of
    settings that flags gave; ``logs`` has the log's last lines where it was given to ``configure_logging``."""

    settings: Settings
    database: Database
    accounts: Accounts
    models: ModelStore
    flags: frozenset[str] = frozenset()
    logs: LogRing = field(default_factory=LogRing)

    @property
    def keys(self) -> KeyRepository:
        return self.accounts.keys


def lay_foundation(settings: Settings, *, has_slots: bool = False) -> Foundation:
    """Open state folder, database and model store. ``has_slots``: this box may have gone back to an earlier system,
    whose database is then taken again. Raises StateNotWritable, DatabaseTooNew, StoreNotWritable..."""
    budget = DiskBudget(settings.models_max_bytes, settings.models_keep_free_bytes)
    paths = prepare_state(settings.state_dir)
    taken = go_back(paths.database) if has_slots else None
    if taken is not None:
        _log.warning("database_of_earlier_system_taken", revision=taken, newer_kept_in=str(paths.state_dir))
    database = open_database(paths.database)
    accounts = Accounts(
        database, paths.state_dir, session_idle_s=settings.session_idle_s, session_max_s=settings.session_max_s
    )
    attached = attached_model(settings)
    if attached is not None:
        store: ModelStore = StoreWithAttached(settings.models_dir, budget=budget, attached=attached)
    else:
        store = ModelStore(settings.models_dir, budget=budget)
    return Foundation(settings, database, accounts, store)


def bind(host: str, port: int) -> socket.socket:
    """The listening socket. Raises PortInUse, whatever the reason: taken, not allowed, no such address."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listener = socket.socket(family, socket.SOCK_STREAM)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(LISTEN_BACKLOG)
            listener.setblocking(False)
        except BaseException:
            listener.close()
            raise
    except OSError as error:
        reason = (error.strerror or type(error).__name__).lower()
        raise PortInUse(host=host, port=port, reason=reason) from error
    return listener


class Daemon:
    """One run of the daemon."""

    def __init__(
        self,
        foundation: Foundation,
        reporter: Reporter,
        vendors: Sequence[VendorSupport] = VENDORS,
        *,
        is_up: Callable[[], None] = lambda: None,
    ) -> None:
        """``is_up`` is called, in a thread, when everything but the model is there: requests are answered.

        Over 60 lines because it makes every part.
        """
        self._is_up = is_up
        self._foundation = foundation
        self._settings = foundation.settings
        self._reporter = reporter
        self._notifier = ServiceNotifier.from_environment()
        self._again = False
        self._stop: Callable[[], None] = lambda: None
        self._admissions = AdmissionBook(lambda: Admission(seats=1, max_waiting=self._settings.max_waiting))
        self._certificate = ServerCertificate(self._settings)
        self._announcement: Announcement | None = None
        self._names = BoxNames(self._settings, self._certificate, version("r1box"), self._announced)
        self._vendors = tuple(vendors)
        self._hardware = HardwareReader(self._probe)
        self._detection: asyncio.Task[HardwareSnapshot] | None = None
        self._sampler = _sampler(self._settings, vendors)
        self._telemetry = TelemetryService(self._sampler, self._hardware.devices)
        self._prover = OffloadProver(self._telemetry.now, allow_cpu_fallback=self._settings.allow_cpu_fallback)
        self._cluster = ClusterService(
            ClusterBook(folder_of(self._settings.state_dir)),
            foundation.accounts.audit,
            foundation.models,
            hardware=self._hardware_told,
            admission=self._admissions.of,
            version=version("r1box"),
        )
        self._host = self._make_host(BoxShares())
        self._host.on_change(self._on_engine)
        self._setup: ModelSetup | None = None
        self._offload = OffloadService(self._prover, self._host.engines)
        self._facts = FactsReader(
            telemetry=self._telemetry.now,
            models=self._host,
            offload=self._prover,
            findings=self._hardware.findings,
            store=foundation.models,
            state_dir=self._settings.state_dir,
            certificate_ends_at=self._certificate.ends_at,
            cluster=self._cluster.status_now,
            alerts=lambda: self._operations.alerts.state().targets,
        )
        self._host.on_change(self._facts.note)
        self._operations = self._make_operations()
        fixups = all_fixups(
            models=self._host,
            verifier=self._facts,
            hardware=self._hardware,
            offload=self._offload,
            alerts=self._operations.alerts,
        )
        self._issues = IssueBoard(self._facts, CHECKS, fixups, on_change=self._operations.alerts.note)
        self._recorder = ServingRecorder(self._host, self._admissions)
        self._books = Bookkeeping(foundation.database, foundation.accounts.audit, self._settings)
        self._metering = Metering(self._books.limits, self._books.writer, keeps_text=self._settings.store_prompts)
        answering = self._answering(self._settings)
        self._chat = ChatService(self._host.served, self._host, self._admissions, gate=self._metering, **answering)
        self._live = self._make_live_settings()
        self._terminals = self._make_terminals()
        self._network = NetworkService(self._settings.system_socket)
        self._first_run = self._make_first_run()
        self._chats = Chats(foundation.database, self._chat, chat_limits(self._settings))

    def _make_first_run(self) -> FirstRunList:
        return FirstRunList(
            self._settings.state_dir,
            has_admin=self._foundation.accounts.users.has_admin,
            machine=self._network,
            models=self._host,
            jobs=self._operations.jobs,
            proof=self._offload,
            issues=self._issues,
        )

    def _make_host(self, shares: BoxShares) -> ModelHost:
        return ModelHost(
            HostParts(
                store=self._foundation.models,
                settings=self._settings,
                detect=self._hardware.detect,
                plan=lambda model, found, settings: (
                    self._cluster.plan(model, found, settings) or set_up(model, found, settings)
                ),
                factory=lambda setup: engine_factory(setup, shares, self._cluster.server),
                serves=self._serves,
                manager=self._manager,
                prover=self._prover,
                admissions=self._admissions,
                stop_timeout_s=STOP_TIMEOUT_S,
                on_loading=self._on_loading,
                on_loaded=self._on_loaded,
            )
        )

    def run(self) -> bool:
        """Serve until SIGINT or SIGTERM, or until a restart is asked for: whether it was. Raises AppError or ModelError
        when it cannot start."""
        settings = self._settings
        context = self._certificate.open()
        with bind(settings.host, settings.port) as listener:
            server = self._server(context)
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(self._serve(server, listener))
        return self._again

    def restart(self) -> None:
        """Have ``run`` end and be called again. In the event loop, while it serves."""
        self._again = True
        self._stop()

    def _metrics(self) -> Metrics:
        return Metrics(
            ServingCollector(self._host, self._admissions),
            DeviceCollector(self._telemetry.now),
            ThinkingCollector(self._chat.thoughts),
            TimesCollector(self._chat.times),
            BuildCollector(version("r1box")),
            OffloadCollector(self._offload.verdicts),
            IssueCollector(self._issues.issues),
            ClusterCollector(self._cluster.status_now),
            AlertCollector(self._operations.alerts.state),
        )

    def _server(self, context: ssl.SSLContext | None = None) -> uvicorn.Server:
        # Over 60 lines because it names every service of the API.
        app = create_app(
            ApiServices(
                chat=self._chat,
                chats=self._chats,
                models=self._host,
                accounts=self._foundation.accounts,
                usage=self._books.report,
                metrics=self._metrics(),
                telemetry=self._telemetry,
                hardware=self._hardware,
                offload=self._offload,
                issues=self._issues,
                jobs=self._operations.jobs,
                backups=self._operations.backups,
                restart=self.restart,
                removal=ModelRemover(self._foundation.models, self._foundation.accounts.audit),
                operators=OperatorServices(
                    plans=PlanReader(self._settings, self._foundation.models, self._machine_alone),
                    sticks=StickReader(self._operations.folders.now),
                    software=SoftwareReader(self._foundation.models),
                    serving=self._recorder,
                ),
                updates=UpdateReader(self._operations.folders.now, version("r1box")),
                update_desk=self._operations.door,
                alerts=self._operations.alerts,
                logs=self._foundation.logs,
                settings=self._live,
                terminals=self._terminals,
                network=self._network,
                first_run=self._first_run,
                identity=self._names,
                cluster=self._cluster,
                version=version("r1box"),
                max_request_bytes=self._settings.max_request_bytes,
                allowed_origins=frozenset(self._settings.allowed_origins),
                known_names=self._certificate.names(),
                authority=self._certificate.authority,
            )
        )
        return self._serving(app, context)

    def _serving(self, app: ASGIApp, context: ssl.SSLContext | None) -> uvicorn.Server:
        config = uvicorn.Config(
            app,
            http=ConnectionGuard(ConnectionLimits(most=self._most_connections())),  # type: ignore[arg-type]
            log_config=None,
            access_log=False,
            ws="none",
            server_header=False,
            lifespan="off",
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=SHUTDOWN_TIMEOUT_S,
        )
        config.load()
        # uvicorn would make a context of its own from files; this one can take a renewed certificate while it serves.
        config.ssl = context
        return uvicorn.Server(config)

    def _most_connections(self) -> int:
        """As the settings say, unless the system gives fewer files."""
        files = allow_many_files()
        return max(min(self._settings.max_connections, files - FILES_FOR_THE_BOX), 16)

    async def _serve(self, server: uvicorn.Server, listener: socket.socket) -> None:
        self._stop = lambda: setattr(server, "should_exit", True)
        on_stop_signal(self._stop)
        await self._books.start()
        await self._chats.start()
        console = await AdminSocket.beside(server, self._settings)
        await self._operations.start()
        self._cluster.start(self._host)
        host, port = listener.getsockname()[:2]
        self._names.port = port
        http = asyncio.create_task(server.serve(sockets=[listener]), name="http")
        companions = [asyncio.create_task(work, name=name) for name, work in self._companions(host, port).items()]
        self._reporter.listening(host, port)
        await asyncio.to_thread(self._is_up)
        if self._sampler is not None:
            self._sampler.start()
        start = asyncio.create_task(self._load(host, port), name="load")
        try:
            await asyncio.wait({http, start}, return_when=asyncio.FIRST_COMPLETED)
            if start.done():
                start.result()
                while not (server.started or http.done()):  # noqa: ASYNC110  uvicorn tells it by a flag alone
                    await asyncio.sleep(0.01)
                self._notifier.ready()
                await http
        finally:
            # systemd would take the word for the end of the service, and end what comes up again.
            if not self._again:
                self._notifier.stopping()
            self._reporter.stopping()
            if self._sampler is not None:
                self._sampler.ask_to_stop()
            await self._terminals.aclose()
            if not start.done():
                start.cancel()
                with suppress(asyncio.CancelledError):
                    await start
            server.should_exit = True
            await asyncio.wait({http})
            await console.aclose()
            await self._cluster.aclose()
            await self._first_run.aclose()
            await self._operations.aclose()
            await self._issues.aclose()
            await self._offload.aclose()
            await self._chats.aclose()
            await self._chat.aclose()
            await self._books.aclose()
            await self._host.aclose()
            await self._end_watching()
            await asyncio.to_thread(self._foundation.database.dispose)
            for companion in companions:
                companion.cancel()
            await asyncio.wait(companions)

    def _companions(self, host: str, port: int) -> dict[str, Coroutine[Any, Any, None]]:
        """What runs beside the server as long as it does, by name."""
        settings = self._settings
        companions = {
            "systemd": self._notifier.keep_beating(),
            "certificate": self._certificate.keep_current(),
            "serving-history": self._recorder.record(),
        }
        if settings.mdns_name is not None and not is_loopback(host):
            self._announcement = announcement = Announcement(
                settings.mdns_name,
                port=port,
                secure=settings.tls != "off",
                version=version("r1box"),
                addresses=addresses() if host in EVERY_NETWORK else (host,),
            )
            companions["announcement"] = announce_until_cancelled(announcement)
        return companions

    async def _load(self, host: str, port: int) -> None:
        """Load the model that the settings name, or the store's default, and say when it is ready."""
        # Without a model nothing waits for it: telemetry and the admin API want it all the same.
        self._detection = asyncio.create_task(self._detect(), name="first-detection")
        wanted = await asyncio.to_thread(self._wanted)
        info: EngineInfo | None = None
        if wanted is not None:
            await self._detection
            # A model that fell back to the processor is not served, and the box stays up to say so: ``/readyz``, the
            # admin API and every request have the reason. So it is with a big engine that does not start: what its log
            # says is an issue with a button, and a restart of the box would only load for minutes again.
            with suppress(OffloadRefused if wanted.format is ModelFormat.GGUF else EngineStartFailed):
                info = await self._host.boot(wanted.id)
            verdict = self._prover.verdict(wanted.id)
            if verdict is not None:
                self._reporter.offload(verdict)
        else:
            self._notifier.status("up, without a model")
        self._offload.start()
        self._host.start()
        self._issues.start()
        self._reporter.ready(self._setup, info, host, port)

    def _announced(self) -> str | None:
        return None if self._announcement is None else self._announcement.host

    def _make_live_settings(self) -> LiveSettings:
        store = SettingsStore(self._settings, self._foundation.flags)
        takers = (self._retune, self._host.retune, self._books.retune, self._operations.retune)
        return LiveSettings(store, self._foundation.accounts.audit, takers)

    def _make_terminals(self) -> Terminals:
        socket = self._settings.admin_socket or default_admin_socket(self._settings.state_dir)
        return Terminals(socket, enabled=self._settings.browser_console)

    @staticmethod
    def _answering(settings: Settings) -> dict[str, Any]:
        """The settings' part in answering, for requests that say nothing."""
        return {
            "sampling_policy": SamplingPolicy(settings.sampling_policy),
            "thinking": thinking_defaults(settings),
        }

    def _retune(self, settings: Settings) -> None:
        """Take changed settings over where no part does it itself."""
        self._settings = settings
        set_level(settings.log_level)
        self._metering.keeps_text = settings.store_prompts
        self._admissions.bound(settings.max_waiting)
        self._chat.retune(**self._answering(settings))
        self._terminals.retune(enabled=settings.browser_console)
        accounts = self._foundation.accounts
        accounts.retune_sessions(idle_s=settings.session_idle_s, max_s=settings.session_max_s)

    def _make_operations(self) -> Operations:
        return Operations(
            self._settings,
            self._foundation.database,
            self._foundation.accounts.audit,
            store=self._foundation.models,
            models=self._host,
            detect=self._probe,
            verified=self._facts.note_verified,
            version=version("r1box"),
            restart=self.restart,
        )

    async def _machine_alone(self) -> HardwareSnapshot:
        return await self._host.emptied(await self._hardware.detect())

    async def _hardware_told(self) -> BoxHardware:
        """What the other boxes of a cluster are told of this one."""
        snapshot = await self._machine_alone()
        settings = self._settings
        return hardware_of(snapshot, await asyncio.to_thread(engine_versions, settings))

    def _manager(self) -> EngineManager:
        settings = self._settings
        # Another box that comes back is not to wait for half a minute.
        backoff = Backoff(most_s=CLUSTER_BACKOFF_S) if self._cluster.status_now().role != "none" else None
        return EngineManager(start_timeout_s=settings.start_timeout_s, backoff=backoff)

    def _probe(self) -> HardwareSnapshot:
        return detect([vendor.probe(ROOT) for vendor in self._vendors])

    def _on_engine(self, status: EngineStatus) -> None:
        self._reporter.engine(status)
        if status.model_id in (None, self._host.default_id):
            self._notifier.status(_in_words(status))

    def _on_loading(self, setup: ModelSetup) -> None:
        if setup.installed.id == self._host.default_id:
            self._setup = setup
            self._reporter.loading(setup)

    async def _on_loaded(self, setup: ModelSetup, info: EngineInfo, snapshot: HardwareSnapshot) -> None:
        await self._remember_memory(setup, info, snapshot)

    async def _remember_memory(self, setup: ModelSetup, info: EngineInfo, snapshot: HardwareSnapshot) -> None:
        """What the load really took corrects the next plan; that it cannot be written is no reason not to serve."""
        if info.measured_bytes is None:
            return
        try:
            await asyncio.to_thread(remember_memory, setup, info.measured_bytes, snapshot, self._settings)
        except OSError as error:
            _log.warning("memory_not_remembered", reason=str(error))

    def _wanted(self) -> InstalledModel | None:
        if is_safe_mode(self._settings.state_dir):
            _log.warning("safe_mode", hint="r1box rescue restart, or r1box rescue safe-mode off, ends it")
            return None
        store = self._foundation.models
        wanted = self._settings.model or store.default_id()
        return None if wanted is None else store.get(wanted)

    def _serves(self, model: InstalledModel) -> bool:
        """Whether there is an engine for the model here."""
        is_attached = self._settings.attach_url is not None and model.source == self._settings.attach_url
        return model.format is ModelFormat.GGUF or is_attached or bool(wanted_engines(self._settings))

    async def _detect(self) -> HardwareSnapshot:
        snapshot = await self._hardware.detect()
        for finding in snapshot.findings:
            _log.warning("detection", code=finding.code, message=finding.message, hint=finding.hint)
        return snapshot

    async def _end_watching(self) -> None:
        """End the monitors with their children, and a detection that still runs."""
        if self._detection is not None:
            self._detection.cancel()
            await asyncio.wait({self._detection})
        await self._hardware.aclose()
        if self._sampler is not None:
            await asyncio.to_thread(self._sampler.stop)


def engine_factory(
    setup: ModelSetup, shares: BoxShares, over_boxes: Callable[[ServerSpec], Server] | None = None
) -> EngineFactory:
    """What makes the engines of a set-up: llama.cpp's workers, or a big engine's servers, those of a model over several
    boxes by ``over_boxes``."""
    if isinstance(setup.engine, ServerSpec):
        return ServerFactory(setup.engine, over_boxes if setup.engine.order.node is not None else None)
    return LlamaCppFactory(setup.engine, shares)


def _in_words(status: EngineStatus) -> str:
    """The engine's state as one line for ``systemctl status``."""
    words = f"{status.state.value} {status.model_id or ''}".rstrip()
    if status.load_fraction is not None:
        words += f", {int(status.load_fraction * 10) * 10} % loaded"
    if status.info is not None:
        words += f", {status.info.seats} x {status.info.context_tokens} tokens on {', '.join(status.info.backends)}"
    return f"{words}: {status.error}" if status.error else words


def _sampler(settings: Settings, vendors: Sequence[VendorSupport]) -> Sampler | None:
    """The sampler of all vendors' monitors; none when it is switched off. Asks nothing yet."""
    if settings.telemetry_interval_s == 0:
        return None
    monitors = [vendor.monitor(ROOT) for vendor in vendors]
    return Sampler(monitors, HostSampler(settings.state_dir), interval_s=settings.telemetry_interval_s)
