"""What the daemon adds to a token of a big engine: the same fake server asked directly and through the box.

The server sends each stream a token every ``PACE_S``, as an engine does between two steps; what comes later through the
box than directly is the box's. Prints figures and decides nothing (aims: p50 under 1 ms, p99 under 5 ms, tokens
per second at least 0.97 of the engine's). All three programs share the machine's cores.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest
from rich.console import Console
from rich.table import Table

from tests.appliance.engine.external.fake_servers import TINY_R1, free_ports
from tests.bench.load import Result, Target, percentile, run
from tests.e2e.box import FIXTURES, Home, start_box
from tests.fakes.engine_server import ENDLESS, Faults
from tests.fakes.fake_vllm import FakeVllm

pytestmark = pytest.mark.bench

STREAMS = (1, 32, 128)
MAX_TOKENS = 50
PACE_S = 0.03
REPOSITORY = Path(__file__).parents[2]
PACED = Faults(pace_s=PACE_S)


@pytest.fixture(scope="module")
def direct() -> Iterator[Target]:
    (port,) = free_ports(1)
    process = subprocess.Popen(
        [
            sys.executable, "-m", "tests.fakes.engine_server", "vllm", str(TINY_R1), json.dumps(asdict(PACED)),
            "--served-model-name", "r1", "--port", str(port), "--max-model-len", "512",
        ],
        cwd=REPOSITORY, env=dict(os.environ), stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    for line in process.stdout:
        if "startup complete" in line:
            break
    yield Target("engine", "127.0.0.1", port, "r1")
    process.kill()
    process.wait()
    process.stdout.close()


@pytest.fixture(scope="module")
def boxed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    folder = tmp_path_factory.mktemp("bench")
    home, vllm = Home(folder), FakeVllm(folder / "vllm")
    vllm.goes_wrong(PACED)
    home.environment["R1BOX_ENGINE_PYTHON"] = str(vllm.python)
    model = home.import_model(FIXTURES / "hf")
    key = home.create_key("bench")
    box = start_box(home, "--model", model, "--seats", "128", "--context", "512", "--max-waiting", "1000", key=key)
    yield Target("box", "127.0.0.1", int(box.url.rpartition(":")[2]), model, key)
    box.stop()


async def test_what_the_box_adds_to_a_token(direct: Target, boxed: Target) -> None:
    table = Table(
        "streams", "asked", "tokens/s", "gap p50 ms", "gap p99 ms", title=f"A token every {PACE_S * 1000:g} ms"
    )
    for streams in STREAMS:
        prompts = [f"{ENDLESS}, part {number}" for number in range(streams * 2)]
        results: list[Result] = []
        for target in (direct, boxed):
            result = await run(target, prompts, together=streams, max_tokens=MAX_TOKENS)
            assert result.cut == 0
            results.append(result)
            table.add_row(str(streams), target.name, f"{result.tokens_per_s:.1f}", *map(_ms, _gaps(result)))
        (engine, box) = results
        added = [after - before for before, after in zip(_gaps(engine), _gaps(box), strict=True)]
        ratio = box.tokens_per_s / engine.tokens_per_s
        table.add_row("", "added", f"x {ratio:.3f}", *map(_ms, added), end_section=True)
        await asyncio.sleep(0)
    Console(width=100).print(table)


def _gaps(result: Result) -> list[float]:
    return [percentile(result.gaps_s, percent) or 0.0 for percent in (50, 99)]


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.2f}"
