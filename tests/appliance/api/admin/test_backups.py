"""Backups over HTTP: made, listed, restored, refused; the reset and the restart ask the daemon."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from appliance.backup.reset import Reset, ResetOrder
from appliance.jobs import backups as works
from appliance.security.audit import AuditLog
from appliance.security.keys import Grant
from appliance.security.roles import PERMISSIONS, Role
from tests.appliance.api.admin.test_jobs import follow
from tests.appliance.api.box import Box

URL = "/api/admin/backups"
SECRET = "correct horse battery staple"


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(works, "RESTART_AFTER_S", 0.0)
    monkeypatch.setattr("appliance.api.admin.backups.RESTART_AFTER_S", 0.0)
    monkeypatch.setattr("appliance.backup.key.DEFAULT_LOG2_N", 14)


async def made(client: httpx.AsyncClient, **body: Any) -> dict[str, Any]:
    answer = await client.post(URL, json=body)
    assert answer.status_code == 202, answer.text
    return await follow(client, answer.json()["id"])


async def restarted(box: Box) -> None:
    while not box.restarts:
        await asyncio.sleep(0)


async def test_made_listed_restored_and_removed(client: httpx.AsyncClient, box: Box) -> None:
    empty = (await client.get(URL)).json()
    assert (empty["backups"], empty["has_passphrase"], empty["keep"], empty["last_restore"]) == ([], False, 14, None)
    stick = empty["folders"][0]
    job = await made(client, passphrase=SECRET)
    assert (job["state"], job["kind"], job["error"]) == ("succeeded", "backup", None)
    assert "passphrase" not in job["request"]
    other = await made(client, passphrase=SECRET, to=stick)
    assert other["result"]["path"].startswith(stick)
    listed = (await client.get(URL)).json()
    assert [one["name"] for one in listed["backups"]] == [job["result"]["name"]]
    assert [one["path"] for one in listed["on_sticks"]] == [other["result"]["path"]]
    assert listed["backups"][0]["label"] == "manual"

    order = {"path": other["result"]["path"], "passphrase": SECRET, "confirm": "restore"}
    answer = await client.post(f"{URL}/restore", json=order)
    done = await follow(client, answer.json()["id"])
    assert (done["state"], done["result"]["restarts"]) == ("succeeded", True)
    await restarted(box)
    after = (await client.get(URL)).json()
    assert after["waiting"] is True
    # Whoever opened a backup with its passphrase has it from now on.
    assert after["has_passphrase"] is True
    gone = await client.delete(f"{URL}/{job['result']['name']}")
    assert gone.status_code == 200
    assert (await client.get(URL)).json()["backups"] == []
    rows = await asyncio.to_thread(AuditLog(box.database).list)
    assert {"backup.remove", "job.create", "job.end"} <= {row.action for row in rows}
    assert not any(SECRET in row.details for row in rows)


async def test_with_a_passphrase_that_is_set_nobody_types_one(client: httpx.AsyncClient) -> None:
    refused = await client.post(URL, json={})
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "backup_passphrase_missing")
    assert (await client.put(f"{URL}/passphrase", json={"passphrase": SECRET})).status_code == 200
    job = await made(client)
    assert job["state"] == "succeeded"
    order = {"name": job["result"]["name"], "confirm": "restore"}
    done = await follow(client, (await client.post(f"{URL}/restore", json=order)).json()["id"])
    assert done["state"] == "succeeded"
    wrong = {**order, "passphrase": "another passphrase"}
    failed = await follow(client, (await client.post(f"{URL}/restore", json=wrong)).json()["id"])
    assert (failed["state"], failed["error"]["code"]) == ("failed", "backup_wrong_passphrase")
    assert (await client.delete(f"{URL}/passphrase")).json()["message"].startswith("No backups")
    assert (await client.get(URL)).json()["has_passphrase"] is False


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("POST", "", {"passphrase": SECRET, "to": "/etc"}, 403, "path_not_allowed"),
        ("POST", "", {"passphrase": "short"}, 202, "bad_passphrase"),
        ("POST", "", {"where": "x"}, 400, "unknown_parameter"),
        ("POST", "/restore", {"confirm": "restore"}, 400, "invalid_value"),
        ("POST", "/restore", {"name": "a", "path": "/b", "confirm": "restore"}, 400, "invalid_value"),
        ("POST", "/restore", {"name": "x.r1backup"}, 400, "not_confirmed"),
        ("POST", "/restore", {"name": "x.r1backup", "confirm": "yes"}, 400, "not_confirmed"),
        ("POST", "/restore", {"name": "x.r1backup", "confirm": "restore"}, 404, "backup_not_found"),
        ("POST", "/restore", {"name": "../r1box.db", "confirm": "restore"}, 404, "backup_not_found"),
        ("POST", "/restore", {"path": "/etc/shadow", "confirm": "restore"}, 403, "path_not_allowed"),
        ("PUT", "/passphrase", {"passphrase": "short"}, 400, "bad_passphrase"),
        ("DELETE", "/x.r1backup", None, 404, "backup_not_found"),
        ("DELETE", "/..%2Fr1box.db", None, 404, None),
    ],
)
async def test_refused(client: httpx.AsyncClient, method: str, path: str, body: Any, status: int, code: str) -> None:
    answer = await client.request(method, URL + path, json=body)
    assert answer.status_code == status, answer.text
    if status == 202:
        job = await follow(client, answer.json()["id"])
        assert (job["state"], job["error"]["code"]) == ("failed", code)
    elif code is not None:
        assert answer.json()["error"]["code"] == code


async def test_the_jobs_route_takes_none_of_them(client: httpx.AsyncClient) -> None:
    for kind in ("backup", "restore", "factory_reset"):
        answer = await client.post("/api/admin/jobs", json={"kind": kind})
        assert answer.status_code == 400, kind


async def test_operators_see_them_and_administrators_make_them(client: httpx.AsyncClient, box: Box) -> None:
    key = await asyncio.to_thread(box.keys.create, "operator", Grant(scopes=PERMISSIONS[Role.OPERATOR]))
    headers = {"Authorization": f"Bearer {key.secret}"}
    assert (await client.get(URL, headers=headers)).status_code == 200
    for method, path in (("POST", URL), ("POST", f"{URL}/restore"), ("POST", "/api/admin/factory-reset")):
        assert (await client.request(method, path, json={}, headers=headers)).status_code == 403
    assert (await client.post("/api/admin/restart", headers=headers)).status_code == 202
    await restarted(box)


async def test_a_factory_reset_is_written_down_and_asks_for_a_restart(
    client: httpx.AsyncClient, box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    orders: list[ResetOrder] = []
    monkeypatch.setattr(Reset, "order", lambda self, order: orders.append(order))
    refused = await client.post("/api/admin/factory-reset", json={"confirm": "yes"})
    assert refused.json()["error"]["code"] == "not_confirmed"
    body = {"confirm": "factory-reset", "keep_backups": True}
    done = await follow(client, (await client.post("/api/admin/factory-reset", json=body)).json()["id"])
    assert done["state"] == "succeeded"
    assert orders == [ResetOrder(keep_backups=True)]
    await restarted(box)
