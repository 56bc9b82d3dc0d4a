"""The network's screen and the first minutes' list in their states, with a clock that stands still. After a change that
is meant: ``pytest tests/tui/test_new_box_snapshots.py --snapshot-update``, and look at every picture that changed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from appliance.schemas.first_run import FirstRun
from appliance.schemas.network import Network, Preview
from tests.tui import first_run_bodies as first
from tests.tui import network_bodies as net
from tests.tui.boxes import FixedClient, answers
from tests.tui.test_snapshots import PLAIN, SIZES, Compare, console, going_to, stale
from tui.app import ConsoleApp
from tui.look import Look
from tui.widgets.dialogs import ConfirmDialog
from tui.widgets.forms import FormDialog

NETWORKS: dict[str, Callable[[], Network]] = {
    "rest": net.network,
    "trial": net.on_trial,
    "helpless": net.helpless,
}
LISTS: dict[str, Callable[[], FirstRun]] = {
    "new": first.new,
    "middle": first.middle,
    "fetching": first.fetching,
    "tested": first.tested,
}
LOOKS: dict[str, dict[str, Any]] = {
    "colours": {},
    "plain": {"look": PLAIN},
    "chinese": {"language": "zh"},
}


def box(network: Network | None = None, listed: FirstRun | None = None, **options: Any) -> ConsoleApp:
    bodies = {
        **answers(),
        "/api/admin/network": network or net.network(),
        "/api/admin/first-run": listed or first.middle(),
        "/api/admin/box": first.identity(),
    }
    return console(FixedClient(bodies), options.pop("look", Look()), **options)


@pytest.mark.parametrize("size", SIZES, ids=["80x24", "200x60"])
@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("state", NETWORKS)
def test_network(snap_compare: Compare, state: str, look: str, size: tuple[int, int]) -> None:
    assert snap_compare(box(NETWORKS[state](), **LOOKS[look]), terminal_size=size, run_before=going_to("network"))


async def changing(pilot: Any) -> None:
    """The form of the card."""
    await pilot.press("e")
    assert isinstance(pilot.app.screen, FormDialog)


async def previewing(pilot: Any) -> None:
    """What would change, before it is tried."""
    told = net.on_trial().trial
    assert told is not None
    preview = Preview(change=told.change, lines=told.lines, warnings=("no_gateway", "no_dns"))
    from tui.screens.network import preview_words

    screen = pilot.app.screen
    screen.confirm(screen.drawing.words("network.try.ask", seconds=120), preview_words(screen.drawing, preview), print)
    await pilot.pause()
    assert isinstance(pilot.app.screen, ConfirmDialog)


@pytest.mark.parametrize("size", SIZES, ids=["80x24", "200x60"])
@pytest.mark.parametrize("then", [changing, previewing], ids=["form", "preview"])
def test_network_dialogs(snap_compare: Compare, then: Callable[[Any], Any], size: tuple[int, int]) -> None:
    assert snap_compare(box(), terminal_size=size, run_before=going_to("network", then=then))


@pytest.mark.parametrize("screen", ["network", "first_run"])
@pytest.mark.parametrize("state", ["loading", "down", "stale"])
def test_how_well_it_is_known(snap_compare: Compare, screen: str, state: str) -> None:
    app = box() if state == "stale" else console(FixedClient({}, silent=state == "loading"))
    run = going_to(screen, then=stale if state == "stale" else None)
    assert snap_compare(app, terminal_size=(80, 24), run_before=run)


def at_step(place: int) -> Callable[[Any], Any]:
    async def go(pilot: Any) -> None:
        pilot.app.screen.table.go(place)
        await pilot.pause()

    return go


@pytest.mark.parametrize("size", SIZES, ids=["80x24", "200x60"])
@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("place", range(len(first.NAMES)), ids=first.NAMES)
def test_every_step(snap_compare: Compare, place: int, language: str, size: tuple[int, int]) -> None:
    app = box(listed=first.middle(), language=language)
    assert snap_compare(app, terminal_size=size, run_before=going_to("first_run", then=at_step(place)))


@pytest.mark.parametrize("size", SIZES, ids=["80x24", "200x60"])
@pytest.mark.parametrize("state", [one for one in LISTS if one != "middle"])
def test_first_run(snap_compare: Compare, state: str, size: tuple[int, int]) -> None:
    assert snap_compare(box(listed=LISTS[state]()), terminal_size=size, run_before=going_to("first_run"))


def test_first_run_plain(snap_compare: Compare) -> None:
    assert snap_compare(box(look=PLAIN), terminal_size=(80, 24), run_before=going_to("first_run"))
