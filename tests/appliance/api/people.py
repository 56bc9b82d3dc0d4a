"""People at the API: a client with a session, as a browser has it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx

from appliance.security.roles import Role
from tests.appliance.api.box import Box
from tests.appliance.api.transport import Application

PASSWORD = "three blind mice 7"
ORIGIN = "http://box"


def make_user(box: Box, name: str, role: Role) -> int:
    """A user with ``PASSWORD``; the id. Blocks."""
    return box.accounts.users.create(name, role, PASSWORD).id


@asynccontextmanager
async def log_in(box: Box, name: str, password: str = PASSWORD) -> AsyncIterator[httpx.AsyncClient]:
    """A browser of that person: cookie and CSRF token."""
    transport = Application(app=box.app)
    async with httpx.AsyncClient(transport=transport, base_url=ORIGIN, headers={"Origin": ORIGIN}) as browser:
        answer = await browser.post("/api/auth/login", json={"name": name, "password": password})
        assert answer.status_code == 200, answer.text
        browser.headers["X-R1Box-CSRF"] = answer.json()["csrf_token"]
        yield browser
