"""Engines in front of the fake server, as each builder starts them."""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

from appliance.engine.external.engine import ExternalEngine, ExternalSpec
from appliance.engine.external.launch import Launch, Timeouts
from appliance.engine.external.server import LaunchedServer
from appliance.engine.mindie import mindie_launch
from appliance.engine.serve_order import ServeOrder, Site
from appliance.engine.vllm import vllm_launch
from models.types import EngineName, FitPlan, KvType
from tests.fakes.engine_server import Faults

REPOSITORY = Path(__file__).parents[4]
TINY_R1 = REPOSITORY / "tests" / "fixtures" / "tiny_r1" / "hf"
NO_FAULTS = Faults()
SECRET = "s3cret-of-this-start"
QUICK = Timeouts(
    connect_s=5.0, first_s=20.0, stall_s=20.0, poll_s=0.01, health_s=5.0, health_every_s=0.05, metrics_every_s=0.02
)


def plan(engine: EngineName = EngineName.VLLM, *, devices: int = 0, seats: int = 4, context: int = 4096) -> FitPlan:
    return FitPlan(
        variant="Tiny-R1",
        quantization="BF16",
        engine=engine,
        devices=tuple(f"ascend:{index}" for index in range(devices)),
        seats=seats,
        context_tokens=context,
        kv_type=KvType.F16,
        flash_attention=True,
        ubatch_tokens=8192,
        gpu_layers=0,
        tensor_split=(),
        memory=(),
        file_bytes=6_300_000,
        tensor_parallel=max(devices, 1),
    )


def fake_vllm(folder: Path, faults: Faults = NO_FAULTS, *more: str) -> Launch:
    """The launch that the builder makes, with the fake in place of vLLM's module."""
    order = ServeOrder(
        name="tiny-r1", folder=TINY_R1, plan=plan(), quantization="BF16", architecture="qwen2", chat_template="{{ x }}"
    )
    site = Site(run_dir=folder, cache_dir=folder / "cache", secret=SECRET, python=Path(sys.executable), more=more)
    launch = vllm_launch(order, site)
    python, _, _, *arguments = launch.argv
    return _faked(launch, [python, "-m", "tests.fakes.engine_server", "vllm", *_told(faults), *arguments])


def fake_mindie(folder: Path, faults: Faults = NO_FAULTS) -> Launch:
    """The same for MindIE."""
    order = ServeOrder(
        name="tiny-r1",
        folder=TINY_R1,
        plan=plan(EngineName.MINDIE, devices=2),
        quantization="BF16",
        architecture="qwen2",
        visible=("4", "5"),
    )
    site = Site(run_dir=folder, cache_dir=folder / "cache", secret=SECRET, ports=free_ports(3))
    launch = mindie_launch(order, site)
    argv = [sys.executable, "-m", "tests.fakes.engine_server", "mindie", *_told(faults)]
    return _faked(launch, argv)


def engine_of(launch: Launch, timeouts: Timeouts = QUICK) -> ExternalEngine:
    spec = ExternalSpec(
        engine=launch.engine, folder=TINY_R1, seats=4, context_tokens=4096, backends=("CPU",), weights_bytes=6_300_000
    )
    return ExternalEngine(LaunchedServer(launch), spec, timeouts=timeouts)


async def until(holds: Callable[[], bool]) -> None:
    """Wait for something that comes without being timed."""
    async with asyncio.timeout(60):
        while not holds():
            await asyncio.sleep(0.005)


def free_ports(count: int) -> tuple[int, ...]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return tuple(one.getsockname()[1] for one in sockets)
    finally:
        for one in sockets:
            one.close()


def _told(faults: Faults) -> tuple[str, str]:
    return str(TINY_R1), json.dumps(asdict(faults))


def _faked(launch: Launch, argv: list[str]) -> Launch:
    return replace(launch, argv=tuple(argv), environment={**launch.environment, "PYTHONPATH": str(REPOSITORY)})
