"""Runs a plan, or only tells of it: chosen when it is made, so that nothing below asks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from installer.system.actions import Action


class Executor(Protocol):
    """Takes the actions in order."""

    def carry_out(self, actions: Sequence[Action]) -> None: ...


class Apply:
    """Makes the changes, telling of each before it. Raises what the first failing one raises; a later run goes on
    from there, since what is in place is not due again."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say

    def carry_out(self, actions: Sequence[Action]) -> None:
        for action in actions:
            self._say(f"  {action.describe()}")
            action.apply()


class DryRun:
    """Tells what would be done."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say

    def carry_out(self, actions: Sequence[Action]) -> None:
        for action in actions:
            self._say(f"  would {action.describe()}")
