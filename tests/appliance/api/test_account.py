"""Logging in and out: cookies, CSRF, throttling, the first administrator."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest

from appliance.security.accounts import Accounts
from appliance.security.roles import Role
from appliance.security.sessions import hash_secret
from tests.appliance.api.box import Box
from tests.appliance.api.people import ORIGIN, PASSWORD, log_in, make_user
from tests.appliance.api.transport import Application

LOGIN = "/api/auth/login"


@pytest.fixture
async def chen(box: Box) -> AsyncIterator[httpx.AsyncClient]:
    """The browser of an administrator."""
    await asyncio.to_thread(make_user, box, "Chen", Role.ADMIN)
    async with log_in(box, "chen") as browser:
        yield browser


def code(response: httpx.Response) -> tuple[int, str]:
    return response.status_code, response.json()["error"]["code"]


async def test_the_cookie_is_for_this_box_alone(stranger: httpx.AsyncClient, box: Box) -> None:
    await asyncio.to_thread(make_user, box, "chen", Role.USER)
    answer = await stranger.post(LOGIN, json={"name": "CHEN", "password": PASSWORD})
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith("r1box_session=")
    assert "; HttpOnly; Path=/; SameSite=strict" in cookie
    assert "Secure" not in cookie
    assert answer.headers["cache-control"] == "no-store"
    secret = cookie.split("=", 1)[1].split(";")[0]
    assert len(secret) == 43

    def stored() -> object:
        with box.database.connect() as connection:
            return connection.exec_driver_sql("SELECT hash FROM user_session").scalar()

    assert await asyncio.to_thread(stored) == hash_secret(secret)
    transport = Application(app=box.app)
    async with httpx.AsyncClient(transport=transport, base_url="https://box") as secure:
        cookie = (await secure.post(LOGIN, json={"name": "chen", "password": PASSWORD})).headers["set-cookie"]
        assert cookie.startswith("__Host-r1box_session=")
        assert cookie.endswith("; Secure")


async def test_a_session_is_a_person(chen: httpx.AsyncClient) -> None:
    me = (await chen.get("/api/auth/me")).json()
    assert (me["kind"], me["name"], me["role"], me["language"]) == ("session", "Chen", "admin", "en")
    assert me["csrf_token"] == chen.headers["X-R1Box-CSRF"]
    assert "audit:read" in me["permissions"]
    assert (await chen.patch("/api/auth/me", json={"language": "zh"})).json()["language"] == "zh"
    chat = {"model": "org/Tiny-R1", "messages": [{"role": "user", "content": "hello"}]}
    assert (await chen.post("/v1/chat/completions", json=chat)).status_code == 200


async def test_a_request_that_changes_something_repeats_the_token(chen: httpx.AsyncClient, box: Box) -> None:
    body = {"language": "zh"}
    token = chen.headers.pop("X-R1Box-CSRF")
    assert code(await chen.patch("/api/auth/me", json=body)) == (403, "csrf_rejected")
    for wrong in ("", "x", token[:-1], token.upper() + "0", "\u00e9"):
        answer = await chen.patch("/api/auth/me", json=body, headers=[(b"X-R1Box-CSRF", wrong.encode("latin-1"))])
        assert code(answer) == (403, "csrf_rejected")
    async with log_in(box, "chen") as other:
        answer = await chen.patch("/api/auth/me", json=body, headers={"X-R1Box-CSRF": other.headers["X-R1Box-CSRF"]})
        assert code(answer) == (403, "csrf_rejected")
    assert (await chen.patch("/api/auth/me", json=body, headers={"X-R1Box-CSRF": token})).status_code == 200
    assert (await chen.get("/api/auth/me")).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://box.evil.example"},
        {"Origin": "http://box:8081"},
        {"Origin": "file://"},
        {"Origin": "chrome-extension://abcdef"},
        {"Origin": "http://"},
    ],
)
@pytest.mark.parametrize(("method", "path"), [("PATCH", "/api/auth/me"), ("GET", "/api/auth/me"), ("POST", LOGIN)])
async def test_foreign_origins_are_refused(
    chen: httpx.AsyncClient, method: str, path: str, headers: dict[str, str]
) -> None:
    assert code(await chen.request(method, path, json={}, headers=headers)) == (403, "foreign_origin")


async def test_what_a_browser_says_of_itself_counts_too(chen: httpx.AsyncClient) -> None:
    del chen.headers["Origin"]
    cross = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}
    assert code(await chen.get("/api/auth/me", headers=cross)) == (403, "foreign_origin")
    for site in ("same-origin", "none"):
        assert (await chen.get("/api/auth/me", headers={"Sec-Fetch-Site": site})).status_code == 200


async def test_logout_ends_the_session_on_the_box_too(chen: httpx.AsyncClient, box: Box) -> None:
    cookies = dict(chen.cookies)
    assert (await chen.post("/api/auth/logout")).status_code == 204
    assert not dict(chen.cookies)
    assert code(await chen.get("/api/auth/me")) == (401, "invalid_api_key")
    chen.cookies.update(cookies)
    assert code(await chen.get("/api/auth/me")) == (401, "not_logged_in")


async def test_sessions_are_listed_and_ended(chen: httpx.AsyncClient, box: Box) -> None:
    await asyncio.to_thread(make_user, box, "li", Role.USER)
    async with log_in(box, "chen") as phone, log_in(box, "li") as li:
        mine = (await chen.get("/api/auth/sessions")).json()["items"]
        assert [one["current"] for one in mine] == [True, False]
        lis = (await li.get("/api/auth/sessions")).json()["items"]
        assert code(await li.delete(f"/api/auth/sessions/{mine[0]['id']}")) == (404, "session_not_found")
        assert (await chen.delete(f"/api/auth/sessions/{mine[1]['id']}")).status_code == 204
        assert (await phone.get("/api/auth/me")).status_code == 401
        everybody = (await chen.get("/api/admin/sessions")).json()["items"]
        assert [one["user_name"] for one in everybody] == ["Chen", "li"]
        assert (await chen.delete(f"/api/admin/sessions/{lis[0]['id']}")).status_code == 204
        assert (await li.get("/api/auth/me")).status_code == 401
    async with log_in(box, "chen") as tablet:
        assert (await chen.post("/api/auth/logout", json={"everywhere": True})).status_code == 204
        assert (await tablet.get("/api/auth/me")).status_code == 401


async def test_a_changed_password_ends_the_other_sessions(chen: httpx.AsyncClient, box: Box) -> None:
    new = {"old": PASSWORD, "new": "see how they run 8"}
    async with log_in(box, "chen") as phone:
        assert code(await chen.post("/api/auth/password", json={**new, "old": "wrong"})) == (401, "login_failed")
        assert code(await chen.post("/api/auth/password", json={**new, "new": "chen"})) == (400, "bad_password")
        assert code(await chen.post("/api/auth/password", json={**new, "new": PASSWORD})) == (400, "bad_password")
        assert (await chen.post("/api/auth/password", json=new)).status_code == 204
        assert (await phone.get("/api/auth/me")).status_code == 401
        assert (await chen.get("/api/auth/me")).status_code == 200
    async with log_in(box, "chen", new["new"]):
        pass


async def test_a_password_from_somebody_else_is_changed_first(chen: httpx.AsyncClient, box: Box) -> None:
    user = {"name": "new", "role": "operator", "password": PASSWORD}
    made = await chen.post("/api/admin/users", json=user)
    assert (made.status_code, made.json()["must_change_password"]) == (201, True)
    assert PASSWORD not in made.text
    async with log_in(box, "new") as browser:
        assert (await browser.get("/api/auth/me")).json()["must_change_password"] is True
        assert code(await browser.get("/v1/models")) == (403, "password_change_needed")
        change = {"old": PASSWORD, "new": "a farmer's wife 9"}
        assert (await browser.post("/api/auth/password", json=change)).status_code == 204
        assert (await browser.get("/v1/models")).status_code == 200


async def test_who_is_disabled_is_out_at_once(chen: httpx.AsyncClient, box: Box) -> None:
    user_id = await asyncio.to_thread(make_user, box, "li", Role.USER)
    async with log_in(box, "li") as li:
        changed = await chen.patch(f"/api/admin/users/{user_id}", json={"disabled": True})
        assert changed.json()["disabled"] is True
        assert (await li.get("/api/auth/me")).status_code == 401
        answer = await li.post(LOGIN, json={"name": "li", "password": PASSWORD})
        assert code(answer) == (401, "login_failed")


async def test_there_is_always_an_administrator(chen: httpx.AsyncClient) -> None:
    me = (await chen.get("/api/auth/me")).json()["user_id"]
    for change in ({"disabled": True}, {"role": "user"}, {"role": "viewer", "disabled": True}):
        assert code(await chen.patch(f"/api/admin/users/{me}", json=change)) == (409, "last_admin")
    assert (await chen.get("/api/auth/me")).json()["role"] == "admin"


async def test_nobodys_password_is_reset_from_afar(chen: httpx.AsyncClient, box: Box) -> None:
    user_id = await asyncio.to_thread(make_user, box, "li", Role.USER)
    answer = await chen.post(f"/api/admin/users/{user_id}/password", json={"password": "another one 11"})
    assert code(answer) == (403, "local_only")


async def test_guessing_is_slowed_down(stranger: httpx.AsyncClient, box: Box) -> None:
    await asyncio.to_thread(make_user, box, "chen", Role.USER)
    guesses = [stranger.post(LOGIN, json={"name": "chen", "password": f"guess number {n}"}) for n in range(30)]
    answers = await asyncio.gather(*guesses)
    codes = [code(answer) for answer in answers]
    assert codes.count((401, "login_failed")) == 5
    assert codes.count((429, "login_throttled")) == 25
    answer = await stranger.post(LOGIN, json={"name": "chen", "password": PASSWORD})
    assert code(answer) == (429, "login_throttled")
    assert int(answer.headers["retry-after"]) >= 1
    # From elsewhere the same person comes in, and a key is not concerned.
    transport = Application(app=box.app, client=("192.0.2.7", 1234))
    async with httpx.AsyncClient(transport=transport, base_url=ORIGIN) as elsewhere:
        assert (await elsewhere.post(LOGIN, json={"name": "chen", "password": PASSWORD})).status_code == 200
    assert (await stranger.get("/v1/models", headers=box.authorization)).status_code == 200


async def test_the_first_administrator_needs_the_token(stranger: httpx.AsyncClient, box: Box) -> None:
    accounts: Accounts = box.accounts
    token = await asyncio.to_thread(accounts.ensure_setup_token)
    assert token is not None
    assert (await stranger.get("/api/auth/setup")).json() == {"needed": True}
    body = {"token": "AAAAA-AAAAA-AAAAA-AAAAA", "name": "root", "password": PASSWORD, "language": "zh"}
    assert code(await stranger.post("/api/auth/setup", json=body)) == (403, "setup_closed")
    weak = {**body, "token": token, "password": "password123"}
    assert code(await stranger.post("/api/auth/setup", json=weak)) == (400, "bad_password")
    done = await stranger.post("/api/auth/setup", json={**body, "token": token.lower().replace("-", " ")})
    assert (done.status_code, done.json()["role"], done.json()["language"]) == (200, "admin", "zh")
    assert (await stranger.get("/api/auth/me")).json()["name"] == "root"
    assert (await stranger.get("/api/auth/setup")).json() == {"needed": False}
    again = {**body, "token": token, "name": "second"}
    assert code(await stranger.post("/api/auth/setup", json=again)) == (403, "setup_closed")
    assert await asyncio.to_thread(accounts.ensure_setup_token) is None


async def test_bodies_of_strangers_stay_small(stranger: httpx.AsyncClient) -> None:
    answer = await stranger.post(LOGIN, json={"name": "x", "password": "y" * 300_000})
    assert code(answer) == (413, "request_too_large")
