"""A box without a model: the real API, serving layer and database over an engine that says what a test wants."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from argon2 import PasswordHasher
from sqlalchemy import Engine as DatabaseEngine
from starlette.types import ASGIApp

from appliance.api.admin.operators import OperatorServices
from appliance.api.app import ApiServices, create_app
from appliance.api.metering import Metering
from appliance.box_names import BoxNames
from appliance.certificates import ServerCertificate
from appliance.chats.service import Chats
from appliance.engine.base import Engine, EngineInfo, EngineStatus
from appliance.errors import IssueNotFound, ModelNotReady
from appliance.first_run.list import FirstRunList
from appliance.hardware import HardwareReader
from appliance.jobs.service import JobService
from appliance.jobs.updates import UpdateDoor
from appliance.live_settings import LiveSettings
from appliance.log_ring import LogRing
from appliance.logs import add_sink
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
from appliance.network.read import Reader
from appliance.network.service import NetworkService
from appliance.network.tools import Tools
from appliance.operations import Operations
from appliance.operators.plans import PlanReader
from appliance.operators.removal import ModelRemover
from appliance.operators.software import SoftwareReader
from appliance.operators.sticks import StickReader
from appliance.operators.updates import UpdateReader
from appliance.schemas.cluster import ClusterBox, ClusterStatus
from appliance.schemas.issues import FixupResult, IssueList
from appliance.schemas.models import ModelEntries, ModelEntry
from appliance.schemas.offload import Offload
from appliance.security.accounts import Accounts
from appliance.security.keys import Grant, KeyRepository
from appliance.security.limits import Limits
from appliance.security.passwords import Passwords
from appliance.security.roles import EVERYTHING
from appliance.serving.admission import Admission
from appliance.serving.admission_book import AdmissionBook
from appliance.serving.chat import ChatService
from appliance.serving.profile import profile_for
from appliance.serving.types import ServedModel
from appliance.settings import Settings
from appliance.settings_store import SettingsStore
from appliance.store.database import open_database
from appliance.telemetry import TelemetryService
from appliance.terminals import Terminals
from appliance.usage.report import UsageReport
from appliance.usage.writer import UsageWriter
from drivers.types import Device, HardwareSnapshot, Host
from installer.update.rauc import Rauc
from models.model_store import ModelStore
from tests.drivers.telemetry_parts import Rig, ScriptedMonitor, card, lost, rig
from tests.fakes.engine import FAKE_INFO, FakeEngine, FakeEngineSource
from tests.fakes.network import FakeNetwork

MODEL = "org/Tiny-R1"
MAX_REQUEST_BYTES = 12 * 1024 * 1024
TEMPLATE = "{{ bos_token }}{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}<assistant><think>\n"
H20 = Device("nvidia", 0, "NVIDIA H20", chip="H20", memory_total_bytes=96 << 30)
QUICK_HASHER = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
GIVEN = frozenset(("state_dir", "models_dir", "job_folders"))
ANSWER = ("two ", "and two", "</think>", "\n\n", "It is ", "4.")


class Manager(FakeEngineSource):
    """Says what a test puts into ``told``, else that the engine is ready. Notes what operators ask for."""

    told: EngineStatus | None = None

    def __init__(self, engine: Engine | None, *, model_id: str) -> None:
        super().__init__(engine, model_id=model_id)
        self.asked: list[tuple[object, ...]] = []

    def status(self, model_id: str | None = None) -> EngineStatus:
        return self.told or super().status(model_id)

    def ready(self, model_id: str | None = None) -> tuple[Engine, EngineInfo]:
        if self.told is not None:
            raise ModelNotReady(reason="it is loading.")
        return super().ready(model_id)

    def statuses(self) -> dict[str, EngineStatus]:
        return {MODEL: self.status()}

    async def installed(self) -> dict[str, int]:
        return {MODEL: 1_700_000_000}

    async def entries(self) -> ModelEntries:
        entry = ModelEntry(id="tiny", name="Tiny R1", quantization="Q8_0", size_bytes=3_400_000, default=True)
        loaded = ModelEntry(
            id=MODEL,
            name="Tiny R1",
            quantization="Q8_0",
            size_bytes=3_400_000,
            state="ready",
            context_tokens=self.info.context_tokens,
            devices=("nvidia-0",),
            planned_bytes=5_000_000,
            format="gguf",
            architecture="qwen2",
            parameters=1_500_000,
            trained_context_tokens=4_096,
            sha256="ab" * 32,
        )
        return ModelEntries(models=(entry, loaded))

    async def load(self, model_id: str, *, swap: bool = True, pin: bool = False) -> EngineInfo:
        self.asked.append(("load", model_id, swap, pin))
        return self.info

    def progress(self, model_id: str) -> float | None:
        return None

    async def unload(self, model_id: str, *, drain_timeout_s: float) -> None:
        self.asked.append(("unload", model_id, drain_timeout_s))

    async def activate(self, model_id: str) -> EngineInfo:
        self.asked.append(("activate", model_id))
        return self.info


@dataclass
class Machine:
    """What detection finds; ``before`` is called each time."""

    snapshot: HardwareSnapshot = field(default_factory=lambda: HardwareSnapshot(Host(hostname="box"), (H20,)))
    before: Callable[[], None] = lambda: None
    asked: int = 0

    def detect(self) -> HardwareSnapshot:
        self.asked += 1
        self.before()
        return self.snapshot


@dataclass
class Verdicts:
    """Says what a test wants of where models run."""

    told: dict[str, Offload] = field(default_factory=dict)
    checked: int = 0

    def verdict(self, model_id: str) -> Offload | None:
        return self.told.get(model_id)

    def verdicts(self) -> tuple[Offload, ...]:
        return tuple(self.told.values())

    async def check_all(self) -> None:
        self.checked += 1


@dataclass
class Issues:
    """Has the issues that a test wants, and notes the fix-ups that are asked for."""

    told: IssueList = field(default_factory=IssueList)
    asked: list[tuple[str, str]] = field(default_factory=list)

    def issues(self) -> IssueList:
        return self.told

    async def look(self, *, settled: bool = False) -> IssueList:
        return self.told

    async def fix(self, issue_id: str, name: str) -> FixupResult:
        self.asked.append((issue_id, name))
        if not any(issue.id == issue_id for issue in self.told.issues):
            raise IssueNotFound(issue=issue_id)
        return FixupResult(message="Done.")


LED = ClusterStatus(
    role="leader",
    name="box-1",
    model="r1",
    boxes=(ClusterBox(name="box-1", role="leader", state="here", is_this=True),),
)


class OneBox:
    """The only box of a cluster."""

    async def status(self) -> ClusterStatus:
        return LED


@dataclass
class Box:
    """The parts of a running box that tests look at or steer."""

    app: ASGIApp
    models: dict[str, ServedModel]
    engine: FakeEngine
    manager: Manager
    admission: Admission
    accounts: Accounts
    limits: Limits
    writer: UsageWriter
    keys: KeyRepository
    key: str
    database: DatabaseEngine
    rig: Rig
    monitor: ScriptedMonitor
    machine: Machine
    verdicts: Verdicts
    issues: Issues
    chats: Chats
    jobs: JobService
    store: ModelStore
    logs: LogRing
    metering: Metering
    restarts: list[str]
    network: FakeNetwork

    def use(self, engine: FakeEngine) -> FakeEngine:
        """Put another engine in."""
        self.engine = self.manager.engine = engine
        self.manager.info = engine.info
        return engine

    @property
    def authorization(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key}"}


def network_of(machine: FakeNetwork) -> NetworkService:
    """The service on a made-up machine; its helper does not run unless a test starts one (``HelperThread``)."""
    tools = Tools(machine.root, machine.tools_path)
    return NetworkService(machine.root / "system.sock", tools=tools, reader=Reader(tools, machine.hostname))


def make_box(folder: Path) -> Box:
    """A box with one key named ``tester``, which may everything, and a chat page of two files. Blocks.

    Over 60 lines because it is one list of what a box is made of.
    """
    web = folder / "web"
    (web / "js").mkdir(parents=True)
    (web / "index.html").write_text("<!doctype html><title>R1 Box</title>", encoding="utf-8")
    (web / "js" / "app.js").write_text("export {};", encoding="utf-8")
    (web / "assets").mkdir()
    (web / "assets" / "app-0A1B2C3D.js").write_text("export {};\n" * 100, encoding="utf-8")
    (web / "favicon.svg").write_text("<svg/>", encoding="utf-8")
    (web / "secret.key").write_text("not served", encoding="utf-8")
    database = open_database(folder / "r1box.db")
    accounts = Accounts(database, folder, passwords=Passwords(QUICK_HASHER))
    keys = accounts.keys
    limits, writer = Limits(), UsageWriter(database)
    engine = FakeEngine(ANSWER, cached_tokens=1)
    manager = Manager(engine, model_id=MODEL)
    control_tokens = frozenset(("<assistant>", "<user>", "<think>", "</think>"))
    model = ServedModel(
        id=MODEL,
        name="Tiny R1",
        created_at=1_700_000_000,
        chat_template=TEMPLATE,
        bos_token="<s>",
        eos_token="</s>",
        control_tokens=control_tokens,
        profile=profile_for(name="DeepSeek R1", chat_template=TEMPLATE, control_tokens=control_tokens),
    )
    admission = Admission(seats=FAKE_INFO.seats, max_waiting=1)
    models = {MODEL: model}
    admissions = AdmissionBook(lambda: admission)
    admissions.of(MODEL)
    monitor = ScriptedMonitor(answer=[card(0), lost(1)])
    made, machine = rig(monitor), Machine()
    hardware = HardwareReader(machine.detect)
    telemetry = TelemetryService(made.sampler, hardware.devices)
    verdicts, issues = Verdicts(), Issues()
    (folder / "stick").mkdir()
    settings = Settings(state_dir=folder, models_dir=folder / "models", job_folders=(folder / "stick",))
    store = ModelStore(folder / "models")
    # Nobody listens and there are no slots, unless a test makes them (tests.installer.update.boxes).
    system = folder / "system"
    restarts: list[str] = []
    operations = Operations(
        settings,
        database,
        accounts.audit,
        store=store,
        models=manager,
        detect=machine.detect,
        verified=lambda *_: None,
        door=UpdateDoor(folder / "update.sock"),
        version="1.2.3",
        restart=lambda: restarts.append("asked"),
    )
    jobs = operations.jobs
    metering = Metering(limits, writer)
    chat = ChatService(models, manager, admissions, gate=metering)
    chats = Chats(database, chat)
    logs = LogRing()
    add_sink(logs.handler)
    wires = FakeNetwork(folder / "machine")
    network = network_of(wires)
    app = create_app(
        ApiServices(
            cluster=OneBox(),
            chat=chat,
            chats=chats,
            usage=UsageReport(database),
            models=manager,
            accounts=accounts,
            metrics=Metrics(
                ServingCollector(manager, admissions),
                DeviceCollector(telemetry.now),
                ThinkingCollector(chat.thoughts),
                TimesCollector(chat.times),
                BuildCollector("1.2.3"),
                OffloadCollector(verdicts.verdicts),
                IssueCollector(issues.issues),
                ClusterCollector(lambda: LED),
                AlertCollector(operations.alerts.state),
            ),
            telemetry=telemetry,
            hardware=hardware,
            offload=verdicts,
            issues=issues,
            jobs=jobs,
            backups=operations.backups,
            restart=lambda: restarts.append("asked"),
            removal=ModelRemover(store, accounts.audit),
            operators=OperatorServices(
                plans=PlanReader(settings, store, hardware.detect),
                sticks=StickReader(operations.folders.now),
                software=SoftwareReader(store),
                serving=ServingRecorder(manager, admissions),
            ),
            updates=UpdateReader(operations.folders.now, "1.2.3", Rauc(system, str(system / "rauc")).slots),
            update_desk=operations.door,
            alerts=operations.alerts,
            logs=logs,
            terminals=Terminals(folder / "admin.sock", enabled=False),
            network=network,
            first_run=FirstRunList(
                folder,
                has_admin=accounts.users.has_admin,
                machine=network,
                models=manager,
                jobs=jobs,
                proof=verdicts,
                issues=issues,
            ),
            settings=LiveSettings(SettingsStore(settings, GIVEN), accounts.audit),
            identity=BoxNames(settings, ServerCertificate(settings), "1.2.3"),
            version="1.2.3",
            max_request_bytes=MAX_REQUEST_BYTES,
            web_folder=web,
        )
    )
    secret = keys.create("tester", Grant(scopes=EVERYTHING)).secret
    parts = (engine, manager, admission, accounts, limits, writer, keys, secret, database, made, monitor, machine)
    return Box(app, models, *parts, verdicts, issues, chats, jobs, store, logs, metering, restarts, wires)
