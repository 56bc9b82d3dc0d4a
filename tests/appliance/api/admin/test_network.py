"""The network over HTTP, with a helper that runs."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator

import httpx
import pytest

from tests.appliance.api.box import Box
from tests.fakes.network import FakeNetwork, HelperThread

URL = "/api/admin/network"


@pytest.fixture
def helper(box: Box) -> Iterator[FakeNetwork]:
    with HelperThread(box.network) as machine:
        yield machine


async def test_without_the_helper(client: httpx.AsyncClient) -> None:
    told = (await client.get(URL)).json()
    assert told["hostname"] == "r1box"
    assert told["interfaces"][0]["addresses"] == ["10.0.4.17/24"]
    assert "does not answer" in told["problem"]
    refused = await client.post(f"{URL}/trial", json={"change": {"hostname": "ward-3"}})
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "system_helper_missing")


async def test_a_change_from_preview_to_confirmation(client: httpx.AsyncClient, box: Box, helper: FakeNetwork) -> None:
    change = {"addresses": ["10.0.4.30/24"], "dns": ["10.0.4.2"]}
    preview = (await client.post(f"{URL}/preview", json=change)).json()
    assert [(line["what"], line["after"]) for line in preview["lines"]] == [
        ("addresses", ["10.0.4.30/24"]),
        ("dns", ["10.0.4.2"]),
    ]
    assert preview["change"]["gateways"] == ["10.0.4.1"]
    begun = await client.post(f"{URL}/trial", json={"change": change, "seconds": 600})
    assert begun.status_code == 202
    trial = begun.json()["trial"]
    shown = (await client.get(URL)).json()
    assert shown["problem"] is None
    assert shown["trial"]["id"] == trial["id"]
    assert shown["interfaces"][0]["addresses"] == ["10.0.4.30/24"]
    second = await client.post(f"{URL}/trial", json={"change": {"mode": "dhcp"}})
    assert (second.status_code, second.json()["error"]["code"]) == (409, "network_trial_running")
    wrong = await client.post(f"{URL}/trial/confirm", json={"id": "net_other"})
    assert (wrong.status_code, wrong.json()["error"]["code"]) == (409, "network_no_trial")
    ended = (await client.post(f"{URL}/trial/confirm", json={"id": trial["id"]})).json()
    assert (ended["trial"], ended["last"]["outcome"]) == (None, "confirmed")
    assert (await client.post(f"{URL}/trial", json={"change": {"mode": "dhcp"}})).status_code == 202
    assert (await client.delete(f"{URL}/trial")).json()["last"]["outcome"] == "rolled_back"
    assert await asyncio.to_thread(helper.addresses) == ["10.0.4.30/24"]
    rows = await asyncio.to_thread(box.accounts.audit.list)
    acts = [(row.action, json.loads(row.details)["outcome"]) for row in rows if row.action.startswith("network.")]
    assert acts[::-1] == [
        ("network.try", "done"),
        ("network.try", "network_trial_running"),
        ("network.confirm", "network_no_trial"),
        ("network.confirm", "done"),
        ("network.try", "done"),
        ("network.rollback", "done"),
    ]


async def test_what_is_wrong_names_its_field(client: httpx.AsyncClient, helper: FakeNetwork) -> None:
    for path, body in (("preview", {"gateways": ["10.9.9.9"]}), ("trial", {"change": {"gateways": ["10.9.9.9"]}})):
        error = (await client.post(f"{URL}/{path}", json=body)).json()["error"]
        assert (error["code"], error["param"]) == ("network_gateway_outside", "gateways")
        assert "here 10.0.4.0/24" in error["hint"]
    unknown = (await client.post(f"{URL}/preview", json={"adress": ["10.0.4.3/24"]})).json()["error"]
    assert unknown["code"] == "unknown_parameter" or unknown["type"] == "invalid_request_error"
    assert (await client.post(f"{URL}/trial", json={"change": {"mode": "dhcp"}, "seconds": 5})).status_code == 400
    assert await asyncio.to_thread(lambda: helper.state()["eth0"]["addresses"]) == ["10.0.4.17/24"]
