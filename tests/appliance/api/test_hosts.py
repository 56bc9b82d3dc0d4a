"""Names that the box answers browsers by: its own and those that nobody can own on the internet."""

from __future__ import annotations

import httpx
import pytest

from appliance.api.hosts import HostNames, UnknownHost
from tests.appliance.api.box import Box
from tests.appliance.api.transport import Application

NAMES = HostNames(frozenset(("ai.hospital.example", "BOX7.Hospital.Example.", "*.wards.example")))


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "192.168.1.7:8080",
        "203.0.113.9",
        "[::1]:8080",
        "[fe80::1]",
        "localhost:8080",
        "box",
        "r1box.local",
        "r1box-2.local.:8080",
        "box.lan",
        "box.ward3.internal",
        "box.home.arpa",
        "ai.hospital.example:443",
        "AI.Hospital.Example",
        "box7.hospital.example.",
        "north.wards.example",
    ],
)
def test_names_of_the_box(host: str) -> None:
    NAMES.check(host)


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8080",
        "box.evil.example",
        "1.2.3.4.evil.example",
        "127.0.0.1.evil.example",
        "evil-local.com",
        "local.evil.example",
        "hospital.example",
        "x.ai.hospital.example",
        "a.north.wards.example",
        "wards.example",
        "0x7f.1",
        "",
        " ",
        "a b",
        "box/..",
        "box@evil.example",
        "[::1].evil.example",
        "box:99999999",
        "b\u00f6x.example",
    ],
)
def test_names_that_could_be_anybodys(host: str) -> None:
    with pytest.raises(UnknownHost) as caught:
        NAMES.check(host)
    assert caught.value.http_status == 421


async def test_what_needs_a_name_of_the_box(box: Box) -> None:
    """Public routes do, but for those of load balancers; with a key any name will do; a made-up key opens nothing."""
    transport = Application(app=box.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://evil.example") as rebound:
        for path in ("/", "/api/page", "/api/auth/setup"):
            answer = await rebound.get(path, headers={"X-Api-Key": "anything"})
            assert (answer.status_code, answer.json()["error"]["code"]) == (421, "unknown_host"), path
            assert "evil.example" in answer.json()["error"]["message"]
            assert "more_names" in answer.json()["error"]["hint"]
        login = await rebound.post("/api/auth/login", json={"name": "li.wei", "password": "a guess 1"})
        assert login.status_code == 421
        assert (await rebound.get("/healthz")).status_code == 200
        assert (await rebound.get("/readyz")).status_code == 200
        assert (await rebound.get("/v1/models", headers={"X-Api-Key": "anything"})).status_code == 401
        assert (await rebound.get("/v1/models", headers=box.authorization)).status_code == 200
