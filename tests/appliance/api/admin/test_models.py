"""What operators ask of models goes to the host as asked; what is not there is 404."""

from __future__ import annotations

import httpx
import pytest

from tests.appliance.api.box import MODEL, Box


async def test_the_list(client: httpx.AsyncClient, stranger: httpx.AsyncClient) -> None:
    told = (await client.get("/api/admin/models")).json()
    assert [(m["id"], m["state"], m["default"]) for m in told["models"]] == [
        ("tiny", "installed", True),
        (MODEL, "ready", False),
    ]
    assert told["load_on_request"] == "swap"
    assert (await client.get("/api/admin/models/tiny")).json() == told["models"][0]
    assert (await stranger.get("/api/admin/models")).status_code == 401


@pytest.mark.parametrize(
    ("path", "body", "asked"),
    [
        ("load", None, ("load", "tiny", True, False)),
        ("load", {"swap": False, "pin": True}, ("load", "tiny", False, True)),
        ("unload", None, ("unload", "tiny", 60.0)),
        ("unload", {"drain_timeout_s": 0}, ("unload", "tiny", 0.0)),
        ("activate", None, ("activate", "tiny")),
    ],
)
async def test_changes(
    client: httpx.AsyncClient, box: Box, path: str, body: dict[str, object] | None, asked: tuple[object, ...]
) -> None:
    response = await client.post(f"/api/admin/models/tiny/{path}", json=body)
    assert (response.status_code, response.json()["id"]) == (200, "tiny")
    assert box.manager.asked == [asked]
    missing = await client.post(f"/api/admin/models/none/{path}", json=body)
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "model_not_found")
    assert box.manager.asked == [asked]


async def test_a_wish_that_is_not_understood(client: httpx.AsyncClient, box: Box) -> None:
    for body in ({"swap": "perhaps"}, {"sawp": True}):
        assert (await client.post("/api/admin/models/tiny/load", json=body)).status_code == 400
    assert box.manager.asked == []
