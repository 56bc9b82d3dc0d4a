"""Who may call what: the table of docs/access.md, route by route and role by role."""

from __future__ import annotations

import asyncio
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from appliance.api.access import Access, Entry, check_rules
from appliance.api.routes import Routes
from appliance.security.keys import Grant
from appliance.security.roles import PERMISSIONS, Permission, Role
from tests.appliance.api.box import Box
from tests.appliance.api.people import log_in, make_user

PAGE = (Path(__file__).parents[3] / "docs" / "access.md").read_text(encoding="utf-8").splitlines()


def documented_roles() -> dict[Permission, frozenset[Role]]:
    """The table of roles: | `scope` | what | yes | ... |."""
    table = {}
    for line in PAGE:
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 6 and cells[0].strip("`") in [one.value for one in Permission]:
            marks = dict(zip(Role, cells[2:], strict=True))
            table[Permission(cells[0].strip("`"))] = frozenset(role for role, mark in marks.items() if mark == "yes")
    return table


def documented_routes() -> dict[tuple[str, str], str]:
    """The table of routes: | `METHOD /path` | `rule` |."""
    table = {}
    for line in PAGE:
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 2 and cells[0].startswith("`") and " /" in cells[0]:
            method, path = cells[0].strip("`").split(" ")
            assert (method, path) not in table, f"{method} {path} stands there twice"
            table[method, path] = cells[1].strip("`")
    return table


async def rules_of(client: httpx.AsyncClient) -> dict[tuple[str, str], str]:
    document = (await client.get("/openapi.json")).json()
    return {
        (method.upper(), path): operation["x-r1box-rule"]
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
    }


def test_the_table_of_roles_is_the_code() -> None:
    table = documented_roles()
    assert set(table) == set(Permission)
    assert {role: frozenset(p for p in table if role in table[p]) for role in Role} == PERMISSIONS


def test_each_role_may_all_that_the_one_below_it_may() -> None:
    ladder = [PERMISSIONS[role] for role in Role]
    assert all(lower < higher for lower, higher in pairwise(ladder))


async def test_the_table_of_routes_is_the_code(client: httpx.AsyncClient) -> None:
    assert documented_routes() == await rules_of(client)


def path_of(template: str) -> str:
    return re.sub(r"\{\w+\}", "9999", template)


def code_of(response: httpx.Response) -> str | None:
    """Of an error, in any protocol's envelope."""
    body = response.json() if response.headers.get("content-type") == "application/json" else {}
    error = body.get("error", {})
    code: str | None = (error if isinstance(error, dict) else body).get("code")
    return code


def is_let_in(response: httpx.Response) -> bool:
    """Past the guard: whatever the route then thinks of an empty body."""
    return response.status_code not in (401, 403) or code_of(response) == "local_only"


ENDLESS = frozenset({"/api/admin/logs/events"})
"""Streams without an end: with a query that they refuse, for the guard comes before it is looked at."""


async def ask(client: httpx.AsyncClient, method: str, path: str, **options: Any) -> httpx.Response:
    if path in ENDLESS:
        options["params"] = {"level": "none"}
    body = {"content": b"[]"} if method in ("POST", "PUT", "PATCH") else {}
    return await client.request(method, path_of(path), **body, **options)


async def test_every_route_for_every_scope(client: httpx.AsyncClient, stranger: httpx.AsyncClient, box: Box) -> None:
    keys = {
        scope: (await asyncio.to_thread(box.keys.create, scope.value, Grant(scopes=frozenset((scope,))))).secret
        for scope in Permission
    }
    wrong = []
    for (method, path), rule in (await rules_of(client)).items():
        without = await ask(stranger, method, path)
        if rule == Entry.PUBLIC:
            if without.status_code == 401 and without.json()["error"]["code"] == "invalid_api_key":
                wrong.append((method, path, "stranger"))
            continue
        if without.status_code != 401:
            wrong.append((method, path, "stranger"))
        for scope, secret in keys.items():
            answer = await ask(stranger, method, path, headers={"Authorization": f"Bearer {secret}"})
            if is_let_in(answer) != (rule in (scope, Entry.KNOWN)):
                wrong.append((method, path, scope))
            if not is_let_in(answer) and answer.status_code != 403:
                wrong.append((method, path, scope))
    assert wrong == []


