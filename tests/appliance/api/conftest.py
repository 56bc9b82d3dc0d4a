from __future__ import annotations

import asyncio
import io
import logging
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest
import structlog
import uvicorn
from blockbuster import blockbuster_ctx
from openai import AsyncOpenAI

from appliance.logs import configure_logging
from tests.appliance.api.box import Box, make_box
from tests.appliance.api.transport import Application
from tests.appliance.blocking import allow_looks_for_changes


@pytest.fixture(autouse=True)
def _nothing_blocks_the_event_loop() -> Iterator[None]:
    with blockbuster_ctx() as blockbuster:
        # A traceback that is logged shows source lines, which Python reads then and there.
        for function in ("os.stat", "io.BufferedReader.read", "io.TextIOWrapper.read"):
            blockbuster.functions[function].can_block_in("linecache.py", {"checkcache", "updatecache"})
        allow_looks_for_changes(blockbuster)
        yield


@pytest.fixture(autouse=True)
def log() -> Iterator[io.StringIO]:
    """What the box logs, as JSON lines."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    written = io.StringIO()
    configure_logging("debug", stream=written)
    yield written
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    box = make_box(tmp_path)
    yield box
    box.database.dispose()


@pytest.fixture
async def client(box: Box) -> AsyncIterator[httpx.AsyncClient]:
    """With the key, straight into the application."""
    transport = Application(app=box.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://box", headers=box.authorization) as client:
        yield client


@pytest.fixture
async def stranger(box: Box) -> AsyncIterator[httpx.AsyncClient]:
    """Without a key."""
    async with httpx.AsyncClient(transport=Application(app=box.app), base_url="http://box") as client:
        yield client


class Server(uvicorn.Server):
    """Says when it listens."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.is_up = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.is_up.set()


@pytest.fixture
async def address(box: Box) -> AsyncIterator[str]:
    """A real server on a loopback socket."""
    config = uvicorn.Config(box.app, log_config=None, access_log=False, lifespan="off", ws="none")
    await asyncio.to_thread(config.load)
    server = Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        serving = asyncio.create_task(server.serve(sockets=[listening]))
        await server.is_up.wait()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        server.should_exit = True
        await serving


@pytest.fixture
async def openai(box: Box, address: str) -> AsyncIterator[AsyncOpenAI]:
    """The official client."""
    # Making one reads certificates from the disk.
    client = await asyncio.to_thread(AsyncOpenAI, base_url=f"{address}/v1", api_key=box.key, max_retries=0)
    async with client:
        yield client
