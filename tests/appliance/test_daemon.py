"""The daemon in this process, with the real engine: nothing in its event loop blocks, and its start can be refused."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest
from blockbuster import blockbuster_ctx
from openai import AsyncOpenAI

from appliance.daemon import Daemon, Foundation, bind, lay_foundation
from appliance.engine.base import EngineInfo, EngineState, EngineStatus
from appliance.errors import PortInUse
from appliance.model_setup import ModelSetup
from appliance.settings import load_settings
from models.importer import import_gguf

TINY_R1 = Path(__file__).parents[1] / "fixtures" / "tiny_r1" / "gguf" / "Tiny-R1-Q8_0.gguf"


class Reports:
    """Notes what the daemon reports."""

    def __init__(self) -> None:
        self.states: list[EngineState] = []
        self.is_ready = asyncio.Event()
        self.address = ""
        self.setup: ModelSetup | None = None

    def listening(self, host: str, port: int) -> None:
        self.address = f"http://{host}:{port}"

    def loading(self, setup: ModelSetup) -> None:
        self.setup = setup

    def engine(self, status: EngineStatus) -> None:
        if not self.states or self.states[-1] is not status.state:
            self.states.append(status.state)

    def ready(self, setup: ModelSetup | None, info: EngineInfo | None, host: str, port: int) -> None:
        assert (setup, setup is None) == (self.setup, info is None)
        self.is_ready.set()

    def stopping(self) -> None:
        self.states.append(EngineState.STOPPING)


@pytest.fixture
def foundation(tmp_path: Path) -> Foundation:
    settings = load_settings(
        {"state_dir": tmp_path / "s", "models_dir": tmp_path / "m", "seats": 2, "context_tokens": 1024, "threads": 1}
    )
    return lay_foundation(settings)


async def test_a_whole_life_never_blocks_the_event_loop(foundation: Foundation) -> None:
    import_gguf(foundation.models, TINY_R1)
    key = foundation.keys.create("test").secret
    reports = Reports()
    daemon = Daemon(foundation, reports)
    server = daemon._server()
    listener = bind("127.0.0.1", 0)
    with listener, blockbuster_ctx("appliance"):
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


def test_an_address_that_is_not_ours_is_refused() -> None:
    with pytest.raises(PortInUse, match=r"Cannot listen on 192\.0\.2\.1:8080"):
        bind("192.0.2.1", 8080)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(PortInUse, match="address already in use"):
            bind("127.0.0.1", taken.getsockname()[1])