@pytest.mark.parametrize("role", Role)
async def test_every_route_for_every_role(client: httpx.AsyncClient, box: Box, role: Role) -> None:
    await asyncio.to_thread(make_user, box, "someone", role)
    roles = documented_roles()
    wrong = []
    for (method, path), rule in (await rules_of(client)).items():
        if rule == Entry.PUBLIC or path == "/api/auth/logout":
            continue
        async with log_in(box, "someone") as browser:
            answer = await ask(browser, method, path)
            allowed = rule in (Entry.KNOWN, Entry.PERSON) or role in roles[Permission(rule)]
            # A wrong old password is 400 for [] as the body, long before it is looked at.
            if is_let_in(answer) != allowed or (not allowed and code_of(answer) != "forbidden"):
                wrong.append((method, path, answer.status_code))
    assert wrong == []


def test_a_route_without_a_rule_stops_the_start(box: Box) -> None:
    app, access = FastAPI(openapi_url=None, docs_url=None, redoc_url=None), Access(box.accounts)
    good = access.router(Permission.METRICS)
    good.get("/good")(lambda: None)
    good.mount(app)
    check_rules(app)
    twice = Routes()
    twice.include_router(good)
    outer = access.router(Entry.PUBLIC)
    outer.include_router(twice, prefix="/twice")
    outer.mount(app)
    with pytest.raises(AssertionError, match="GET /twice/good has 2 access rules"):
        check_rules(app)


def test_a_forgotten_rule_stops_the_start() -> None:
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    app.get("/open")(lambda: None)
    with pytest.raises(AssertionError, match="GET /open has 0 access rules"):
        check_rules(app)


async def test_a_key_may_no_more_than_its_owner(stranger: httpx.AsyncClient, box: Box) -> None:
    user_id = await asyncio.to_thread(make_user, box, "viewer", Role.VIEWER)
    grant = Grant(scopes=frozenset((Permission.INFERENCE, Permission.METRICS)), user_id=user_id)
    key = (await asyncio.to_thread(box.keys.create, "of-viewer", grant)).secret
    headers = {"Authorization": f"Bearer {key}"}
    assert (await stranger.get("/metrics", headers=headers)).status_code == 200
    assert (await stranger.get("/v1/models", headers=headers)).status_code == 403
    await asyncio.to_thread(box.accounts.users.change, user_id, role=Role.USER)
    assert (await stranger.get("/v1/models", headers=headers)).status_code == 200
    await asyncio.to_thread(box.accounts.users.change, user_id, disabled=True)
    assert (await stranger.get("/metrics", headers=headers)).status_code == 401


async def test_nobody_gives_away_more_than_they_have(stranger: httpx.AsyncClient, box: Box) -> None:
    scopes = frozenset((Permission.ACCOUNTS_WRITE, Permission.INFERENCE))
    key = (await asyncio.to_thread(box.keys.create, "hr", Grant(scopes=scopes))).secret
    headers = {"Authorization": f"Bearer {key}"}
    more = {"name": "more", "scopes": ["audit:read"]}
    answer = await stranger.post("/api/admin/keys", json=more, headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "too_much_granted")
    answer = await stranger.post("/api/admin/users", json={"name": "x", "role": "admin"}, headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "too_much_granted")
    same = await stranger.post("/api/admin/keys", json={"name": "same"}, headers=headers)
    assert same.status_code == 201


async def test_the_key_of_anthropics_clients(stranger: httpx.AsyncClient, box: Box) -> None:
    assert (await stranger.get("/v1/models", headers={"X-Api-Key": box.key})).status_code == 200
    assert (await stranger.get("/v1/models", headers={"X-Api-Key": "r1b_wrong"})).status_code == 401


@pytest.mark.parametrize("query", ["key={key}", "api_key={key}", "x={key}", "access_token=abc", "Key=abc", "api-key="])
@pytest.mark.parametrize("path", ["/v1/models", "/", "/healthz"])
async def test_a_key_in_the_address_is_refused(client: httpx.AsyncClient, box: Box, path: str, query: str) -> None:
    answer = await client.get(f"{path}?{query.format(key=box.key)}")
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "key_in_url")
