"""The first minutes of a new box on the real daemon with the tiny R1: left in the middle, resumed, finished."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from textual.pilot import Pilot
from textual.widgets import Button, Input, Static

from tests.e2e.box import TINY_R1, Box, Home, start_box
from tests.fakes.network import FakeNetwork, HelperThread
from tui.app import ConsoleApp
from tui.client import BoxClient, Target
from tui.look import Look
from tui.resource import known
from tui.screens.first_run import FirstRunScreen
from tui.widgets.dialogs import ChoiceDialog, ConfirmDialog
from tui.widgets.forms import FormDialog


@pytest.fixture
def helper(tmp_path: Path) -> Iterator[FakeNetwork]:
    """A helper as root would run it, over a made-up machine."""
    with HelperThread(FakeNetwork(tmp_path / "machine")) as machine:
        yield machine


@pytest.fixture
def home(tmp_path: Path, helper: FakeNetwork) -> Home:
    """A new box without a model, with a stick in it."""
    home, stick = Home(tmp_path / "home"), tmp_path / "stick"
    stick.mkdir()
    shutil.copy(TINY_R1, stick / "tiny.gguf")
    home.environment["R1BOX_JOB_FOLDERS"] = str(stick)
    home.environment["R1BOX_SYSTEM_SOCKET"] = str(helper.root / "system.sock")
    return home


@pytest.fixture
def box(home: Home) -> Iterator[Box]:
    running = start_box(home, "--seats", "1", "--context", "2048", wait=False)
    yield running
    assert running.stop() == 0


@asynccontextmanager
async def console(home: Home) -> AsyncIterator[tuple[ConsoleApp, Pilot[None]]]:
    """The console as it starts on the box's own screen."""
    async with BoxClient(Target("http://r1box", socket=home.state_dir / "admin.sock")) as client:
        app = ConsoleApp(client, look=Look(plain=True, chinese=False), poll_s=0.2, leads=True)
        async with app.run_test(size=(100, 40)) as pilot:
            yield app, pilot


async def until(pilot: Pilot[None], what: Callable[[], Any]) -> None:
    async with asyncio.timeout(40):
        while not what():
            await pilot.pause(0.02)


def states(app: ConsoleApp) -> dict[str, str]:
    told = known(app.box.first_run.state())
    return {} if told is None else {one.name: one.state for one in told.steps}


async def at(app: ConsoleApp, pilot: Pilot[None], name: str) -> None:
    """The list, with the cursor on this step."""

    def there() -> bool:
        screen = app.screen
        if not isinstance(screen, FirstRunScreen) or not screen.query("#table"):
            return False
        return screen.chosen is not None and screen.chosen.name == name

    await until(pilot, lambda: there() and not app.screen.busy)  # type: ignore[attr-defined]


async def choose(app: ConsoleApp, pilot: Pilot[None], place: int) -> None:
    await until(pilot, lambda: isinstance(app.screen, ChoiceDialog))
    await pilot.press(*["down"] * place, "enter")


async def fill(app: ConsoleApp, pilot: Pilot[None], **values: str) -> None:
    await until(pilot, lambda: isinstance(app.screen, FormDialog))
    for name, value in values.items():
        app.screen.query_one(f"#field-{name}", Input).value = value
    button = app.screen.query_one("#ok", Button)
    button.focus()
    await until(pilot, lambda: button.has_focus and not button.has_class("-active"))
    await pilot.press("enter")


def text(app: ConsoleApp) -> str:
    return "\n".join(str(one.content) for one in app.screen.query(Static))


async def test_from_a_new_box_to_one_that_serves(home: Home, box: Box, helper: FakeNetwork) -> None:
    async with console(home) as (app, pilot):
        await at(app, pilot, "language")
        await pilot.press("enter")
        await choose(app, pilot, 0)
        await at(app, pilot, "keyboard")
        await pilot.press("enter")
        await choose(app, pilot, 3)
        await at(app, pilot, "network")
        assert (await asyncio.to_thread(helper.state))["calls"] == ["localectl set-keymap de-latin1"]
    # Left in the middle, and resumed where it was left.
    async with console(home) as (app, pilot):
        await at(app, pilot, "network")
        await pilot.press("enter")
        await choose(app, pilot, 0)
        await at(app, pilot, "time")
        await pilot.press("enter")
        await fill(app, pilot, zone="Asia/Shanghai")
        await at(app, pilot, "admin")
        await pilot.press("enter")
        await fill(app, pilot, name="anna", password="a long enough one", again="another one")
        assert "differ" in text(app)
        await fill(app, pilot, again="a long enough one")
        await at(app, pilot, "tls")
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, ConfirmDialog))
        await pilot.press("y")
        await at(app, pilot, "model")
        await pilot.press("enter")
        await choose(app, pilot, 0)
        # Imported, it is offered for loading.
        await until(pilot, lambda: app.screen.chosen.model is not None)  # type: ignore[attr-defined]
        await until(pilot, lambda: not app.screen.busy)  # type: ignore[attr-defined]
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, ConfirmDialog))
        await pilot.press("y")
        await until(pilot, lambda: states(app)["model"] == "done")
    async with console(home) as (app, pilot):
        await at(app, pilot, "self_test")
        await pilot.press("enter")
        await until(pilot, lambda: states(app).get("self_test") in ("done", "failed"))
        await until(pilot, lambda: "Where it computes" in text(app))
        assert "tok/s" in text(app)
        await until(pilot, lambda: not app.screen.busy)  # type: ignore[attr-defined]
        await pilot.press("f")
        await until(pilot, lambda: isinstance(app.screen, ConfirmDialog))
        await pilot.press("y")
        await until(pilot, lambda: app.current_mode == "dashboard")
    async with console(home) as (app, pilot):
        await until(pilot, lambda: states(app))
        await pilot.pause()
        assert app.current_mode == "dashboard"
    assert (await asyncio.to_thread(helper.state))["calls"][-1] == "timedatectl set-timezone Asia/Shanghai"
    async with httpx.AsyncClient(base_url=box.url) as people:
        login = await people.post("/api/auth/login", json={"name": "anna", "password": "a long enough one"})
        assert login.status_code == 200
        assert (await people.get("/api/auth/setup")).json() == {"needed": False}


async def test_the_pages_setup_works_on_the_same_list(home: Home, box: Box) -> None:
    token = (home.state_dir / "setup-token").read_text()
    async with httpx.AsyncClient(base_url=box.url) as people:
        body = {"token": token, "name": "anna", "password": "a long enough one"}
        assert (await people.post("/api/auth/setup", json=body)).status_code == 200
    async with console(home) as (app, pilot):
        await until(pilot, lambda: states(app))
        assert states(app)["admin"] == "done"
