"""People, keys, limits and logs on the real daemon with the tiny R1: as administrators and programs meet them."""

from __future__ import annotations

import json
import os
import signal
import stat
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest
from openai import OpenAI

from tests.e2e.box import Box, Home, start_box

PASSWORD = "three blind mice 7"
HELLO: list[Any] = [{"role": "user", "content": "What is the capital of France?"}]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> tuple[Home, str]:
    home = Home(tmp_path_factory.mktemp("a"))
    return home, home.import_model()


@pytest.fixture(scope="module")
def lone_box(place: tuple[Home, str]) -> Iterator[Box]:
    """A box of this module's own: nobody is there yet."""
    box = start_box(place[0], "--seats", "2", "--context", "1024")
    yield box
    box.stop()


def console(home: Home) -> httpx.Client:
    transport = httpx.HTTPTransport(uds=str(home.state_dir / "admin.sock"))
    return httpx.Client(transport=transport, base_url="http://console", timeout=60)


def test_from_the_first_administrator_to_the_audit_log(place: tuple[Home, str], lone_box: Box) -> None:
    home, model = place
    token = home.run("users", "setup-token").stdout.strip()
    assert any(token in line for line in lone_box.output)
    with httpx.Client(base_url=lone_box.url, headers={"Origin": lone_box.url}, timeout=60) as browser:
        _a_whole_life(home, model, lone_box, browser, token)


def _a_whole_life(home: Home, model: str, lone_box: Box, browser: httpx.Client, token: str) -> None:
    body = {"token": token, "name": "Li Wei", "password": PASSWORD, "language": "zh"}
    me = browser.post("/api/auth/setup", json=body)
    assert (me.status_code, me.json()["role"]) == (200, "admin")
    assert home.run("users", "setup-token", check=False).returncode == 1
    browser.headers["X-R1Box-CSRF"] = me.json()["csrf_token"]
    grant = {"name": "app", "tokens_per_day": 400, "requests_per_minute": 3, "user_id": me.json()["user_id"]}
    key = browser.post("/api/admin/keys", json=grant).json()["key"]
    with OpenAI(base_url=f"{lone_box.url}/v1", api_key=key, max_retries=0) as client:
        _use_the_key(home, model, client, browser)
    lone_box.wait_until(lambda: "app" in home.run("usage", "--by", "key", "--csv").stdout)
    _look_at_the_books(home)


def _use_the_key(home: Home, model: str, client: OpenAI, browser: httpx.Client) -> None:
    answer = client.chat.completions.with_raw_response.create(model=model, messages=HELLO, max_tokens=60)
    assert answer.headers["x-ratelimit-remaining-requests"] == "2"
    used = answer.parse().usage
    assert used is not None
    left = int(answer.headers["x-ratelimit-remaining-day-tokens"])
    assert left <= 400 - used.prompt_tokens
    with pytest.raises(openai.RateLimitError, match=r"400 tokens per day"):
        client.chat.completions.create(model=model, messages=HELLO, max_tokens=500)
    list(client.chat.completions.create(model=model, messages=HELLO, max_tokens=20, stream=True))
    with pytest.raises(openai.RateLimitError, match=r"3 requests per minute"):
        client.chat.completions.create(model=model, messages=HELLO)
    with pytest.raises(openai.PermissionDeniedError, match="accounts:read"):
        client.get("/../api/admin/users", cast_to=object)
    home.run("users", "disable", "li wei", check=False)  # the last administrator stays
    assert browser.get("/api/auth/me").status_code == 200
    home.run("keys", "revoke", "app")
    with pytest.raises(openai.AuthenticationError):
        client.models.list()


def _look_at_the_books(home: Home) -> None:
    usage = json.loads(home.run("usage", "--by", "key", "--json").stdout)["usage"]
    [row] = [one for one in usage if one["name"] == "app"]
    assert row["requests"] == 4
    assert row["errors"] == 2
    actions = [json.loads(line)["action"] for line in home.run("audit", "export").stdout.splitlines()]
    assert [action for action in actions if action.startswith(("user.", "key.", "session."))] == [
        "user.create",
        "session.login",
        "key.create",
        "key.revoke",
    ]
    assert "whole" in home.run("audit", "verify").stdout
    assert "user.create" in home.run("audit", "list").stdout


def test_the_console_needs_no_login(place: tuple[Home, str], lone_box: Box) -> None:
    home, model = place
    path = home.state_dir / "admin.sock"
    assert stat.S_IMODE(path.stat().st_mode) in (0o600, 0o660)
    with console(home) as local:
        me = local.get("/api/auth/me").json()
        assert me["kind"] == "local"
        assert "audit:read" in me["permissions"]
        chat = local.post("/v1/chat/completions", json={"model": model, "messages": HELLO, "max_tokens": 5})
        assert chat.status_code == 200
        made = local.post("/api/admin/users", json={"name": "chen", "password": PASSWORD}).json()
        # On the network the door is shut after too many guesses; here it is not, and a password can be reset.
        for _ in range(6):
            last = httpx.post(f"{lone_box.url}/api/auth/login", json={"name": "chen", "password": "a wrong one 1"})
        assert last.status_code == 429
        reset = {"password": "see how they run 8", "must_change": False}
        assert local.post(f"/api/admin/users/{made['id']}/password", json=reset).status_code == 204
        rows = local.get("/api/admin/audit", params={"action": "user.password"}).json()["items"]
        assert rows[0]["actor_kind"] == "local"
        wrong = local.get("/api/auth/me", headers={"Authorization": "Bearer r1b_wrong"})
        assert wrong.status_code == 401
    forged = httpx.get(f"{lone_box.url}/api/auth/me", headers={"X-Peer": "0", "peer": "0"})
    assert forged.status_code == 401


def test_a_kill_loses_a_second_at_most_and_leaves_nothing_in_the_way(place: tuple[Home, str], lone_box: Box) -> None:
    home, model = place
    with console(home) as local:
        local.post("/v1/chat/completions", json={"model": model, "messages": HELLO, "max_tokens": 5})
        before = [one["subject"] for one in local.get("/api/admin/usage").json()["items"]]
    lone_box.wait_until(lambda: "local" in home.run("usage", "--by", "key", "--csv").stdout)
    os.kill(lone_box.process.pid, signal.SIGKILL)
    lone_box.process.wait(30)
    assert "whole" in home.run("audit", "verify").stdout
    again = start_box(home, "--seats", "2", "--context", "1024")
    try:
        with console(home) as local:
            subjects = [one["subject"] for one in local.get("/api/admin/usage").json()["items"]]
        assert set(before) | {"local"} <= set(subjects)
    finally:
        assert again.stop() == 0
    assert not (home.state_dir / "admin.sock").exists()
