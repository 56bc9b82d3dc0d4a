"""The console in browsers on the real daemon: who gets one, with whose rights, how many, and how each ends."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from appliance.terminals import MOST_TERMINALS
from tests.e2e.box import Box, Home, start_box

PASSWORD = "a quiet long password"
URL = "/api/console/terminals"
WAIT_S = 60.0


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A box that serves consoles, with an administrator, an operator and a user."""
    made = Home(tmp_path_factory.mktemp("console"))
    made.environment["R1BOX_BROWSER_CONSOLE"] = "true"
    for name, role in (("ann", "admin"), ("otto", "operator"), ("ulla", "user")):
        made.run("users", "create", name, "--role", role, "--password-stdin", input_text=f"{PASSWORD}\n")
    return made


@pytest.fixture(scope="module")
def box(home: Home) -> Iterator[Box]:
    running = start_box(home, wait=False, key=home.create_key("tests"))
    yield running
    assert running.stop() == 0


@asynccontextmanager
async def person(box: Box, name: str) -> AsyncIterator[httpx.AsyncClient]:
    """Somebody's browser, logged in: cookie, and the CSRF token in each request."""
    async with httpx.AsyncClient(base_url=box.url, timeout=WAIT_S) as client:
        me = await client.post("/api/auth/login", json={"name": name, "password": PASSWORD})
        client.headers["X-R1Box-CSRF"] = me.json()["csrf_token"]
        yield client


class Window:
    """A console as a page sees it: its events, and what was shown so far."""

    def __init__(self, client: httpx.AsyncClient, response: httpx.Response) -> None:
        self._client = client
        self._lines = response.aiter_lines()
        self.shown = ""
        self.id = ""
        self.ended: str | None = None

    async def read(self) -> bool:
        """Take an event; false at the end of the stream."""
        async for line in self._lines:
            if line.startswith("data: "):
                fact: dict[str, Any] = json.loads(line.removeprefix("data: "))
                self.shown += fact.get("show", "")
                self.id = fact.get("id", self.id)
                self.ended = fact.get("ended", self.ended)
                return True
        return False

    async def until(self, words: str) -> None:
        """Read until these words were shown."""
        async with asyncio.timeout(WAIT_S):
            while words not in self.shown:
                assert await self.read(), (self.ended, self.shown[-500:])

    async def end(self) -> str | None:
        """Read to the end; why it ended."""
        async with asyncio.timeout(WAIT_S):
            while await self.read():
                pass
        return self.ended

    async def type(self, keys: str) -> None:
        answer = await self._client.post(f"{URL}/{self.id}/input", json={"keys": keys})
        assert answer.status_code == 204, answer.text


@asynccontextmanager
async def window(client: httpx.AsyncClient, columns: int = 100, rows: int = 30) -> AsyncIterator[Window]:
    async with client.stream("POST", URL, json={"columns": columns, "rows": rows}) as response:
        assert response.status_code == 200, await response.aread()
        made = Window(client, response)
        await made.read()
        yield made


def children(box: Box) -> list[psutil.Process]:
    """The consoles' processes."""
    found = psutil.Process(box.process.pid).children(recursive=True)
    return [one for one in found if "tui.__main__" in " ".join(one.cmdline())]


async def gone(processes: list[psutil.Process]) -> None:
    _, alive = await asyncio.to_thread(psutil.wait_procs, processes, WAIT_S)
    assert alive == []


async def test_an_operator_works_in_it_with_an_operators_rights(home: Home, box: Box) -> None:
    async with person(box, "otto") as otto, window(otto) as console:
        await console.until("Dashboard")
        await console.until("host")
        (process,) = children(box)
        environment = process.environ()
        assert not any(name.startswith("R1BOX_") for name in environment)
        # The session is in no argument and no variable, where others of the machine could read it.
        secret = otto.cookies["r1box_session"]
        assert secret not in str(environment)
        assert secret not in str(process.cmdline())
        # What changes something goes by the session too, with its CSRF token.
        await console.type("6r")
        await console.until("has looked")
        rows = [json.loads(line) for line in home.run("audit", "export").stdout.splitlines()]
        acts = [(row["action"], row["actor_kind"], row["actor_name"]) for row in rows if row["actor_name"] == "otto"]
        assert ("console.open", "user", "otto") in acts
        answer = await otto.post(f"{URL}/{console.id}/input", json={"columns": 120, "rows": 40, "focused": True})
        assert answer.status_code == 204
        await console.type("q")
        assert await console.end() == "left"
    await gone([process])


