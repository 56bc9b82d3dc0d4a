"""The pictures of the walk in docs/console.md: ``make walk`` draws them anew from a made-up box."""

from __future__ import annotations

import asyncio
import sys
from datetime import UTC
from pathlib import Path

from tests.tui.boxes import DISK, LOST, FixedClient, StillClock, answers
from tui.app import ConsoleApp
from tui.look import Look
from tui.resource import Loading

FOLDER = Path(__file__).parents[2] / "docs" / "console"
STEPS = (
    ("dashboard", "1", ()),
    ("models", "2", ()),
    ("import", "2", ("i",)),
    ("plans", "2", ("n", "down", "down")),
    ("cards", "3", ()),
    ("requests", "4", ()),
    ("issues", "6", ()),
    ("jobs", "7", ()),
    ("logs", "8", ()),
    ("help", "1", ("question_mark",)),
)
"""(name of the picture, key of the screen, keys after it)."""


async def draw(folder: Path) -> None:
    """Write all pictures."""
    await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
    for name, screen, keys in STEPS:
        client = FixedClient(answers(issues=(LOST, DISK)))
        app = ConsoleApp(client, look=Look(), clock=StillClock(), zone=UTC, poll_s=1e6)
        async with app.run_test(size=(100, 30)) as pilot:
            await pilot.press(screen)
            await pilot.pause()
            while screen == "8" and isinstance(app.box.logs.state(), Loading):
                await pilot.pause(0.02)
            for key in keys:
                await pilot.press(key)
                await pilot.pause()
            await pilot.pause()
            picture = app.export_screenshot(title=f"R1 Box: {name}")
        await asyncio.to_thread((folder / f"{name}.svg").write_text, picture, encoding="utf-8")


if __name__ == "__main__":
    asyncio.run(draw(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER))
