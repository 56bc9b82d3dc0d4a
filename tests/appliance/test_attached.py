"""A server that somebody else runs, as a model of the box."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from appliance.attached import StoreWithAttached, attached_model, place_attached
from appliance.engine.base import EngineState, Feature
from appliance.engine.external.server_factory import ServerFactory
from appliance.engine.manager import Backoff, EngineManager
from appliance.errors import BadSetting, EngineStartFailed
from appliance.settings import Settings, load_settings
from models.store_types import DiskBudget
from tests.appliance.engine.contract import run
from tests.appliance.engine.external.fake_servers import TINY_R1, free_ports, until
from tests.fakes.engine_server import ANSWER, Faults

REPOSITORY = Path(__file__).parents[2]


class Somebody:
    """Somebody's server on a TCP port."""

    def __init__(self, faults: Faults) -> None:
        (self.port,) = free_ports(1)
        self._faults = faults
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(
            [
                sys.executable, "-m", "tests.fakes.engine_server", "vllm", str(TINY_R1),
                json.dumps(asdict(self._faults)), "--served-model-name", "r1", "--port", str(self.port),
                "--max-model-len", "3000",
            ],
            cwd=REPOSITORY, env={**os.environ, "VLLM_API_KEY": "theirs"}, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if "startup complete" in line:
                return

    def stop(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            assert self._process.stdout is not None
            self._process.stdout.close()
            self._process = None


@pytest.fixture
def somebody() -> Iterator[Somebody]:
    server = Somebody(Faults())
    server.start()
    yield server
    server.stop()


def settings(tmp_path: Path, server: Somebody, **more: Any) -> Settings:
    folder = tmp_path / "described"
    folder.mkdir(exist_ok=True)
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        shutil.copy(TINY_R1 / name, folder)
    key = tmp_path / "key"
    key.write_text("theirs\n")
    given = {
        "attach_url": f"http://127.0.0.1:{server.port}", "attach_model": "r1", "attach_folder": folder,
        "attach_key_file": key, "state_dir": tmp_path / "state", "models_dir": tmp_path / "models", **more,
    }  # fmt: skip
    return load_settings(given)


async def test_it_is_asked_like_any_other_and_its_own_bound_holds(tmp_path: Path, somebody: Somebody) -> None:
    made = settings(tmp_path, somebody)
    model = attached_model(made)
    assert model is not None
    plan, spec, served = place_attached(model, made)
    assert (plan.attached, plan.devices, served.id) == (True, (), "r1")
    assert "</think>" in served.control_tokens
    engine = ServerFactory(spec)()
    info = await engine.start(30)
    assert (info.engine, info.context_tokens, Feature.THINKING in info.features) == ("attached", 3000, True)
    assert (await run(engine, "Where is Paris?", "one")).text == ANSWER
    await engine.stop(5)


async def test_text_alone_claims_nothing_that_it_cannot_keep(tmp_path: Path, somebody: Somebody) -> None:
    made = settings(tmp_path, somebody, attach_protocol="openai")
    model = attached_model(made)
    assert model is not None
    engine = ServerFactory(place_attached(model, made)[1])()
    assert (await engine.start(30)).features == frozenset()
    outcome = await run(engine, "Where is Paris?", "one")
    assert outcome.text == ANSWER
    assert outcome.finished.completion_tokens == outcome.tokens > 5
    await engine.stop(5)


async def test_it_may_go_and_come_back(tmp_path: Path, somebody: Somebody) -> None:
    made = settings(tmp_path, somebody)
    model = attached_model(made)
    assert model is not None
    manager = EngineManager(start_timeout_s=30, backoff=Backoff(first_s=0.01, most_s=0.05))
    factory = ServerFactory(place_attached(model, made)[1])

    def quick() -> Any:
        engine: Any = factory()
        engine._timeouts = replace(engine._timeouts, health_every_s=0.05, health_s=2.0)
        return engine

    await manager.load("r1", quick)
    somebody.stop()
    await until(lambda: manager.status().state is EngineState.FAILED)
    assert "no longer answers" in str(manager.status().error) or "does not answer" in str(manager.status().error)
    await asyncio.to_thread(somebody.start)
    await until(lambda: manager.status().state is EngineState.READY)
    assert (await run(manager.ready()[0], "Where is Paris?", "one")).text == ANSWER
    await manager.unload(drain_timeout_s=1, stop_timeout_s=1)


async def test_one_that_is_not_there_is_said(tmp_path: Path) -> None:
    made = settings(tmp_path, Somebody(Faults()))
    model = attached_model(made)
    assert model is not None
    with pytest.raises(EngineStartFailed, match="it does not answer"):
        await ServerFactory(place_attached(model, made)[1])().start(10)


def test_it_stands_in_the_store_beside_the_others(tmp_path: Path) -> None:
    made = settings(tmp_path, Somebody(Faults()))
    model = attached_model(made)
    assert model is not None
    store = StoreWithAttached(made.models_dir, budget=DiskBudget(), attached=model)
    assert [one.id for one in store.list().models] == ["r1"]
    assert store.get("r1") is model
    assert store.default_id() == "r1"
    assert store.set_default("r1") is model
    with store.hold("r1") as held:
        assert held is model


def test_a_folder_that_describes_nothing_is_a_bad_setting(tmp_path: Path) -> None:
    made = settings(tmp_path, Somebody(Faults()))
    (tmp_path / "described" / "tokenizer.json").unlink()
    with pytest.raises(BadSetting, match="attach_folder"):
        attached_model(made)
    with pytest.raises(BadSetting, match="attach_url needs attach_folder"):
        load_settings({"attach_url": "http://127.0.0.1:1"})
    assert attached_model(load_settings({})) is None
