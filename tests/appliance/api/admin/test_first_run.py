"""A new box's list over HTTP, and its first administrator."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import httpx
import pytest

from tests.appliance.api.box import Box
from tests.fakes.network import FakeNetwork, HelperThread

URL = "/api/admin/first-run"


@pytest.fixture
def helper(box: Box) -> Iterator[FakeNetwork]:
    with HelperThread(box.network) as machine:
        yield machine


async def test_without_the_helper_a_keyboard_is_no_reason_to_lie(client: httpx.AsyncClient) -> None:
    refused = await client.put(f"{URL}/steps/keyboard", json={"state": "done", "value": "de"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "system_helper_missing")
    told = (await client.get(URL)).json()
    assert {one["state"] for one in told["steps"] if one["name"] == "keyboard"} == {"open"}


async def test_steps_are_done_over_http(client: httpx.AsyncClient, box: Box, helper: FakeNetwork) -> None:
    told = (await client.get(URL)).json()
    assert (told["finished"], told["next"]) == (False, "language")
    # The tests' box has a model that answers.
    assert next(one for one in told["steps"] if one["name"] == "model")["told"] == "Tiny R1 Q8_0"
    put = await client.put(f"{URL}/steps/language", json={"state": "done", "value": "zh"})
    assert (put.json()["language"], put.json()["next"]) == ("zh", "keyboard")
    put = await client.put(f"{URL}/steps/keyboard", json={"state": "done", "value": "de"})
    assert put.json()["next"] == "network"
    hostile = await client.put(f"{URL}/steps/time", json={"state": "done", "value": "../../etc/shadow"})
    assert (hostile.status_code, hostile.json()["error"]["code"]) == (400, "network_value_invalid")
    assert (await asyncio.to_thread(helper.state))["calls"] == ["localectl set-keymap de"]
    begun = await client.post(f"{URL}/self-test")
    assert begun.status_code == 202
    assert (await client.post(f"{URL}/finish")).json()["finished"] is True
    rows = await asyncio.to_thread(box.accounts.audit.list)
    acts = {row.action for row in rows}
    assert {"first_run.step", "first_run.self_test", "first_run.finish"} <= acts


async def test_the_first_administrator_and_no_second(client: httpx.AsyncClient, box: Box) -> None:
    token = await asyncio.to_thread(box.accounts.ensure_setup_token)
    assert token is not None
    short = await client.post(f"{URL}/admin", json={"name": "anna", "password": "short"})
    assert short.status_code == 400
    made = await client.post(f"{URL}/admin", json={"name": "anna", "password": "a long enough one", "language": "zh"})
    assert next(one for one in made.json()["steps"] if one["name"] == "admin")["state"] == "done"
    again = await client.post(f"{URL}/admin", json={"name": "eve", "password": "a long enough one"})
    assert (again.status_code, again.json()["error"]["code"]) == (403, "setup_closed")
    # The page's token is of no use any more, and the person may log in as they are.
    body = {"token": token, "name": "eve", "password": "a long enough one"}
    assert (await client.post("/api/auth/setup", json=body)).status_code == 403
    user = await asyncio.to_thread(box.accounts.users.get, "anna")
    assert (user.role, user.language, user.must_change_password) == ("admin", "zh", False)
