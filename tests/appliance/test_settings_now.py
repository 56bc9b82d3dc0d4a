"""Every setting that holds at once, changed in a real daemon's parts: what it is about is otherwise from then on.

The daemon is made, not served: its own writer of settings tells its own parts. Time and engines are fakes.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from appliance.daemon import Daemon, lay_foundation
from appliance.engine.request import GenerationRequest
from appliance.errors import QueueFull
from appliance.jobs.hubs import hubs_of
from appliance.jobs.works import Threaded
from appliance.schemas.issues import Issue
from appliance.security.audit import AuditFilter
from appliance.security.identity import SYSTEM, Actor
from appliance.security.roles import Role
from appliance.serving.charge import OpenGate
from appliance.settings import CHANGED_NAME, Settings, load_settings
from appliance.settings_store import NOW
from appliance.terminals import ConsoleOff, Holder, Window
from appliance.usage.records import PromptRecord, RequestRecord
from models.importer import import_gguf
from tests.appliance.hosts import HostBox
from tests.appliance.serving.box import Box
from tests.appliance.serving.samples import R1
from tests.appliance.test_daemon import TINY_R1, Reports

OLD = datetime.now(UTC) - timedelta(days=400)
LINE = Issue(id="x", code="x", severity="info", message="It is so.", since=OLD)


@dataclass
class World:
    """A daemon, and what changes its settings as the API does."""

    daemon: Daemon

    async def change(self, **values: Any) -> None:
        await self.daemon._live.change(values, SYSTEM)

    async def tidied(self, **values: Any) -> None:
        """Change, and wait until the daemon's upkeep, which that woke, has gone over its logs."""
        books = self.daemon._books
        assert not books._woken.is_set()
        await self.change(**values)
        assert books._woken.is_set(), "upkeep is told at once, not within the hour"
        await asyncio.to_thread(books._trim)
        books._woken.clear()

    async def request(self) -> GenerationRequest:
        """What the engine is asked for a question of a client that asks for a temperature of 1.2 and nothing else."""
        fake, chat = Box(), self.daemon._chat
        chat._models, chat._manager, chat._gate = fake.models, fake.source, OpenGate()
        sampling = fake.request().sampling.__class__
        async with await chat.open(fake.request(max_tokens=400, sampling=sampling(temperature=1.2))) as stream:
            async for _ in stream:
                pass
        return fake.engine.requests[-1]

    def note_request(self, number: int, at: datetime, *, text: str | None = None) -> None:
        writer = self.daemon._books.writer
        writer.add(
            RequestRecord(
                request_id=f"req_{number}", at=at, subject="key:1", name="k", key_id=None, user_id=None, model=R1.id,
                path="/v1/chat/completions", finish="stop",
            )
        )  # fmt: skip
        if text is not None:
            writer.add_text(PromptRecord(request_id=f"req_{number}", at=at, prompt=text, answer="A.", is_cut=False))

    async def written(self) -> None:
        await asyncio.to_thread(self.daemon._books.writer.flush)

    def audited(self) -> int:
        return len(self.daemon._foundation.accounts.audit.list(AuditFilter(action="test"), limit=100_000))

    def logged(self) -> int:
        return len(self.daemon._books.report.requests(limit=100_000))

    def kept_text(self, number: int) -> bool:
        return bool(self.daemon._books.report.text(f"req_{number}"))


@pytest.fixture
async def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    monkeypatch.setenv("R1BOX_CONFIG", str(tmp_path / "none.toml"))
    (tmp_path / "none.toml").write_text("")
    monkeypatch.setenv("R1BOX_STATE_DIR", str(tmp_path / "s"))
    monkeypatch.setenv("R1BOX_MODELS_DIR", str(tmp_path / "m"))
    foundation = await asyncio.to_thread(lay_foundation, load_settings())
    made = await asyncio.to_thread(Daemon, foundation, Reports())
    level = logging.getLogger().level
    yield World(made)
    assert (tmp_path / "s" / CHANGED_NAME).exists()
    logging.getLogger().setLevel(level)
    await made._host.aclose()
    await made._operations.aclose()
    await asyncio.to_thread(foundation.database.dispose)


Effect = Callable[[World], Awaitable[None]]
EFFECTS: dict[str, Effect] = {}


def of(*names: str) -> Callable[[Effect], Effect]:
    """What is to be seen of these settings."""

    def put(effect: Effect) -> Effect:
        EFFECTS.update(dict.fromkeys(names, effect))
        return effect

    return put


