"""Settings over HTTP, and what the box is called."""

from __future__ import annotations

import asyncio

import httpx

from appliance.security.audit import AuditFilter
from appliance.security.keys import Grant
from appliance.security.roles import Permission, Role
from tests.appliance.api.box import Box
from tests.appliance.api.people import log_in, make_user

URL = "/api/admin/settings"


async def test_shown_changed_and_audited(client: httpx.AsyncClient, box: Box) -> None:
    before = (await client.get(URL)).json()
    level = next(one for one in before["items"] if one["name"] == "log_level")
    assert (level["value"], level["source"], level["applies"], level["locked"]) == ("info", "default", "now", False)
    assert level["kind"] == {"enum": ["debug", "info", "warning", "error"], "type": "string"}
    assert before["restart_needed"] == []
    after = (await client.patch(URL, json={"values": {"log_level": "debug", "port": 8081}})).json()
    assert after["restart_needed"] == ["port"]
    changed = {one["name"]: (one["value"], one["stored"]) for one in after["items"] if one["source"] == "changed"}
    assert changed == {"log_level": ("debug", "debug"), "port": (8080, 8081)}
    rows = await asyncio.to_thread(box.accounts.audit.list, AuditFilter(action="settings.change"))
    assert [(row.target, row.actor_name, row.details) for row in rows] == [
        ("port", "tester", '{"from":8080,"to":8081}'),
        ("log_level", "tester", '{"from":"info","to":"debug"}'),
    ]


async def test_refused(client: httpx.AsyncClient, box: Box) -> None:
    for body, status, code in (
        ({"values": {"log_level": "loud"}}, 400, "setting_not_usable"),
        ({"values": {"prot": 1}}, 400, "unknown_setting"),
        ({"values": {"backends_dir": "/tmp/x"}}, 403, "setting_in_file"),
        ({"values": {"port": {"a": 1}}}, 400, None),
        ({"values": {}}, 400, None),
        ({"port": 1}, 400, None),
    ):
        answer = await client.patch(URL, json=body)
        assert answer.status_code == status, (body, answer.text)
        assert code is None or answer.json()["error"]["code"] == code, (body, answer.text)
    assert await asyncio.to_thread(box.accounts.audit.list, AuditFilter(action="settings.change")) == ()


async def test_operators_see_and_administrators_change(stranger: httpx.AsyncClient, box: Box) -> None:
    await asyncio.to_thread(make_user, box, "op", Role.OPERATOR)
    await asyncio.to_thread(make_user, box, "boss", Role.ADMIN)
    key = await asyncio.to_thread(box.keys.create, "viewer", Grant(scopes=frozenset({Permission.ADMIN_READ})))
    assert (await stranger.get(URL)).status_code == 401
    assert (await stranger.get(URL, headers={"Authorization": f"Bearer {key.secret}"})).status_code == 403
    body = {"values": {"log_level": "warning"}}
    async with log_in(box, "op") as operator, log_in(box, "boss") as boss:
        assert (await operator.get(URL)).status_code == 200
        assert (await operator.patch(URL, json=body)).status_code == 403
        assert (await boss.patch(URL, json=body)).status_code == 200


async def test_what_the_box_is_called(client: httpx.AsyncClient) -> None:
    told = (await client.get("/api/admin/box")).json()
    assert (told["version"], told["tls"], told["only_local"], told["port"]) == ("1.2.3", "off", True, 8080)
    assert told["urls"] == ["http://127.0.0.1:8080/"]
    assert (told["mdns_name"], told["certificate"], told["authority"]) == (None, None, None)
    assert "localhost" in told["names"]
