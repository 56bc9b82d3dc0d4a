"""The box's two systems over HTTP, down to a RAUC that speaks as the real one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.installer.update.boxes import SlotBox, door, make_box

URL = "/api/admin/updates"


@pytest.fixture
def slots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SlotBox:
    (tmp_path / "system").mkdir()
    return make_box(tmp_path / "system", monkeypatch)


@asynccontextmanager
async def opened(slots: SlotBox, tmp_path: Path) -> AsyncIterator[None]:
    manager = door(slots, tmp_path / "update.sock")
    await asyncio.to_thread(manager.__enter__)
    try:
        yield
    finally:
        await asyncio.to_thread(manager.__exit__, None, None, None)


async def ended(client: httpx.AsyncClient, job_id: str) -> dict[str, Any]:
    text = (await client.get(f"/api/admin/jobs/{job_id}/events")).text
    events = [json.loads(line.removeprefix("data: ")) for line in text.splitlines() if line.startswith("data: ")]
    last: dict[str, Any] = events[-1]
    return last


async def test_an_update_from_a_stick_and_back(client: httpx.AsyncClient, tmp_path: Path, slots: SlotBox) -> None:
    file = await asyncio.to_thread(slots.bundle)
    stick = tmp_path / "stick/updates"
    await asyncio.to_thread(stick.mkdir)
    await asyncio.to_thread(file.rename, stick / file.name)
    async with opened(slots, tmp_path):
        told = (await client.get(URL)).json()
        assert (told["available"], told["problem"], told["version"]) == (True, None, "1.2.3")
        assert (told["booted"], told["next"], told["restart_needed"], told["can_roll_back"]) == ("A", "A", False, False)
        assert [(one["name"], one["state"], one["version"]) for one in told["slots"]] == [
            ("A", "running", "0.1.0"),
            ("B", "empty", None),
        ]
        assert [one["name"] for one in told["files"]] == [file.name]

        answer = await client.post(URL, json={"path": told["files"][0]["path"]})
        assert answer.status_code == 202
        job = await ended(client, answer.json()["id"])
        assert (job["state"], job["error"]) == ("succeeded", None)
        assert job["result"] == {"slot": "B", "version": "0.2.0", "restart": False}
        assert job["progress"]["fraction"] == 1.0
        told = (await client.get(URL)).json()
        assert (told["next"], told["restart_needed"], told["slots"][1]["state"]) == ("B", True, "ready")

        await asyncio.to_thread(slots.start)
        told = (await client.get(URL)).json()
        assert (told["booted"], told["slots"][1]["state"], told["slots"][1]["tries"]) == ("B", "not_proved", 1)
        await asyncio.to_thread(slots.updater.rauc.good)
        told = (await client.get(URL)).json()
        assert [one["state"] for one in told["slots"]] == ["ready", "running"]
        assert told["can_roll_back"] is True

        back = await client.post(f"{URL}/rollback", json={})
        assert (back.status_code, back.json()) == (202, {"slot": "A", "version": "0.1.0", "restart": True})
        assert slots.restarts == 1
        assert (await client.get(URL)).json()["next"] == "A"
        assert (await client.post(f"{URL}/restart")).json()["restart"] is True
        rows = (await client.get("/api/admin/audit", params={"action": "update."})).json()
        assert {row["action"] for row in rows["items"]} == {"update.rollback", "update.restart"}


async def test_an_update_that_did_not_serve_is_told_of(client: httpx.AsyncClient, slots: SlotBox) -> None:
    await asyncio.to_thread(slots.note, ORDER="B A", B_OK="1", B_TRY="1")
    told = (await client.get(URL)).json()
    assert (told["fell_back"], told["slots"][1]["state"], told["can_roll_back"]) == ("B", "did_not_serve", False)


async def test_a_refused_update_says_why(client: httpx.AsyncClient, tmp_path: Path, slots: SlotBox) -> None:
    await asyncio.to_thread(slots.bundle, "x.raucb", signed_by="a stranger")
    await asyncio.to_thread((slots.root / "x.raucb").rename, tmp_path / "stick/x.raucb")
    async with opened(slots, tmp_path):
        answer = await client.post(URL, json={"path": str(tmp_path / "stick/x.raucb"), "restart": True})
        job = await ended(client, answer.json()["id"])
        assert (job["state"], job["error"]["code"]) == ("failed", "update_not_trusted")
        assert slots.restarts == 0
        refused = await client.post(f"{URL}/rollback", json={"restart": False})
        assert (refused.status_code, refused.json()["error"]["code"]) == (409, "no_earlier_system")
        for body, status in (({"path": "/etc/shadow"}, 403), ({}, 400), ({"path": "x", "force": True}, 400)):
            assert (await client.post(URL, json=body)).status_code == status


async def test_a_box_without_slots_says_so_plainly(client: httpx.AsyncClient, stranger: httpx.AsyncClient) -> None:
    told = (await client.get(URL)).json()
    assert told["available"] is False
    assert "was not installed from R1 Box's medium" in told["problem"]
    assert "apt-get install" in told["hint"]
    for path, body in ((URL, {"path": "/x"}), (f"{URL}/rollback", {}), (f"{URL}/restart", {})):
        answer = await client.post(path, json=body)
        assert (answer.status_code, answer.json()["error"]["code"]) == (409, "updates_unavailable")
    assert (await stranger.get(URL)).status_code == 401
