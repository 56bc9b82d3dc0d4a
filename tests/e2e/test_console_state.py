"""The console's Backup screen on the real daemon: every action, and the restarts that two of them end with."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot

from appliance.schemas.health import Readiness
from tests.e2e.box import Box, Home, start_box
from tests.e2e.test_backups import came_back, may, new_key
from tests.e2e.test_console_actions import console, filled, rows, text, typed, until
from tui.app import ConsoleApp
from tui.widgets.dialogs import ChoiceDialog
from tui.widgets.forms import Choice, FormDialog

SECRET = "correct horse battery staple"


@pytest.fixture
def house(tmp_path: Path) -> Home:
    home = Home(tmp_path)
    (tmp_path / "stick").mkdir()
    home.environment["R1BOX_JOB_FOLDERS"] = str(tmp_path / "stick")
    return home


@pytest.fixture
def box(house: Home) -> Iterator[Box]:
    running = start_box(house, wait=False)
    running.key = new_key(house, "old")
    yield running
    assert running.stop() == 0


def labels(app: ConsoleApp) -> list[Any]:
    return [(one.label, Path(one.path).parent.name) for one in rows(app)]


async def back(pilot: Pilot[None], box: Box, house: Home, times: int) -> None:
    """The daemon has come up again, and the console has noticed."""
    await until(pilot, lambda: sum("Listening on" in line for line in box.errors) >= times)
    came_back(box, house, times)
    app = pilot.app
    assert isinstance(app, ConsoleApp)

    async def answers() -> bool:
        return isinstance(await app.box.client.get("/readyz", Readiness, also=(503,)), Readiness)

    while not await answers():
        await pilot.pause(0.05)


async def test_a_box_is_backed_up_restored_and_reset(house: Home, box: Box, tmp_path: Path) -> None:
    async with console(house, "backup") as (app, pilot):
        await until(pilot, lambda: "no: no passphrase is set" in text(app))
        # With a passphrase for this once.
        await pilot.press("o")
        await until(pilot, lambda: isinstance(app.screen, ChoiceDialog))
        await pilot.press("enter")
        await filled(pilot, passphrase="short", again="short")
        assert "10 characters" in text(app)
        await filled(pilot, passphrase=SECRET, again=SECRET)
        await until(pilot, lambda: labels(app) == [("manual", "stick")])
        # With one that is set.
        await pilot.press("w")
        await filled(pilot, passphrase=SECRET, again=SECRET)
        await until(pilot, lambda: "a backup is made every night" in text(app))
        await until(pilot, lambda: "yes; the newest 14" in text(app))
        await pilot.press("n", "y")
        await until(pilot, lambda: labels(app) == [("manual", "backups"), ("manual", "stick")])
        later = new_key(house, "later")
        assert may(box, later)
        # Only with the word.
        await pilot.press("home", "e")
        await filled(pilot, word="yes")
        assert isinstance(app.screen, FormDialog)
        await filled(pilot, word="restore")
        await back(pilot, box, house, 2)
        assert (may(box, box.key), may(box, later)) == (True, False)
        await until(pilot, lambda: "Last restore" in text(app))
        # The stick's, whose passphrase this box does not know any more.
        await pilot.press("end", "delete")
        await until(pilot, lambda: "this screen removes the box's own" in text(app))
        await pilot.press("home", "delete")
        await typed(pilot, "delete")
        await until(pilot, lambda: labels(app) == [("manual", "stick")])
        await pilot.press("e")
        await filled(pilot, passphrase="not the one at all", word="restore")
        await until(
            pilot, lambda: "does not open" in text(app) or "does not open" in str(app.screen.table.border_subtitle)
        )
        await pilot.press("z")
        await until(pilot, lambda: isinstance(app.screen, FormDialog))
        app.screen.query_one("#field-backups", Choice).action_turn(1)
        await filled(pilot, word="factory-reset")
        await back(pilot, box, house, 3)
        assert not may(box, box.key)
        assert not (house.state_dir / "backups").exists()
        await until(pilot, lambda: "no: no passphrase is set" in text(app))
