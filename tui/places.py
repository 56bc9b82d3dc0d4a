"""The console's screens by name. Each is loaded when it is first shown: the dashboard is there the sooner for it."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from tui.screens.base import BoxScreen


@dataclass(frozen=True, slots=True)
class Place:
    """A screen: its ``name``, its module and class as ``where``, and the ``key`` of those that have a number."""

    name: str
    where: str
    key: str | None = None

    def screen(self) -> type[BoxScreen]:
        """Its class."""
        module, _, kind = self.where.partition(":")
        return cast("type[BoxScreen]", getattr(import_module(module), kind))

    def __call__(self) -> BoxScreen:
        """A new one, as Textual asks for it."""
        return self.screen()()


FRONT = (
    Place("dashboard", "tui.screens.dashboard:DashboardScreen", "1"),
    Place("models", "tui.screens.models:ModelsScreen", "2"),
    Place("cards", "tui.screens.cards:CardsScreen", "3"),
    Place("requests", "tui.screens.requests:RequestsScreen", "4"),
    Place("keys", "tui.screens.keys:KeysScreen", "5"),
    Place("issues", "tui.screens.issues:IssuesScreen", "6"),
    Place("jobs", "tui.screens.jobs:JobsScreen", "7"),
    Place("logs", "tui.screens.logs:LogsScreen", "8"),
)
MORE = (
    Place("chat", "tui.screens.chat:ChatScreen"),
    Place("network", "tui.screens.network:NetworkScreen"),
    Place("first_run", "tui.screens.first_run:FirstRunScreen"),
    Place("settings", "tui.screens.settings:SettingsScreen"),
    Place("plans", "tui.screens.plans:PlansScreen"),
    Place("users", "tui.screens.users:UsersScreen"),
    Place("backup", "tui.screens.backup:BackupScreen"),
    Place("about", "tui.screens.about:AboutScreen"),
)
RESCUE = Place("rescue", "tui.screens.rescue:RescueScreen", "0")
"""Only on the box itself, for when its daemon is down."""
ALL = {place.name: place for place in (*FRONT, *MORE, RESCUE)}
