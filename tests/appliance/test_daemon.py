"""The daemon in this process, with the real engine: nothing in its event loop blocks, and its start can be refused."""

from __future__ import annotations

import asyncio
import socket
import threading
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from blockbuster import blockbuster_ctx
from openai import AsyncOpenAI

from appliance.daemon import Daemon, Foundation, bind, lay_foundation
from appliance.engine.base import EngineInfo, EngineState, EngineStatus
from appliance.errors import PortInUse
from appliance.model_setup import ModelSetup
from appliance.schemas.offload import Offload
from appliance.security.keys import Grant
from appliance.security.roles import EVERYTHING
from appliance.settings import load_settings
from drivers.support import VendorSupport
from drivers.types import Device, ProbeResult
from models.importer import import_gguf
from tests.appliance.blocking import allow_looks_for_changes
from tests.drivers.telemetry_parts import ScriptedMonitor, card

TINY_R1 = Path(__file__).parents[1] / "fixtures" / "tiny_r1" / "gguf" / "Tiny-R1-Q8_0.gguf"


class OneCard:
    """A probe that finds one card."""

    name = "nvidia"

    def probe(self) -> ProbeResult:
        return ProbeResult(self.name, (Device("nvidia", 0, "NVIDIA H20", chip="H20"),))


class Reports:
    """Notes what the daemon reports."""

    def __init__(self) -> None:
        self.states: list[EngineState] = []
        self.is_ready = asyncio.Event()
        self.address = ""
        self.setup: ModelSetup | None = None
        self.verdict: Offload | None = None

    def listening(self, host: str, port: int) -> None:
        self.address = f"http://{host}:{port}"

    def loading(self, setup: ModelSetup) -> None:
        self.setup = setup

    def engine(self, status: EngineStatus) -> None:
        if not self.states or self.states[-1] is not status.state:
            self.states.append(status.state)

    def offload(self, verdict: Offload) -> None:
        self.verdict = verdict

    def ready(self, setup: ModelSetup | None, info: EngineInfo | None, host: str, port: int) -> None:
        assert setup == self.setup
        assert info is None or setup is not None
        self.is_ready.set()

    def stopping(self) -> None:
        self.states.append(EngineState.STOPPING)


@pytest.fixture
def foundation(tmp_path: Path) -> Foundation:
    settings = load_settings(
        {
            "state_dir": tmp_path / "s",
            "models_dir": tmp_path / "m",
            "seats": 2,
            "context_tokens": 1024,
            "threads": 1,
            "sampling_policy": "free",
        }
    )
    return lay_foundation(settings)


async def test_a_whole_life_never_blocks_the_event_loop(foundation: Foundation) -> None:
    import_gguf(foundation.models, TINY_R1)
    key = foundation.keys.create("test").secret
    reports = Reports()
    daemon = Daemon(foundation, reports)
    server = daemon._server()
    listener = bind("127.0.0.1", 0)
    with listener, blockbuster_ctx("appliance") as blockbuster:
        allow_looks_for_changes(blockbuster)
        life = asyncio.create_task(daemon._serve(server, listener))
        await asyncio.wait_for(reports.is_ready.wait(), 60)
        assert reports.setup is not None
        async with AsyncOpenAI(base_url=f"{reports.address}/v1", api_key=key, max_retries=0) as client:
            reply = await client.chat.completions.create(
                model=reports.setup.installed.id,
                messages=[{"role": "user", "content": "What is the capital of France?"}],
                temperature=0,
            )
        assert reply.choices[0].message.content == "The capital of France is Paris."
        server.should_exit = True
        await asyncio.wait_for(life, 30)
    assert reports.states == [
        EngineState.STARTING,
        EngineState.READY,
        EngineState.STOPPING,
        EngineState.DRAINING,
        EngineState.STOPPING,
        EngineState.STOPPED,
    ]