async def test_who_gets_none(box: Box) -> None:
    body = {"columns": 80, "rows": 24}
    key = {"Authorization": f"Bearer {box.key}"}
    async with httpx.AsyncClient(base_url=box.url, timeout=WAIT_S) as nobody:
        assert (await nobody.post(URL, json=body)).status_code == 401
        # A key may everything here, and is no person.
        refused = await nobody.post(URL, json=body, headers=key)
        assert (refused.status_code, refused.json()["error"]["code"]) == (403, "forbidden")
    async with person(box, "ulla") as ulla:
        assert (await ulla.post(URL, json=body)).status_code == 403
    async with person(box, "otto") as otto:
        stranger = await otto.post(URL, json=body, headers={"Origin": "https://elsewhere.example"})
        assert stranger.status_code == 403
        for columns, rows in ((39, 24), (80, 201), (10**9, 24)):
            assert (await otto.post(URL, json={"columns": columns, "rows": rows})).status_code == 400
        del otto.headers["X-R1Box-CSRF"]
        forged = await otto.post(URL, json=body)
        assert (forged.status_code, forged.json()["error"]["code"]) == (403, "csrf_rejected")
    assert children(box) == []


async def test_another_persons_console_is_not_there(box: Box) -> None:
    async with person(box, "otto") as otto, person(box, "ann") as ann, window(otto) as console:
        stolen = await ann.post(f"{URL}/{console.id}/input", json={"keys": "q"})
        assert (stolen.status_code, stolen.json()["error"]["code"]) == (404, "no_such_console")
        half = await otto.post(f"{URL}/{console.id}/input", json={"columns": 90})
        assert half.status_code == 400
        await console.until("Dashboard")


async def test_it_ends_with_the_session(box: Box) -> None:
    async with person(box, "otto") as otto, window(otto) as console:
        await console.until("Dashboard")
        running = children(box)
        assert (await otto.post("/api/auth/logout", json={})).status_code == 204
        assert await console.end() == "logged_out"
    await gone(running)


async def test_it_ends_with_the_page_and_there_are_so_many(box: Box) -> None:
    async with person(box, "ann") as ann:
        async with asyncio.timeout(WAIT_S):
            while children(box):  # of the test before
                await asyncio.sleep(0.02)
        opened = [window(ann) for _ in range(MOST_TERMINALS)]
        for one in opened:
            await one.__aenter__()
        full = await ann.post(URL, json={})
        assert (full.status_code, full.json()["error"]["code"]) == (429, "too_many_consoles")
        running = children(box)
        assert len(running) == MOST_TERMINALS
        for one in opened:
            await one.__aexit__(None, None, None)
        await gone(running)
        async with window(ann) as console:
            await console.until("Dashboard")


async def test_switching_it_off_ends_what_is_open(home: Home, tmp_path: Path) -> None:
    other = Home(tmp_path)
    other.run("users", "create", "ann", "--role", "admin", "--password-stdin", input_text=f"{PASSWORD}\n")
    box = await asyncio.to_thread(start_box, other, wait=False)
    try:
        async with person(box, "ann") as ann:
            off = await ann.post(URL, json={})
            assert (off.status_code, off.json()["error"]["code"]) == (404, "browser_console_off")
            settings = "/api/admin/settings"
            assert (await ann.patch(settings, json={"values": {"browser_console": True}})).status_code == 200
            async with window(ann) as console:
                await console.until("Dashboard")
                assert (await ann.patch(settings, json={"values": {"browser_console": None}})).status_code == 200
                assert await console.end() == "stopped"
            assert (await ann.patch(settings, json={"values": {"browser_console": True}})).status_code == 200
            async with window(ann) as console:
                await console.until("Dashboard")
                running = children(box)
                # A daemon that was killed leaves no console behind.
                box.process.kill()
                await gone(running)
                with pytest.raises(httpx.TransportError):
                    await console.end()
    finally:
        await asyncio.to_thread(box.stop)
