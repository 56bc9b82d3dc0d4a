"""Every screen in its states, as an operator sees them, with a clock that stands still. After a change that is meant:
``pytest tests/tui/test_snapshots.py --snapshot-update``, and look at every picture that changed."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC
from typing import Any

import pytest
from textual.widgets import Input

from appliance.schemas.telemetry import Telemetry
from tests.tui.boxes import DISK, HOST, LOST, FixedClient, StillClock, answers, card
from tests.tui.moments import NOON
from tui.app import ConsoleApp
from tui.client import Problem
from tui.look import Look
from tui.resource import Loading
from tui.screens.base import BoxScreen
from tui.widgets.dialogs import ConfirmDialog

SIZES = [(80, 24), (200, 60)]
PLAIN = Look(plain=True, blocks=True, chinese=False)
Compare = Callable[..., bool]


def console(client: FixedClient, look: Look = Look(), **options: Any) -> ConsoleApp:  # noqa: B008 - frozen
    """A console that asks once."""
    return ConsoleApp(client, look=look, clock=StillClock(), zone=UTC, poll_s=1e6, **options)


def sixteen() -> tuple[Any, ...]:
    cards = [card(index) for index in range(16)]
    cards[3] = card(3, state="lost", problem="the driver no longer lists it")
    cards[5] = card(5, health="alarm", throttle_reasons=("hw_thermal",), temperature_celsius=97.0)
    cards[7] = card(7, utilization_percent=None, power_watts=None, temperature_celsius=None, health="unknown")
    return tuple(cards)


def booting() -> dict[str, Any]:
    bodies = answers(ready=False, state="starting", load_fraction=0.42, offload=None)
    return {**bodies, "/api/admin/telemetry": Telemetry(enabled=True, time=NOON, started_at=NOON, host=HOST)}


STATES: dict[str, Callable[[], ConsoleApp]] = {
    "well": lambda: console(FixedClient(answers())),
    "sixteen": lambda: console(FixedClient(answers(devices=sixteen(), issues=(LOST, DISK), offload="DEGRADED"))),
    "starting": lambda: console(FixedClient(booting(), page_url=None)),
    "failed": lambda: console(
        FixedClient(answers(ready=False, state="failed", offload=None, restarts=3, error="The engine ended by itself."))
    ),
    "loading": lambda: console(FixedClient({}, silent=True)),
    "down": lambda: console(FixedClient({})),
    "plain": lambda: console(FixedClient(answers(issues=(LOST, DISK))), PLAIN),
    "light": lambda: console(FixedClient(answers(issues=(DISK,))), light=True),
    "chinese": lambda: console(FixedClient(answers(issues=(LOST,))), language="zh"),
}


@pytest.mark.parametrize("size", SIZES, ids=["80x24", "200x60"])
@pytest.mark.parametrize("state", STATES)
def test_dashboard(snap_compare: Compare, state: str, size: tuple[int, int]) -> None:
    assert snap_compare(STATES[state](), terminal_size=size)


async def stale(pilot: Any) -> None:
    """The daemon went away twelve seconds ago."""
    app = pilot.app
    await pilot.pause()
    app.box.client.bodies.clear()
    app.box.clock.at_s += 12
    for resource in (app.box.readiness, *app.screen.feeds()):
        await resource.ask()


@pytest.mark.parametrize("size", SIZES, ids=["80x24", "200x60"])
def test_stale_dashboard(snap_compare: Compare, size: tuple[int, int]) -> None:
    assert snap_compare(console(FixedClient(answers())), terminal_size=size, run_before=stale)


@pytest.mark.parametrize("size", SIZES, ids=["80x24", "200x60"])
@pytest.mark.parametrize("state", ["well", "sixteen", "down", "loading", "plain", "light", "chinese"])
def test_issues(snap_compare: Compare, state: str, size: tuple[int, int]) -> None:
    assert snap_compare(STATES[state](), terminal_size=size, press=["6"])


SCREENS = [
    "models",
    "cards",
    "requests",
    "keys",
    "jobs",
    "plans",
    "users",
    "about",
    "chat",
    "logs",
    "settings",
    "backup",
]


def going_to(screen: str, *, then: Callable[[Any], Any] | None = None) -> Callable[[Any], Any]:
    """Shows a screen."""

    async def go(pilot: Any) -> None:
        await pilot.pause()
        pilot.app.switch_mode(screen)
        await pilot.pause()
        await pilot.pause()
        while screen == "logs" and isinstance(pilot.app.box.logs.state(), Loading) and not pilot.app.box.client.silent:
            await pilot.pause(0.02)
        if then is not None:
            await then(pilot)

    return go


@pytest.mark.parametrize("size", SIZES, ids=["80x24", "200x60"])
@pytest.mark.parametrize("state", ["well", "down", "plain", "chinese"])
@pytest.mark.parametrize("screen", SCREENS)
def test_screens(snap_compare: Compare, screen: str, state: str, size: tuple[int, int]) -> None:
    assert snap_compare(STATES[state](), terminal_size=size, run_before=going_to(screen))


@pytest.mark.parametrize("screen", [one for one in SCREENS if one not in ("chat", "logs")])
def test_loading_and_stale_screens(snap_compare: Compare, screen: str) -> None:
    assert snap_compare(STATES["loading"](), terminal_size=(80, 24), run_before=going_to(screen))
    assert snap_compare(STATES["well"](), terminal_size=(80, 24), run_before=going_to(screen, then=stale))


@pytest.mark.parametrize("screen", ["chat", "logs"])
def test_what_follows_is_loading(snap_compare: Compare, screen: str) -> None:
    assert snap_compare(STATES["loading"](), terminal_size=(80, 24), run_before=going_to(screen))


async def broken_off(pilot: Any) -> None:
    """The log ended twelve seconds ago, and does not come back."""
    app = pilot.app
    app.box.clock.at_s += 12
    app.box.logs.fail(Problem("unreachable", detail="Connection refused"))
    await pilot.pause()


def test_a_log_that_broke_off(snap_compare: Compare) -> None:
    assert snap_compare(STATES["well"](), terminal_size=(80, 24), run_before=going_to("logs", then=broken_off))


def test_stale_issues(snap_compare: Compare) -> None:
    assert snap_compare(STATES["sixteen"](), terminal_size=(80, 24), run_before=going_to("issues", then=stale))


@pytest.mark.parametrize("screen", SCREENS)
def test_light_screens(snap_compare: Compare, screen: str) -> None:
    assert snap_compare(STATES["light"](), terminal_size=(80, 24), run_before=going_to(screen))


@pytest.mark.parametrize("screen", ["dashboard", "models", "cards", "issues"])
def test_light_screens_in_eight_colours(snap_compare: Compare, screen: str) -> None:
    app = console(FixedClient(answers(devices=sixteen(), issues=(LOST, DISK))), PLAIN, light=True)
    assert snap_compare(app, terminal_size=(80, 24), run_before=going_to(screen))


async def confirming(pilot: Any) -> None:
    """The first button of the first issue was pressed."""
    await pilot.press("6")
    await pilot.pause()
    await pilot.press("f")
    await pilot.pause()
    await pilot.press("enter")
    await pilot.pause()
    assert isinstance(pilot.app.screen, ConfirmDialog)


@pytest.mark.parametrize("key", ["question_mark", "c"], ids=["help", "code"])
@pytest.mark.parametrize("state", ["sixteen", "plain"])
def test_dialogs(snap_compare: Compare, state: str, key: str) -> None:
    assert snap_compare(STATES[state](), terminal_size=(80, 24), press=[key])


@pytest.mark.parametrize("state", ["sixteen", "plain"])
def test_confirmation(snap_compare: Compare, state: str) -> None:
    assert snap_compare(STATES[state](), terminal_size=(80, 24), run_before=confirming)


async def palette(pilot: Any) -> None:
    """The commands with "ca" in their names."""
    await pilot.press("ctrl+p")
    await pilot.press(*"ca")
    while not pilot.app.screen.query("CommandList").first().option_count:
        await pilot.pause(0.02)
    pilot.app.screen.query_one("CommandInput").cursor_blink = False
    await pilot.pause(0.3)


@pytest.mark.parametrize("state", ["well", "plain", "light"])
def test_palette(snap_compare: Compare, state: str) -> None:
    assert snap_compare(STATES[state](), terminal_size=(80, 24), run_before=palette)


OVER = {
    "new-key": ("keys", ("n",)),
    "revoke-key": ("keys", ("x",)),
    "new-person": ("users", ("n",)),
    "role": ("users", ("e",)),
    "password": ("users", ("w",)),
    "seats": ("plans", ("s",)),
    "why-not": ("plans", ("w",)),
    "pull": ("models", ("p",)),
    "another-form": ("models", ("w",)),
    "remove-model": ("models", ("delete",)),
    "sticks": ("models", ("i",)),
    "setting": ("settings", ("e",)),
    "topology": ("cards", ("p",)),
    "more": ("dashboard", ("9",)),
    "end-request": ("requests", ("x",)),
}
"""What lies over a screen: (screen, keys) each."""


def pressing(screen: str, keys: tuple[str, ...]) -> Callable[[Any], Any]:
    async def press(pilot: Any) -> None:
        for key in keys:
            await pilot.press(key)
            await pilot.pause()
        for one in pilot.app.screen.query(Input):
            one.cursor_blink = False
        await pilot.pause()
        assert not isinstance(pilot.app.screen, BoxScreen)

    return going_to(screen, then=press)


@pytest.mark.parametrize("state", ["well", "plain"])
@pytest.mark.parametrize("name", OVER)
def test_forms_and_questions(snap_compare: Compare, name: str, state: str) -> None:
    screen, keys = OVER[name]
    assert snap_compare(STATES[state](), terminal_size=(80, 24), run_before=pressing(screen, keys))


@pytest.mark.parametrize("name", ["new-key", "remove-model", "end-request"])
def test_light_forms(snap_compare: Compare, name: str) -> None:
    screen, keys = OVER[name]
    assert snap_compare(STATES["light"](), terminal_size=(80, 24), run_before=pressing(screen, keys))


def test_without_colours(snap_compare: Compare, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    assert snap_compare(STATES["sixteen"](), terminal_size=(80, 24))


MAIN = ["models", "cards", "requests", "keys", "issues", "jobs", "logs", "settings", "chat"]


@pytest.mark.parametrize("screen", MAIN)
def test_screens_without_colours(snap_compare: Compare, monkeypatch: pytest.MonkeyPatch, screen: str) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    assert snap_compare(STATES["sixteen"](), terminal_size=(80, 24), run_before=going_to(screen))


@pytest.mark.parametrize("name", ["new-key", "remove-model", "more", "end-request"])
def test_questions_without_colours(snap_compare: Compare, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    screen, keys = OVER[name]
    assert snap_compare(STATES["well"](), terminal_size=(80, 24), run_before=pressing(screen, keys))
