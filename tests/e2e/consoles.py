"""The console before a real daemon, driven as an operator drives it: what its tests share."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from textual.pilot import Pilot
from textual.widgets import Button, Input, Static

from tests.e2e.box import Home
from tui.app import ConsoleApp
from tui.client import BoxClient, Target
from tui.look import Look
from tui.screens.listed import ListScreen
from tui.widgets.dialogs import TypedDialog
from tui.widgets.forms import FormDialog


@asynccontextmanager
async def console(
    home: Home,
    screen: str = "dashboard",
    *,
    target: Target | None = None,
    key: str | None = None,
    answer_timeout_s: float = 5.0,
    size: tuple[int, int] = (120, 40),
) -> AsyncIterator[tuple[ConsoleApp, Pilot[None]]]:
    """The console on one of its screens: on the admin socket, or where ``target`` says."""
    where = target or Target("http://r1box", socket=home.state_dir / "admin.sock")
    async with BoxClient(where, key=key, answer_timeout_s=answer_timeout_s) as client:
        app = ConsoleApp(client, look=Look(plain=True), poll_s=0.2)
        async with app.run_test(size=size) as pilot:
            app.switch_mode(screen)
            await pilot.pause()
            yield app, pilot


async def until(pilot: Pilot[None], what: Callable[[], Any], timeout_s: float = 25) -> None:
    """Let the console go on until it is so. The bound is here because the test's own limit does not get through: its
    signal ends whatever task of the console is running."""
    async with asyncio.timeout(timeout_s):
        while not what():
            await pilot.pause(0.02)


def text(app: ConsoleApp) -> str:
    """What the texts of the screen say."""
    return "\n".join(str(one.content) for one in app.screen.query(Static))


def rows(app: ConsoleApp) -> list[Any]:
    """The rows of the screen's table."""
    screen = app.screen_stack[0]
    assert isinstance(screen, ListScreen)
    return list(screen.table.rows)


async def typed(pilot: Pilot[None], word: str) -> None:
    """Type a word into the dialog that asks for it."""
    await until(pilot, lambda: isinstance(pilot.app.screen, TypedDialog))
    pilot.app.screen.query_one("#typed", Input).value = word
    await pilot.press("enter")


async def filled(pilot: Pilot[None], **values: str) -> None:
    """Fill the lines of a form and give it."""
    await until(pilot, lambda: isinstance(pilot.app.screen, FormDialog))
    for name, value in values.items():
        pilot.app.screen.query_one(f"#field-{name}", Input).value = value
    # By keyboard: a line that says what is wrong moves the button away from under a pointer.
    button = pilot.app.screen.query_one("#ok", Button)
    button.focus()
    # A button that was pressed this moment (0.2 s) does not take another press.
    await until(pilot, lambda: button.has_focus and not button.has_class("-active"))
    await pilot.press("enter")
