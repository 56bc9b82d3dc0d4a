"""Every trouble that the box must notice, provoked where it happens (files, clocks, cards, engines), on the real board:
it opens with its severity and fix-ups, whoever listens hears of it, and it goes when it is over."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest

from appliance import box_facts
from appliance.box_facts import FactsReader
from appliance.certificates import ServerCertificate
from appliance.engine.base import EngineState, EngineStatus
from appliance.health.board import IssueBoard
from appliance.health.checks import CHECKS
from appliance.health.fixups.verify_model import VerifyModel
from appliance.schemas.issues import Issue
from appliance.schemas.offload import Offload
from appliance.settings import Settings
from appliance.telemetry import TelemetryService
from models.importer import import_gguf
from models.model_store import ModelStore
from models.types import InstalledModel
from tests.appliance.health.test_checks import verdict
from tests.appliance.hosts import HostBox
from tests.drivers.telemetry_parts import Rig, ScriptedMonitor, card, lost, rig
from tests.e2e.box import TINY_R1

MIB = 1024**2


@dataclass
class Verdicts:
    """What the prover says."""

    told: tuple[Offload, ...] = ()

    def verdicts(self) -> tuple[Offload, ...]:
        return self.told

    def refused(self) -> Mapping[str, str]:
        return {}


@dataclass
class World:
    """A box of real parts: store, certificate, sampler, facts, checks, board."""

    folder: Path
    now: datetime = field(default_factory=lambda: datetime.now(UTC))
    disk: tuple[int, int] | None = None
    heard: list[tuple[str, str]] = field(default_factory=list)
    monitor: ScriptedMonitor = field(default_factory=lambda: ScriptedMonitor(answer=[card(0)]))
    verdicts: Verdicts = field(default_factory=Verdicts)

    def __post_init__(self) -> None:
        self.store = ModelStore(self.folder / "models")
        self.model: InstalledModel = import_gguf(self.store, TINY_R1).model
        self.settings = Settings(state_dir=self.folder, tls="local")
        self.certificate = ServerCertificate(self.settings, lambda: ("box.local",))
        self.certificate.open()
        self.rig: Rig = rig(self.monitor)
        self.facts = FactsReader(
            telemetry=TelemetryService(self.rig.sampler, dict).now,
            models=HostBox().host,
            offload=self.verdicts,
            findings=lambda: (),
            store=self.store,
            state_dir=self.folder,
            certificate_ends_at=self.certificate.ends_at,
            now=lambda: self.now,
        )
        self.board = IssueBoard(self.facts, CHECKS, [VerifyModel(self.facts)], on_change=self.hear)

    def hear(self, change: str, issue: Issue) -> None:
        self.heard.append((change, issue.code))

    def sample(self, *answer: object) -> None:
        self.monitor.answer = answer  # type: ignore[assignment]
        for _ in range(4):
            self.rig.step(5)

    async def look(self) -> dict[str, Issue]:
        return {issue.code: issue for issue in (await self.board.look()).issues}


@contextmanager
def full_disk(world: World) -> Iterator[None]:
    world.disk = (10 * MIB, 100_000 * MIB)
    yield
    world.disk = None


@contextmanager
def clock_of_1970(world: World) -> Iterator[None]:
    before, world.now = world.now, datetime(1970, 1, 1, tzinfo=UTC)
    yield
    world.now = before


@contextmanager
def clock_before_an_import(world: World) -> Iterator[None]:
    before, world.now = world.now, world.now - timedelta(hours=3)
    yield
    world.now = before


@contextmanager
def lost_card(world: World) -> Iterator[None]:
    world.sample(card(0))
    world.sample(lost(0))
    yield
    world.sample(card(0))


@contextmanager
def hot_card(world: World) -> Iterator[None]:
    world.sample(card(0, throttle_reasons=("hw_thermal",), temperature_celsius=93.0))
    yield
    world.sample(card(0))


@contextmanager
def crashing_engine(world: World) -> Iterator[None]:
    def note(state: EngineState, restarts: int) -> None:
        world.facts.note(EngineStatus(state=state, model_id=world.model.id, restarts=restarts))

    note(EngineState.READY, 0)
    for number in range(3):
        note(EngineState.FAILED, number)
        note(EngineState.STARTING, number + 1)
        note(EngineState.READY, number + 1)
    yield
    world.now += timedelta(minutes=11)


@contextmanager
def degraded_offload(world: World) -> Iterator[None]:
    world.verdicts.told = (verdict("DEGRADED", "slow"),)
    yield
    world.verdicts.told = (verdict("VERIFIED"),)


@contextmanager
def corrupt_model(world: World) -> Iterator[None]:
    path = world.model.path
    whole = path.read_bytes()
    path.chmod(0o644)
    path.write_bytes(whole[:-100] + bytes([whole[-100] ^ 0xFF]) + whole[-99:])
    assert "bytes have changed" in str(asyncio.run(world.facts.verify(world.model.id)))
    yield
    path.write_bytes(whole)
    asyncio.run(world.facts.verify(world.model.id))


@contextmanager
def ending_certificate(world: World) -> Iterator[None]:
    ends = world.certificate.ends_at()
    assert ends is not None
    before, world.now = world.now, ends - timedelta(days=5)
    yield
    world.now = before


Trouble = Callable[[World], AbstractContextManager[None]]


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    made = World(tmp_path)
    real = shutil.disk_usage

    def usage(path: Path) -> object:
        free_total = made.disk
        return real(path) if free_total is None else SimpleNamespace(free=free_total[0], total=free_total[1])

    monkeypatch.setattr(box_facts.shutil, "disk_usage", usage)
    made.sample(card(0))
    return made


@pytest.mark.parametrize(
    ("trouble", "code", "severity", "subject", "fixups"),
    [
        (full_disk, "disk_full", "error", "state", ()),
        (clock_of_1970, "clock_wrong", "error", None, ()),
        (clock_before_an_import, "clock_wrong", "error", None, ()),
        (lost_card, "device_lost", "warning", "nvidia:0", ()),
        (hot_card, "device_throttled", "warning", "nvidia:0", ()),
        (crashing_engine, "engine_crash_loop", "error", "tiny-r1-q8_0", ("verify_model",)),
        (degraded_offload, "offload_degraded", "warning", "r1-7b", ()),
        (corrupt_model, "model_damaged", "error", "tiny-r1-q8_0", ("verify_model",)),
        (ending_certificate, "certificate_ends", "warning", None, ()),
    ],
)
def test_it_opens_is_heard_of_and_goes(
    world: World, trouble: Trouble, code: str, severity: str, subject: str | None, fixups: tuple[str, ...]
) -> None:
    assert code not in asyncio.run(world.look())
    with trouble(world):
        issue = asyncio.run(world.look())[code]
        assert (issue.severity, issue.subject) == (severity, subject)
        assert issue.hint
        # Of those that the check names, the ones that this board has.
        assert tuple(button.name for button in issue.fixups) == fixups
        assert (("issue.opened", code)) in world.heard
    asyncio.run(world.look())
    assert code not in asyncio.run(world.look())
    assert ("issue.closed", code) in world.heard


def test_a_fixup_mends_a_model_that_was_repaired(world: World) -> None:
    with corrupt_model(world):
        issue = asyncio.run(world.look())["model_damaged"]
        still = asyncio.run(world.board.fix(issue.id, "verify_model"))
        assert "is damaged" in still.message
        assert issue.id in {one.id for one in still.issues}
        world.model.path.write_bytes(TINY_R1.read_bytes())
        mended = asyncio.run(world.board.fix(issue.id, "verify_model"))
        assert mended.message == "tiny-r1-q8_0 is whole."
        assert issue.id not in {one.id for one in mended.issues}


def test_an_ended_certificate_and_a_disk_that_fills_up_are_graver(world: World) -> None:
    ends = world.certificate.ends_at()
    assert ends is not None
    world.now = ends - timedelta(days=5)
    world.disk = (900 * MIB, 100_000 * MIB)
    assert {asyncio.run(world.look())[code].severity for code in ("certificate_ends", "disk_full")} == {"warning"}
    world.now, world.disk = ends + timedelta(minutes=1), (10 * MIB, 100_000 * MIB)
    assert {asyncio.run(world.look())[code].severity for code in ("certificate_ends", "disk_full")} == {"error"}
    assert ("issue.changed", "disk_full") in world.heard