@of("load_on_request")
async def loads(world: World) -> None:
    host = world.daemon._host
    installed = (await asyncio.to_thread(import_gguf, world.daemon._foundation.models, TINY_R1)).model
    assert await host.must_load(installed.id)
    await world.change(load_on_request="off")
    assert not await host.must_load(installed.id)
    assert (await host.entries()).load_on_request == "off"


@of("idle_unload_s")
async def leaves_when_idle(world: World) -> None:
    await world.change(idle_unload_s=60)
    watch = world.daemon._host._idle_watch
    assert watch is not None
    assert not watch.done()
    # The same with models, and a clock that is quicker.
    box = HostBox()
    for name in ("main", "a"):
        box.add(name, 8)
    await box.host.boot("main")
    await box.host.load("a")
    box.host.start()
    box.host.retune(box.host._parts.settings.model_copy(update={"idle_unload_s": world.daemon._settings.idle_unload_s}))
    async with asyncio.timeout(20):
        while box.states() != {"main": "ready"}:
            await asyncio.sleep(0)
    assert box.now_s >= 60
    await box.host.aclose()


@of("max_waiting")
async def queue_is_bounded(world: World) -> None:
    queue = world.daemon._admissions.of("m")
    for _ in range(5):
        queue.enter()
    await world.change(max_waiting=5)
    queue.enter()
    with pytest.raises(QueueFull):
        queue.enter()
    assert world.daemon._admissions.of("another").stats().max_waiting == 5


@of("session_idle_s", "session_max_s")
async def sessions_end(world: World) -> None:
    accounts = world.daemon._foundation.accounts

    def lengths() -> tuple[float, float]:
        """Of a session of this moment, in seconds."""
        name = f"u{len(accounts.users.list())}"
        user = accounts.users.create(name, Role.USER, None)
        accounts.sessions.create(user.id, actor=Actor(kind="user", name=name))
        [one] = accounts.sessions.list(user.id)
        return ((one.idle_until - one.last_seen_at).total_seconds(), (one.expires_at - one.created_at).total_seconds())

    assert await asyncio.to_thread(lengths) == (43_200, 604_800)
    await world.change(session_idle_s=60, session_max_s=600)
    assert await asyncio.to_thread(lengths) == (60, 600)
    # Those that were there before follow the idle end too.
    idle = {
        (one.idle_until - one.last_seen_at).total_seconds() for one in await asyncio.to_thread(accounts.sessions.list)
    }
    assert idle == {60}


@of("audit_keep_days")
async def audit_by_age(world: World) -> None:
    audit = world.daemon._foundation.accounts.audit
    audit._now = lambda: OLD
    await asyncio.to_thread(audit.record, SYSTEM, "test")
    audit._now = lambda: datetime.now(UTC)
    await asyncio.to_thread(audit.record, SYSTEM, "test")
    await world.tidied(audit_keep_days=30)
    assert await asyncio.to_thread(world.audited) == 1


@of("audit_keep_rows", "audit_keep_bytes")
async def audit_by_size(world: World) -> None:
    audit = world.daemon._foundation.accounts.audit

    def fill(rows: int, size: int) -> None:
        with audit.together() as append:
            for _ in range(rows):
                append(SYSTEM, "test", "x" * 64, {"text": "x" * size})

    await asyncio.to_thread(fill, 1_200, 1)
    await world.tidied(audit_keep_rows=1_000)
    assert 900 < await asyncio.to_thread(world.audited) <= 1_000
    await asyncio.to_thread(fill, 300, 8_000)
    await world.tidied(audit_keep_bytes=1024 * 1024)
    assert 0 < await asyncio.to_thread(world.audited) < 140


@of("usage_keep_days")
async def usage_by_age(world: World) -> None:
    for number, at in enumerate((OLD, datetime.now(UTC))):
        world.note_request(number, at)
    await world.written()
    report = world.daemon._books.report
    assert len(await asyncio.to_thread(report.rows, None, ("day",))) == 2
    await world.tidied(usage_keep_days=31)
    [row] = await asyncio.to_thread(report.rows, None, ("day",))
    assert row.day is not None
    assert row.day > OLD.date() + timedelta(days=300)


@of("request_log_days", "request_log_rows")
async def request_log(world: World) -> None:
    now = datetime.now(UTC)
    world.note_request(0, now - timedelta(days=10))
    for number in range(1, 1_101):
        world.note_request(number, now)
    await world.written()
    await world.tidied(request_log_days=20)
    assert await asyncio.to_thread(world.logged) == 1_101
    await world.tidied(request_log_days=5)
    assert await asyncio.to_thread(world.logged) == 1_100
    await world.tidied(request_log_rows=1_000)
    assert await asyncio.to_thread(world.logged) == 1_000


