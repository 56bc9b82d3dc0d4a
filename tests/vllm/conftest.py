"""The tests with vLLM itself. They need an environment of 3.4 GB (``tests.vllm.environment`` makes it), so they are
collected only when the command line names this folder, as ``make test-vllm`` does. Named, they fail where it is not.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.box import FIXTURES, Box, Home, start_box

HERE = Path(__file__).resolve().parent
START_TIMEOUT_S = 900
"""vLLM imports for a minute on a quiet machine and for several on a busy one."""


def pytest_ignore_collect(config: pytest.Config) -> bool | None:
    named = [Path(argument.partition("::")[0]).resolve() for argument in config.args]
    return None if any(path == HERE or HERE in path.parents for path in named) else True


class VllmBench:
    """A home whose model is the tiny R1's safetensors, served by the vLLM of ``R1BOX_TEST_VLLM``."""

    def __init__(self, folder: Path) -> None:
        python = os.environ.get("R1BOX_TEST_VLLM")
        assert python, "R1BOX_TEST_VLLM names the Python of an environment with vLLM; make test-vllm sets it"
        self.home = Home(folder)
        self.home.environment["R1BOX_ENGINE_PYTHON"] = python
        # BF16 attention of the processor build uses AMX where the processor names it, and dies where a virtual machine
        # does not really have it.
        self.home.environment["R1BOX_ENGINE_ARGUMENTS"] = "--dtype float32"
        self.home.environment["R1BOX_START_TIMEOUT_S"] = str(START_TIMEOUT_S)
        self.model = self.home.import_model(FIXTURES / "hf")
        self.key = self.home.create_key("tests")
        self.fractions: list[float] = []

    def start(self, **more: str) -> Box:
        """A box that is not ready yet."""
        before = {name: self.home.environment.get(name) for name in more}
        self.home.environment |= more
        try:
            return start_box(
                self.home, "--model", self.model, "--seats", "8", "--context", "2048", key=self.key, wait=False
            )
        finally:
            for name, value in before.items():
                if value is None:
                    del self.home.environment[name]
                else:
                    self.home.environment[name] = value

    def wait_ready(self, box: Box, *, again: bool = False) -> None:
        """Return when the engine answers; its progress goes to ``fractions``. Fails with the engine's reason, unless it
        was lost and is started ``again``."""
        for _ in range(START_TIMEOUT_S * 5):
            said = box.readyz()
            if said["ready"]:
                return
            assert again or said["state"] != "failed", json.dumps(said)
            if said["load_fraction"] is not None and not again:
                self.fractions.append(said["load_fraction"])
            threading.Event().wait(0.2)
        raise AssertionError("not ready in time")


def admin(box: Box, path: str) -> Any:
    answer = httpx.get(f"{box.url}{path}", headers={"Authorization": f"Bearer {box.key}"}, timeout=30)
    answer.raise_for_status()
    return answer.json()


@pytest.fixture(scope="session")
def bench(tmp_path_factory: pytest.TempPathFactory) -> VllmBench:
    return VllmBench(tmp_path_factory.mktemp("vllm"))


@pytest.fixture(scope="session")
def served(bench: VllmBench) -> Iterator[Box]:
    box = bench.start()
    try:
        bench.wait_ready(box)
        yield box
    finally:
        box.stop()
