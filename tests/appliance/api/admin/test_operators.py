"""Plans, sticks, versions, the hour's plot and the removal of models over HTTP."""

from __future__ import annotations

import asyncio
import importlib.metadata
import shutil
from pathlib import Path

import httpx

from models.store_folder import clear_default
from tests.appliance.api.box import MODEL, Box
from tests.e2e.box import TINY_R1

VERSION = importlib.metadata.version("r1box")
TINY_BYTES = TINY_R1.stat().st_size


async def test_plans_and_why_not(client: httpx.AsyncClient, stranger: httpx.AsyncClient) -> None:
    told = (await client.get("/api/admin/plans", params={"seats": 2, "context_tokens": 4096})).json()
    assert told["cards"] == [{"name": "H20", "count": 1, "memory_total_bytes": 96 << 30}]
    assert told["plans"] or told["rejections"]
    assert {(one["seats"], one["context_tokens"]) for one in told["plans"]} <= {(2, 4096)}
    why = (await client.get("/api/admin/plans", params={"variant": "R1"})).json()
    assert why["plans"] == []
    assert {one["variant"] for one in why["rejections"]} == {"R1-671B", "R1-0528-671B"}
    assert all(one["reason"] for one in why["rejections"])
    unknown = await client.get("/api/admin/plans", params={"variant": "gpt-9"})
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "variant_unknown")
    assert (await client.get("/api/admin/plans", params={"seats": 0})).status_code == 400
    assert (await stranger.get("/api/admin/plans")).status_code == 401


async def test_what_lies_on_a_stick(client: httpx.AsyncClient, tmp_path: Path) -> None:
    def fill(stick: Path) -> None:
        (stick / "models" / "deep").mkdir(parents=True)
        shutil.copy(TINY_R1, stick / "models" / "tiny.gguf")
        for part in (1, 2):
            (stick / "models" / "deep" / f"big-0000{part}-of-00002.gguf").write_bytes(b"x" * 100)
        (stick / "tensors").mkdir()
        for name in ("config.json", "model.safetensors"):
            (stick / "tensors" / name).write_bytes(b"{}")
        (stick / "bundle").mkdir()
        (stick / "bundle" / "manifest.json").write_text("no manifest", encoding="utf-8")
        (stick / ".Trash").mkdir()
        shutil.copy(TINY_R1, stick / ".Trash" / "gone.gguf")
        (stick / "loop").symlink_to(stick)

    await asyncio.to_thread(fill, tmp_path / "stick")
    stick = (await client.get("/api/admin/sticks")).json()["sticks"][0]
    assert (stick["problem"], stick["truncated"]) == (None, False)
    assert stick["total_bytes"] >= stick["free_bytes"] > 0
    found = {one["path"].removeprefix(f"{stick['folder']}/"): one for one in stick["items"]}
    assert set(found) == {"bundle", "models/deep/big-00001-of-00002.gguf", "models/tiny.gguf", "tensors"}
    assert found["models/deep/big-00001-of-00002.gguf"]["size_bytes"] == 200
    assert found["models/tiny.gguf"]["size_bytes"] == TINY_BYTES
    assert (found["tensors"]["kind"], found["bundle"]["kind"], found["bundle"]["signed"]) == (
        "safetensors",
        "bundle",
        False,
    )
    assert found["bundle"]["problem"]


async def test_versions_and_licences(client: httpx.AsyncClient) -> None:
    told = (await client.get("/api/admin/about")).json()
    assert told["version"] == VERSION
    licences = {one["name"]: one["licence"] for one in told["components"]}
    assert licences["fastapi"] == "MIT"
    assert licences["Jinja2"] == "BSD License"
    assert any(one["name"] == "llama-cpp-python" and one["version"] for one in told["engines"])


async def test_the_hour_of_serving(client: httpx.AsyncClient) -> None:
    told = (await client.get("/api/admin/serving/history", params={"seconds": 60, "points": 720})).json()
    assert (told["step_s"], len(told["tokens_per_s"]), len(told["waiting"])) == (5.0, 12, 12)
    assert set(told["running"]) == {None}


async def test_models_are_removed(client: httpx.AsyncClient, box: Box) -> None:
    stick = (await client.get("/api/admin/jobs")).json()["folders"][0]
    await asyncio.to_thread(shutil.copy, TINY_R1, f"{stick}/tiny.gguf")
    job = (await client.post("/api/admin/jobs", json={"kind": "import", "path": f"{stick}/tiny.gguf"})).json()
    await client.get(f"/api/admin/jobs/{job['id']}/events")
    model = (await client.get(f"/api/admin/jobs/{job['id']}")).json()["result"]["id"]
    refused = await client.delete(f"/api/admin/models/{model}")
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "model_is_default")
    await asyncio.to_thread(clear_default, box.store.root)
    assert (await client.delete(f"/api/admin/models/{model}")).status_code == 204
    assert (await asyncio.to_thread(box.store.list)).models == ()
    assert (await client.delete(f"/api/admin/models/{model}")).status_code == 404
    rows = await asyncio.to_thread(box.accounts.audit.list)
    assert ("model.remove", model) in [(row.action, row.target) for row in rows]
    assert model != MODEL
