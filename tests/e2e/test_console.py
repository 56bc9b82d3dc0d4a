"""The console on the real daemon with the tiny R1, by its admin socket and by its address."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from textual.pilot import Pilot
from textual.widgets import Static

from tests.e2e.box import Box, Home
from tui.app import ConsoleApp
from tui.client import BoxClient, Target
from tui.look import Look


@pytest.mark.parametrize("way", ["socket", "address"])
async def test_the_console_on_a_running_box(prepared: tuple[Home, str, str], box: Box, way: str) -> None:
    home, _, key = prepared
    target = Target(box.url, page_url=box.url)
    if way == "socket":
        target = Target("http://r1box", socket=home.state_dir / "admin.sock")
    async with BoxClient(target, key=key if way == "address" else None) as client:
        app = ConsoleApp(client, look=Look(plain=True), poll_s=0.2)

        def text() -> str:
            return "\n".join(str(one.content) for one in app.screen.query(Static))

        async with app.run_test(size=(80, 24)) as pilot:
            await until(pilot, lambda: "READY" in text() and "of 8" in text())
            await until(pilot, lambda: "host" in text() and "offload CPU" in text())
            assert "Tiny-R1" in text()
            messages = [{"role": "user", "content": "Hello!"}]
            assert box.post({"model": "tiny-r1-q8_0", "messages": messages}).status_code == 200
            # The daemon keeps the hour: the plot is there although this console has just been opened.
            await until(pilot, lambda: "top" in text() and "tok/s" in text())
            await pilot.press("6", "r")
            await until(pilot, lambda: "What is so" in str(app.screen.query_one("#detail").border_title))


async def until(pilot: Pilot[None], what: Callable[[], Any]) -> None:
    while not what():
        await pilot.pause(0.02)
