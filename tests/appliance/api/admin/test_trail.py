"""Who did what to models and the box is in the audit log, with how it ended."""

from __future__ import annotations

import asyncio
import json

import httpx
import pytest

from appliance.engine.base import EngineInfo
from appliance.errors import EngineStartFailed
from appliance.security.identity import SYSTEM
from tests.appliance.api.box import Box


async def test_acts_are_rows(client: httpx.AsyncClient, box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    await client.post("/api/admin/models/tiny/load", json={"pin": True})
    await client.post("/api/admin/models/tiny/unload")
    await client.post("/api/admin/models/tiny/activate")
    await client.post("/api/admin/offload/check")
    await client.post("/api/admin/alerts/test")
    await client.post("/api/admin/issues/none/fixups/reload_model")

    async def fails(model_id: str, *, swap: bool = True, pin: bool = False) -> EngineInfo:
        raise EngineStartFailed(cause="no memory")

    monkeypatch.setattr(box.manager, "load", fails)
    assert (await client.post("/api/admin/models/tiny/load")).status_code == 503
    rows = await asyncio.to_thread(box.accounts.audit.list)
    found = [(row.action, row.target, json.loads(row.details)) for row in reversed(rows) if row.actor_name == "tester"]
    assert found == [
        ("model.load", "tiny", {"outcome": "done", "pin": True, "swap": True}),
        ("model.unload", "tiny", {"outcome": "done"}),
        ("model.activate", "tiny", {"outcome": "done"}),
        ("offload.check", None, {"outcome": "done"}),
        ("alerts.test", None, {"outcome": "done"}),
        ("issue.fix", "none", {"fixup": "reload_model", "outcome": "issue_not_found"}),
        ("model.load", "tiny", {"outcome": "engine_start_failed", "pin": False, "swap": True}),
    ]


async def test_what_is_no_row(client: httpx.AsyncClient, box: Box) -> None:
    """A model that is not there is nobody's act; reading is none either."""
    before = await asyncio.to_thread(box.accounts.audit.list)
    assert (await client.post("/api/admin/models/none/load")).status_code == 404
    await client.get("/api/admin/models")
    await client.get("/api/admin/logs")
    assert await asyncio.to_thread(box.accounts.audit.list) == before


async def test_rows_for_something_that_fails_are_not_kept(box: Box) -> None:
    def act() -> None:
        with box.accounts.audit.together() as append:
            append(SYSTEM, "settings.change", "port", {"to": 1})
            raise OSError("the disk is full")

    with pytest.raises(OSError, match="full"):
        await asyncio.to_thread(act)
    assert all(row.action != "settings.change" for row in await asyncio.to_thread(box.accounts.audit.list))
