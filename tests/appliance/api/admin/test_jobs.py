"""Jobs over HTTP: the tiny R1 imported from a folder, followed, checked; what is refused."""

from __future__ import annotations

import asyncio
import json
import shutil
from typing import Any

import httpx
import pytest

from tests.appliance.api.box import Box
from tests.e2e.box import TINY_R1

URL = "/api/admin/jobs"


async def follow(client: httpx.AsyncClient, job_id: str) -> dict[str, Any]:
    """The job as its last event has it; the stream ends with the job."""
    text = (await client.get(f"{URL}/{job_id}/events")).text
    events = [json.loads(line.removeprefix("data: ")) for line in text.splitlines() if line.startswith("data: ")]
    assert all(event["id"] == job_id for event in events)
    last: dict[str, Any] = events[-1]
    return last


async def test_import_check_and_load(client: httpx.AsyncClient, box: Box) -> None:
    listed = (await client.get(URL)).json()
    assert listed["jobs"] == []
    stick = listed["folders"][0]
    await asyncio.to_thread(shutil.copy, TINY_R1, f"{stick}/tiny.gguf")
    answer = await client.post(URL, json={"kind": "import", "path": f"{stick}/tiny.gguf"})
    assert answer.status_code == 202
    done = await follow(client, answer.json()["id"])
    assert (done["state"], done["error"], done["created_by"]) == ("succeeded", None, "tester")
    model = done["result"]["id"]
    assert done["result"]["default"] is True
    assert (await asyncio.to_thread(box.store.get, model)).id == model

    checked = await follow(client, (await client.post(URL, json={"kind": "verify"})).json()["id"])
    assert checked["result"]["whole"] is True
    assert [one["id"] for one in checked["result"]["models"]] == [model]

    loaded = await follow(client, (await client.post(URL, json={"kind": "load", "model": model})).json()["id"])
    assert (loaded["state"], loaded["result"]["model"]) == ("succeeded", model)
    assert box.manager.asked == [("load", model, True, False)]
    again = await client.delete(f"{URL}/{loaded['id']}")
    assert (again.status_code, again.json()["error"]["code"]) == (409, "job_not_cancellable")
    assert [job["kind"] for job in (await client.get(URL)).json()["jobs"]] == ["load", "verify", "import"]


@pytest.mark.parametrize(
    ("body", "status", "code", "param"),
    [
        ({"kind": "import", "path": "/etc/shadow"}, 403, "path_not_allowed", None),
        ({"kind": "bundle_import", "paths": ["/etc"]}, 403, "path_not_allowed", None),
        ({"kind": "verify", "model": "none"}, 404, "model_not_found", None),
        ({"kind": "load", "model": "none"}, 404, "model_not_found", None),
        ({"kind": "requantize", "model": "x", "to": "Q2_K"}, 400, "invalid_value", "to"),
        ({"kind": "import"}, 400, "missing_required_parameter", "path"),
        ({"kind": "verify", "models": "x"}, 400, "unknown_parameter", "models"),
        ({"kind": "format"}, 400, "invalid_value", None),
        ({}, 400, None, None),
    ],
)
async def test_refused(client: httpx.AsyncClient, body: Any, status: int, code: str | None, param: str | None) -> None:
    answer = await client.post(URL, json=body)
    error = answer.json()["error"]
    assert answer.status_code == status, error
    assert code is None or error["code"] == code, error
    assert param is None or error["param"] == param, error
    assert (await client.get(URL)).json()["jobs"] == []


@pytest.mark.parametrize("call", [("GET", ""), ("DELETE", ""), ("GET", "/events")])
async def test_no_such_job(client: httpx.AsyncClient, call: tuple[str, str]) -> None:
    answer = await client.request(call[0], f"{URL}/job_none{call[1]}")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "job_not_found")
