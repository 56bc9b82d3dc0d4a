"""Every screen in its states, as an operator sees them, with a clock that stands still. After a change that is meant:
``pytest tests/tui/test_snapshots.py --snapshot-update``, and look at every picture that changed."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC
from typing import Any

import pytest

from appliance.schemas.telemetry import Telemetry
from tests.tui.boxes import DISK, HOST, LOST, FixedClient, StillClock, answers, card
from tests.tui.moments import NOON
from tui.app import ConsoleApp
from tui.look import Look
from tui.resource import Loading
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


SCREENS = ["models", "cards", "requests", "keys", "jobs", "plans", "users", "about", "chat", "logs", "settings"]


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


def test_without_colours(snap_compare: Compare, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    assert snap_compare(STATES["sixteen"](), terminal_size=(80, 24))
