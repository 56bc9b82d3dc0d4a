"""Two daemons in two network namespaces, one tensor-parallel vLLM over both: a chat through either, the link cut and
mended. Counted: every request has one ending. Needs root, for the namespaces.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.e2e.box import FIXTURES, R1BOX, Box, Home, gather, goldens, loops, start_box, stream
from tests.vllm.conftest import START_TIMEOUT_S
from tests.vllm.namespaces import TwoBoxes

REQUESTS = 200
AT_A_TIME = 8


class Cluster:
    """The boxes with their daemons. ``boxes[0]`` leads."""

    def __init__(self, folder: Path, network: TwoBoxes) -> None:
        python = os.environ.get("R1BOX_TEST_VLLM")
        assert python, "R1BOX_TEST_VLLM names the Python of an environment with vLLM; make test-vllm sets it"
        self.network = network
        self.homes = [Home(folder / str(number)) for number in (1, 2)]
        self.boxes: list[Box] = []
        for home in self.homes:
            home.environment |= {
                "R1BOX_ENGINE_PYTHON": python,
                "R1BOX_ENGINE_ARGUMENTS": "--dtype float32",
                "R1BOX_START_TIMEOUT_S": str(START_TIMEOUT_S),
                # Each engine would take all processors for itself.
                "OMP_NUM_THREADS": "1",
            }
            self.model = home.import_model(FIXTURES / "hf")
        first, second = network.boxes
        self.run(0, "cluster", "init", "--address", first.address, "--name", "box-1")
        self.run(0, "cluster", "use", self.model)
        self.boxes = [self.start(number) for number in (0, 1)]
        token = self.run(0, "cluster", "invite", "--quiet").strip()
        self.boxes[0].wait_until(lambda: self.status(0)["role"] == "leader")
        self.run(1, "cluster", "join", "--name", "box-2", token)
        assert second.address

    def run(self, number: int, *arguments: str) -> str:
        import subprocess

        done = subprocess.run(
            [*self.network.boxes[number].command, str(R1BOX), *arguments],
            env=self.homes[number].environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def start(self, number: int) -> Box:
        box, home = self.network.boxes[number], self.homes[number]
        return start_box(
            home,
            "--host",
            box.outside,
            "--seats",
            "8",
            "--context",
            "2048",
            key=home.create_key("tests"),
            wait=False,
            command=(*box.command, str(R1BOX)),
        )

    def status(self, number: int) -> Any:
        box = self.boxes[number]
        headers = {"Authorization": f"Bearer {box.key}"}
        return httpx.get(f"{box.url}/api/admin/cluster", headers=headers, timeout=30).json()

    def wait(self, what: Any, seconds: int = START_TIMEOUT_S) -> float:
        """How long it took."""
        began = time.monotonic()
        while not what():
            assert time.monotonic() - began < seconds, (
                self.status(0),
                self.boxes[0].errors[-30:],
                self.boxes[1].errors[-30:],
            )
            for box in self.boxes:
                assert box.process.poll() is None, box.errors[-30:]
            threading.Event().wait(0.2)
        return time.monotonic() - began

    def wait_ready(self) -> float:
        return self.wait(lambda: all(box.readyz()["ready"] for box in self.boxes))

    def engines(self) -> list[psutil.Process]:
        """Every process of both engines."""
        return [
            one
            for box in self.boxes
            for one in psutil.Process(box.process.pid).children(recursive=True)
            if "vllm" in " ".join(one.cmdline()).lower() or "VLLM" in one.name()
        ]

    async def ask(self, requests: list[list[dict[str, Any]]], **options: Any) -> list[Any]:
        """All of them, by turns through both boxes, some at a time."""
        clients = [box.client() for box in self.boxes]
        places = asyncio.Semaphore(AT_A_TIME)

        async def one(number: int, messages: list[dict[str, Any]]) -> Any:
            async with places:
                return await stream(clients[number % 2], self.model, messages, **options)

        try:
            return await gather(*(one(number, messages) for number, messages in enumerate(requests)))
        finally:
            for client in clients:
                await client.close()

    def stop(self) -> None:
        for box in self.boxes:
            box.stop()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with TwoBoxes() as network:
        found = Cluster(tmp_path_factory.mktemp("cluster"), network)
        try:
            took_s = found.wait_ready()
            print(f"\nboth boxes ready after {took_s:.0f} s")
            yield found
        finally:
            found.stop()


def told(endings: list[Any]) -> Counter[str]:
    return Counter(
        type(one).__name__ if isinstance(one, Exception) else f"answered:{one.finish_reason}" for one in endings
    )


async def test_two_hundred_golden_answers_through_both(cluster: Cluster) -> None:
    known = goldens("capital", "sum", "fact")
    wanted = [known[number % len(known)] for number in range(REQUESTS)]
    endings = await cluster.ask([golden.messages for golden in wanted])
    print(f"\nwell: {dict(told(endings))}")
    assert len(endings) == REQUESTS
    for golden, answer in zip(wanted, endings, strict=True):
        assert not isinstance(answer, Exception), answer
        assert (answer.reasoning.strip(), answer.content.strip()) == (golden.reasoning.strip(), golden.content.strip())


def test_both_boxes_hold_a_half(cluster: Cluster) -> None:
    led = cluster.status(0)
    assert led["plan"] == "2 boxes, on their processors: TP2"
    assert [(box["rank"], box["part"]) for box in led["boxes"]] == [(0, "up"), (1, "up")]


async def test_the_link_is_cut_under_load_and_comes_back(cluster: Cluster) -> None:
    before = cluster.engines()
    asking = asyncio.create_task(cluster.ask([loops()[number % 2] for number in range(REQUESTS)], max_tokens=1200))
    headers = {"Authorization": f"Bearer {cluster.boxes[0].key}"}

    def running() -> int:
        answer = httpx.get(f"{cluster.boxes[0].url}/api/admin/models", headers=headers, timeout=30).json()
        return int(answer["models"][0]["running"] or 0)

    while await asyncio.to_thread(running) < AT_A_TIME // 2:
        await asyncio.sleep(0.1)
    cluster.network.cut()
    cut_s = time.monotonic()
    endings = await asyncio.wait_for(asking, 300)
    print(f"\ncut: {dict(told(endings))}, the last {time.monotonic() - cut_s:.0f} s after the cut")
    assert len(endings) == REQUESTS
    await asyncio.to_thread(cluster.wait, lambda: not any(box.readyz()["ready"] for box in cluster.boxes), 60)
    gone, alive = await asyncio.to_thread(psutil.wait_procs, before, 60)
    assert not [one for one in alive if one.is_running() and one.status() != psutil.STATUS_ZOMBIE], (
        "no rank goes on alone"
    )
    assert cluster.status(0)["boxes"][1]["state"] == "away"
    cluster.network.mend()
    took_s = await asyncio.to_thread(cluster.wait_ready)
    print(f"both boxes ready again {took_s:.0f} s after the link was mended; {len(gone)} processes had ended")
    known = goldens("capital", "sum", "fact")
    wanted = [known[number % len(known)] for number in range(REQUESTS)]
    after = await cluster.ask([golden.messages for golden in wanted])
    print(f"after: {dict(told(after))}")
    assert [one.content.strip() for one in after] == [golden.content.strip() for golden in wanted]