@of("store_prompts", "prompt_log_days", "prompt_log_bytes")
async def prompts(world: World) -> None:
    now = datetime.now(UTC)
    await world.tidied(store_prompts=True)
    assert world.daemon._metering.keeps_text
    world.note_request(1, now - timedelta(days=10), text="old")
    for number in range(2, 40):
        world.note_request(number, now, text="x" * 50_000)
    await world.written()
    await world.tidied(prompt_log_days=20)
    assert await asyncio.to_thread(world.kept_text, 1)
    await world.tidied(prompt_log_days=5)
    assert not await asyncio.to_thread(world.kept_text, 1)
    await world.tidied(prompt_log_bytes=1024 * 1024)
    assert not await asyncio.to_thread(world.kept_text, 2)
    assert await asyncio.to_thread(world.kept_text, 39)
    await world.tidied(store_prompts=False)
    assert not world.daemon._metering.keeps_text
    assert not await asyncio.to_thread(world.kept_text, 39)


@of("sampling_policy")
async def temperature(world: World) -> None:
    assert (await world.request()).sampling.temperature == 0.7
    await world.change(sampling_policy="free")
    assert (await world.request()).sampling.temperature == 1.2


@of("thinking_effort", "thinking_max_tokens", "loop_breaker")
async def thinking(world: World) -> None:
    async def budget() -> int | None:
        asked = (await world.request()).thinking
        assert asked is not None
        return asked.budget_tokens

    before = await budget()
    assert before is not None  # max_tokens bounds it
    await world.change(thinking_max_tokens=64)
    assert await budget() == 64
    await world.change(thinking_max_tokens=None)
    assert await budget() == before
    asked = (await world.request()).thinking
    assert asked is not None
    assert asked.breaks_loops
    await world.change(loop_breaker=False, thinking_effort="minimal")
    asked = (await world.request()).thinking
    assert asked is not None
    assert not asked.breaks_loops
    assert world.daemon._chat._thinking.effort.value == "minimal"


@of("log_level")
async def log(world: World) -> None:
    for level in ("debug", "error"):
        await world.change(log_level=level)
        assert logging.getLogger("appliance.anything").getEffectiveLevel() == getattr(logging, level.upper())


@of("hub_order", "huggingface_endpoint", "modelscope_endpoint", "download_bytes_per_s")
async def hubs(world: World) -> None:
    await world.change(
        hub_order="modelscope,huggingface",
        huggingface_endpoint="https://mirror.example",
        modelscope_endpoint="https://scope.example",
        download_bytes_per_s=4096,
    )
    found = [hub.access for hub in hubs_of(_settings_of_pulls(world))]
    assert [(one.name.value, one.endpoint) for one in found] == [
        ("modelscope", "https://scope.example"),
        ("huggingface", "https://mirror.example"),
    ]
    assert [one.limit.bytes_per_s for one in found if one.limit is not None] == [4096, 4096]


def _settings_of_pulls(world: World) -> Settings:
    """What a download that begins now goes by."""
    work = world.daemon._operations.jobs._works["pull"]
    assert isinstance(work, Threaded)
    return work.place.settings


@of("browser_console")
async def consoles_in_browsers(world: World) -> None:
    async def lasts() -> bool:
        return True

    terminals = world.daemon._terminals
    await world.change(browser_console=True)
    assert terminals.enabled
    await world.change(browser_console=False)
    with pytest.raises(ConsoleOff):
        await terminals.open(Holder(session_id=1, name="li", headers={}), Window(columns=80, rows=24), lasts)


@of("backup_keep")
async def backups_stay(world: World) -> None:
    backups = world.daemon._operations._backups
    await world.change(backup_keep=2)
    assert (await asyncio.to_thread(world.daemon._operations.backups.read)).keep == backups.keep == 2


@of("alert_urls", "alert_secret", "alert_severity")
async def alerts(world: World) -> None:
    service = world.daemon._operations.alerts
    assert service.state().targets == ()
    await world.change(alert_urls="https://chat.example.org/hook", alert_secret="0123456789abcdef")
    state = service.state()
    assert ([one.target for one in state.targets], state.signed) == (["https://chat.example.org"], True)
    service.note("issue.opened", LINE)
    assert service.state().targets[0].waiting == 0, "small things are not told"
    await world.change(alert_severity="info")
    service.note("issue.opened", LINE)
    assert service.state().targets[0].waiting == 1


def test_every_setting_that_holds_at_once_has_an_effect_here() -> None:
    assert set(EFFECTS) == NOW


@pytest.mark.parametrize("effect", list(dict.fromkeys(EFFECTS.values())), ids=lambda effect: effect.__name__)
async def test_it_takes_effect(effect: Effect, world: World) -> None:
    await effect(world)