async def test_cards_are_watched_from_the_start_to_the_end(foundation: Foundation) -> None:
    key = foundation.keys.create("test", Grant(scopes=EVERYTHING)).secret
    monitor, reports = ScriptedMonitor(answer=[card(0)]), Reports()
    vendor = VendorSupport("nvidia", "NVIDIA", lambda root: OneCard(), lambda root: monitor)
    daemon = Daemon(foundation, reports, [vendor])
    server = daemon._server()
    listener = bind("127.0.0.1", 0)
    with listener, blockbuster_ctx("appliance") as blockbuster:
        allow_looks_for_changes(blockbuster)
        life = asyncio.create_task(daemon._serve(server, listener))
        await asyncio.wait_for(reports.is_ready.wait(), 60)
        headers = {"Authorization": f"Bearer {key}"}
        async with httpx.AsyncClient(base_url=reports.address, headers=headers, trust_env=False) as client:
            snapshot = (await client.get("/api/admin/hardware")).json()["snapshot"]
            told = (await client.get("/api/admin/telemetry")).json()
            while not told["devices"]:
                told = (await client.get("/api/admin/telemetry")).json()
        server.should_exit = True
        await asyncio.wait_for(life, 30)
    assert [device["chip"] for device in snapshot["devices"]] == ["H20"]
    assert [(device["key"], device["chip"]) for device in told["devices"]] == [("nvidia:0", "H20")]
    assert monitor.closed == 1
    assert not any(thread.name.startswith("telemetry-") for thread in threading.enumerate())


async def test_telemetry_that_is_off_asks_no_monitor(foundation: Foundation) -> None:
    settings = foundation.settings.model_copy(update={"telemetry_interval_s": 0.0})
    monitor = ScriptedMonitor()
    vendor = VendorSupport("nvidia", "NVIDIA", lambda root: OneCard(), lambda root: monitor)
    daemon = Daemon(replace(foundation, settings=settings), Reports(), [vendor])
    server = daemon._server()
    with bind("127.0.0.1", 0) as listener:
        server.should_exit = True
        await asyncio.wait_for(daemon._serve(server, listener), 30)
    assert (monitor.asked, monitor.closed) == (0, 0)


def test_an_address_that_is_not_ours_is_refused() -> None:
    with pytest.raises(PortInUse, match=r"Cannot listen on 192\.0\.2\.1:8080"):
        bind("192.0.2.1", 8080)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(PortInUse, match="address already in use"):
            bind("127.0.0.1", taken.getsockname()[1])


async def test_systemd_hears_of_the_whole_life(
    foundation: Foundation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import_gguf(foundation.models, TINY_R1)
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", "60000000")
        daemon = Daemon(foundation, Reports(), vendors=())
        server = daemon._server()

        async def hear_until(last: str) -> list[str]:
            lines: list[str] = []
            while last not in lines:
                lines += (await asyncio.wait_for(loop.sock_recv(systemd, 4096), 60)).decode().split("\n")
            return lines

        with bind("127.0.0.1", 0) as listener:
            address = f"http://127.0.0.1:{listener.getsockname()[1]}"
            life = asyncio.create_task(daemon._serve(server, listener))
            start = await hear_until("READY=1")
            assert start[0] == "WATCHDOG=1"
            assert start[1].startswith("EXTEND_TIMEOUT_USEC=")
            statuses = [line for line in start if line.startswith("STATUS=")]
            assert statuses[0].startswith("STATUS=starting ")
            assert "2 x 1024 tokens on CPU" in statuses[-1]
            async with httpx.AsyncClient() as client:
                assert (await client.get(f"{address}/readyz")).status_code == 200
            server.should_exit = True
            await hear_until("STOPPING=1")
            await life


async def test_systemd_is_told_ready_without_a_model_too(
    foundation: Foundation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd, bind("127.0.0.1", 0) as listener:
        systemd.bind(str(tmp_path / "notify"))
        systemd.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        daemon = Daemon(foundation, Reports(), vendors=())
        server = daemon._server()
        life = asyncio.create_task(daemon._serve(server, listener))
        heard: list[bytes] = []
        while heard[-1:] != [b"READY=1"]:
            heard.append(await asyncio.wait_for(loop.sock_recv(systemd, 4096), 60))
        assert b"STATUS=up, without a model" in heard
        assert server.started
        server.should_exit = True
        await life
