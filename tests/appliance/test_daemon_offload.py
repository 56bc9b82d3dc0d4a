"""The daemon proves where its model runs: real llama.cpp loads on a compiled backend that poses as CUDA cards."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import psutil
import pytest

from appliance.daemon import Daemon, Foundation, bind, lay_foundation
from appliance.security.keys import Grant
from appliance.security.roles import EVERYTHING
from appliance.settings import load_settings
from drivers.support import VendorSupport
from drivers.types import Device, Health, ProbeResult
from models.errors import CannotCompute
from models.importer import import_gguf
from models.model_store import ModelStore
from tests.appliance.test_daemon import TINY_R1, Reports
from tests.drivers.telemetry_parts import ScriptedMonitor, card
from tests.models.cards import build_fake_cards

GIB = 1024**3


class Cards:
    """A probe that finds ``count`` cards of a kind that no table knows, so that no speed is expected of them."""

    name = "nvidia"
    room_bytes = staticmethod(lambda: 23 * GIB)

    def __init__(self, count: int) -> None:
        self._count = count

    def probe(self) -> ProbeResult:
        devices = tuple(
            Device(
                "nvidia", index, "NVIDIA Fake", chip="Fake", memory_total_bytes=24 * GIB,
                memory_free_bytes=self.room_bytes(),
                compute_capability="8.9", health=Health.OK,
            )
            for index in range(self._count)
        )  # fmt: skip
        return ProbeResult(self.name, devices)


@pytest.fixture(scope="module")
def backends(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_fake_cards(tmp_path_factory.mktemp("cards"))


Serve = Callable[..., "asynccontextmanager[tuple[httpx.AsyncClient, Reports]]"]


@pytest.fixture
def serve(tmp_path: Path, backends: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., object]:
    """Runs a daemon: ``planned`` cards for the planner, ``there`` for llama.cpp."""

    @asynccontextmanager
    async def run(
        *, planned: int = 1, there: int = 1, with_backend: bool = True, **settings: object
    ) -> AsyncIterator[tuple[httpx.AsyncClient, Reports]]:
        monkeypatch.setenv("GGML_FAKE_CARDS", str(there))
        given = {
            "state_dir": tmp_path / "s", "models_dir": tmp_path / "m", "seats": 2, "context_tokens": 512, "threads": 1,
            "backends_dir": backends if with_backend else None, **settings,
        }  # fmt: skip
        foundation: Foundation = await asyncio.to_thread(lay_foundation, load_settings(given))
        await asyncio.to_thread(import_gguf, foundation.models, TINY_R1)
        key = (
            await asyncio.to_thread(foundation.keys.create, f"test-{foundation.keys.count()}", Grant(scopes=EVERYTHING))
        ).secret
        reports = Reports()
        monitor = ScriptedMonitor(answer=[card(index) for index in range(planned)])
        vendor = VendorSupport("nvidia", "NVIDIA", lambda root: Cards(planned), lambda root: monitor)
        daemon = Daemon(foundation, reports, [vendor])
        server = daemon._server()
        with bind("127.0.0.1", 0) as listener:
            life = asyncio.create_task(daemon._serve(server, listener))
            ready = asyncio.create_task(reports.is_ready.wait())
            try:
                await asyncio.wait({life, ready}, timeout=60, return_when=asyncio.FIRST_COMPLETED)
                headers = {"Authorization": f"Bearer {key}"}
                async with httpx.AsyncClient(base_url=reports.address, headers=headers, trust_env=False) as client:
                    if not life.done():
                        yield client, reports
            finally:
                ready.cancel()
                server.should_exit = True
                await asyncio.wait_for(life, 30)

    return run


async def test_a_model_on_its_cards_says_so_everywhere(serve: Serve) -> None:
    async with serve(planned=2, there=2) as (client, reports):
        assert reports.verdict is not None
        assert reports.verdict.proof[0] == "5 of 5 layers on nvidia:0"
        # Some MiB are lost in what drivers take and give back, and of this card no speed is known.
        assert [reason.code for reason in reports.verdict.reasons] == ["not_measured"]
        readyz = (await client.get("/readyz")).json()
        assert (readyz["ready"], readyz["offload"]) == (True, "UNKNOWN")
        told = (await client.post("/api/admin/offload/check")).json()["models"]
        assert [(m["model"], m["state"], m["devices"]) for m in told] == [(readyz["model"], "UNKNOWN", ["nvidia:0"])]
        assert told[0]["decode_tokens_per_s"] > 0
        assert (await client.get("/api/admin/offload")).json()["models"] == told
        metrics = (await client.get("/metrics")).text
        assert f'r1box_offload{{model="{readyz["model"]}",verdict="unknown"}} 1.0' in metrics
        assert f'r1box_offload{{model="{readyz["model"]}",verdict="verified"}} 0.0' in metrics


async def test_a_model_that_landed_on_the_processor_is_ended_and_the_box_says_why(serve: Serve) -> None:
    async with serve(planned=1, there=0) as (client, reports):
        assert reports.verdict is None
        readyz = await client.get("/readyz")
        assert (readyz.status_code, readyz.json()["state"]) == (503, "failed")
        assert "would run on the processor" in readyz.json()["error"]
        body = {"model": readyz.json()["model"], "messages": [{"role": "user", "content": "Hello"}]}
        refused = await client.post("/v1/chat/completions", json=body)
        assert refused.status_code == 503
        assert "would run on the processor" in refused.json()["error"]["message"]


async def test_what_is_allowed_is_served_and_called_by_its_name(serve: Serve) -> None:
    async with serve(planned=1, there=0, allow_cpu_fallback=True) as (client, _):
        readyz = (await client.get("/readyz")).json()
        assert (readyz["ready"], readyz["offload"]) == (True, "CPU")
        told = (await client.get("/api/admin/offload")).json()["models"]
        assert [reason["code"] for reason in told[0]["reasons"]] == ["weights_on_processor"]


async def test_cards_that_this_build_cannot_use_are_no_reason_to_take_the_processor_in_silence(serve: Serve) -> None:
    with pytest.raises(CannotCompute, match="would not run on the cards"):
        async with serve(with_backend=False):
            pass
    async with serve(with_backend=False, allow_cpu_fallback=True) as (client, _):
        assert (await client.get("/readyz")).json()["offload"] == "CPU"


async def test_a_swap_lets_the_answer_end_and_the_card_be_empty(
    serve: Serve, tmp_path: Path, backends: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A card that has room for one model alone: another default takes its place while somebody is being answered."""
    held = 12 * 1024**2
    monkeypatch.setattr(Cards, "room_bytes", lambda self: GIB + 13 * 1024**2 - held * len(_workers()))
    async with serve(planned=1, there=1) as (client, reports):
        assert reports.setup is not None
        first = reports.setup.installed.id
        store = ModelStore(tmp_path / "m")
        second = (await asyncio.to_thread(import_gguf, store, TINY_R1.with_name("Tiny-R1-Q4_K_M.gguf"))).model.id
        body = {"model": first, "messages": [{"role": "user", "content": "What is the capital of France?"}]}
        asked = asyncio.create_task(client.post("/v1/chat/completions", json=body, timeout=60))
        # A request cannot push the default out, and says what is missing.
        refused = await client.post("/v1/chat/completions", json={**body, "model": second}, timeout=60)
        assert (refused.status_code, refused.json()["error"]["code"]) == (507, "model_too_large")
        swapped = await client.post(f"/api/admin/models/{second}/activate", timeout=60)
        assert (swapped.status_code, swapped.json()["state"]) == (200, "ready"), swapped.text
        assert (await asked).status_code == 200
        told = {entry["id"]: entry["state"] for entry in (await client.get("/api/admin/models")).json()["models"]}
        assert told == {first: "installed", second: "ready"}
        assert len(_workers()) == 1
        readyz = (await client.get("/readyz")).json()
        assert (readyz["model"], readyz["offload"]) == (second, "UNKNOWN")


def _workers() -> list[psutil.Process]:
    children = psutil.Process().children(recursive=True)
    return [one for one in children if "appliance.engine.llamacpp.worker" in " ".join(one.cmdline())]
